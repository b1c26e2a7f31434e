"""The worker: takes jobs and copies catalogues, one page at a time."""
