"""What a stack costs in a month, by its configuration and infra/prices.yaml. It asks nobody and changes nothing."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from infra.configuration import ConfigurationError
from infra.cost.from_configuration import read_sizing
from infra.cost.picture import cost_picture
from infra.cost.prices import read_prices
from infra.cost.report import LINE_HEADER, as_json, as_text, line_rows, make_report, text_table
from infra.cost.units import CostError
from infra.cost.workload import Workload

ROOT = Path(__file__).parents[2]
EXAMPLES = """examples:
  make cost                                   the production stack
  make cost STACK=dev                         another one
  make cost COST='--region us-east-1'         with the prices of another region
  make cost COST='--jobs 500000 --lines'      so many jobs a month, and each line of the bill
  make cost COST='--worker-seconds-per-job 9' what you have measured yourself
  make cost COST='-o json'                    for programs

exit codes: 0 done; 1 no estimate, the message says what to change; 2 wrong use
"""
_WORKLOAD = {
    "jobs": "jobs a month in the average month",
    "products_per_job": "products of a job",
    "images_per_product": "images of a product",
    "changed_share": "share of the images that are new or changed, 0 to 1",
    "image_bytes": "bytes of an image",
    "waiting_seconds": "seconds that a job waits for its provider",
    "utilisation": "share of its time in which a worker has its full number of jobs, 0 to 1",
    "worker_seconds_per_job": "seconds of a whole worker for a job, instead of what follows from the above",
    "stored_gigabytes": "gigabytes in the bucket at the start of the month",
}


def main(arguments: list[str] | None = None) -> int:
    """Print the estimate; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        sizing = read_sizing(options.stack, options.folder, region=options.region)
        given = {name: getattr(options, name) for name in _WORKLOAD if getattr(options, name) is not None}
        report = make_report(sizing, Workload(**given), read_prices(sizing.region))
    except (CostError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.output == "json":
        print(json.dumps(as_json(report), indent=2))
    elif options.output == "picture":
        print(cost_picture(report), end="")
    else:
        print(as_text(report))
        if options.lines:
            print("\n" + text_table(LINE_HEADER, line_rows(report.average)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m infra.cost",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stack", default="production", help="Pulumi.<stack>.yaml (%(default)s)")
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the stack's file is (this project)")
    parser.add_argument("--region", help="prices of this region instead of the stack's own")
    parser.add_argument("--lines", action="store_true", help="also each line of the average month")
    parser.add_argument(
        "-o", "--output", choices=("text", "json", "picture"), default="text", help="form (%(default)s)"
    )
    defaults = {field.name: field.default for field in fields(Workload)}
    for name, text in _WORKLOAD.items():
        default = "" if defaults[name] is None else f" ({defaults[name]:,})"
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, metavar="NUMBER", help=text + default)
    return parser


if __name__ == "__main__":
    sys.exit(main())
