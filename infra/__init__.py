"""The infrastructure program's components, one file each; `__main__.py` joins them."""
