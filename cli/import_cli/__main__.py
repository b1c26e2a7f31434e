"""`python -m import_cli`."""

from import_cli.main import main

main()
