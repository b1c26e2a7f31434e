"""The admission webhook: whether there is room for a new ImportJob."""
