"""How long the program's imports take: `python -m infra.import_time` prints it, and which services it loaded.

The SDK loads a service when one of its classes is first used. A component that uses one while it is imported (as a
default, or in an annotation that is evaluated) would load it for every run.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import time

import infra


def main() -> None:
    """Import every module of the program, as `__main__.py` does."""
    before = time.perf_counter()
    for module in pkgutil.walk_packages(infra.__path__, "infra."):
        importlib.import_module(module.name)
    seconds = time.perf_counter() - before
    sys.stdout.write(f"imports: {seconds:.2f} s\nservices loaded: {', '.join(loaded_services()) or 'none'}\n")


def loaded_services() -> list[str]:
    """Services of pulumi_aws of which a resource's module has been loaded."""
    names = (name.split(".") for name in list(sys.modules) if name.startswith("pulumi_aws."))
    return sorted({parts[1] for parts in names if len(parts) > 2})


if __name__ == "__main__":
    main()
