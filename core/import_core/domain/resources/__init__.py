"""The custom resources of `imports.avnz.io/v1alpha1`: pydantic models, the one source of crds/ and the docs."""
