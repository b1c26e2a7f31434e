"""Entry point of `python -m import_local.kubelet`."""

import sys

from import_local.kubelet.main import main

if __name__ == "__main__":
    sys.exit(main())
