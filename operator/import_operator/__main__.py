"""`python -m import_operator`: runs the operator; `python -m import_operator migrate`: prepares the database."""

from import_operator.command import main

if __name__ == "__main__":
    main()
