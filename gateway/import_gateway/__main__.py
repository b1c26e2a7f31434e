"""`python -m import_gateway`."""

from import_gateway.main import main

if __name__ == "__main__":
    main()
