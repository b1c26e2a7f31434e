"""Steps after the import: each file is one kind of step."""
