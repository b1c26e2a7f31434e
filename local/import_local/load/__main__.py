"""`python -m import_local.load`: the load test, which `make load-test` runs."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

from import_local.errors import LocalError
from import_local.folders import ensure_folder
from import_local.load.mix import plan_imports
from import_local.load.report import PAGE, write_load_report
from import_local.load.running import (
    MINIMUM_WORKERS,
    LoadOptions,
    LoadRun,
    describe_machine,
    run_load_test,
    say,
)

DEFAULT_FOLDER = Path(".local/load-test")
TIMELINE = "timeline.jsonl"


def main() -> int:
    """Run the test; 1 when imports failed or did not end. The time target is reported: a machine is no fleet."""
    chosen = _parse()
    options = LoadOptions(
        jobs=chosen.jobs, workers=chosen.workers, minutes=chosen.minutes, error_share=chosen.errors
    )
    run = LoadRun(options, plan_imports(options.jobs), describe_machine())
    folder: Path = chosen.report
    folder.mkdir(parents=True, exist_ok=True)
    timeline = ensure_folder(DEFAULT_FOLDER) / TIMELINE
    timeline.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="import-operator-load-") as state:
        # PostgreSQL runs as another user where this runs as root, and must get through.
        Path(state).chmod(0o711)
        asyncio.run(run_load_test(Path(state) / "state", timeline, run))
    say("writing the report, and simulating 50 workers")
    verdict = write_load_report(folder, run)
    for finding in verdict.findings():
        say(finding)
    say(f"{folder / PAGE}; every sample: {timeline}")
    return 0 if verdict.succeeded >= 0.99 * verdict.jobs else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m import_local.load", description=__doc__)
    environment, usual = os.environ.get, LoadOptions()
    parser.add_argument("--jobs", type=int, default=int(environment("LOAD_JOBS") or usual.jobs))
    parser.add_argument("--workers", type=int, default=int(environment("LOAD_WORKERS") or usual.workers))
    parser.add_argument("--minutes", type=float, default=float(environment("LOAD_MINUTES") or usual.minutes))
    parser.add_argument(
        "--errors", type=float, default=float(environment("LOAD_ERRORS") or usual.error_share)
    )
    parser.add_argument(
        "--report", type=Path, default=Path(environment("LOAD_REPORT") or DEFAULT_FOLDER), help="a folder"
    )
    chosen = parser.parse_args()
    if chosen.jobs < 1 or chosen.workers < MINIMUM_WORKERS or not 0 <= chosen.errors < 1:
        parser.error(f"at least 1 import and {MINIMUM_WORKERS} workers, and a share of errors below 1")
    return chosen


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LocalError as error:
        sys.exit(str(error))
