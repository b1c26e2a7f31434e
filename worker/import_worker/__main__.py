"""`python -m import_worker`."""

from import_worker.main import main

main()
