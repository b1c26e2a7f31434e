"""`make bench-check`: whether the pure parts take more CPU time than at another commit.

The other commit's packages are put into a temporary folder. The same calls are timed in processes of their own, one of
each side in turns; what looks slower is measured once more, twice as often, before it is told. Exit code 0: nothing is
slower; 1: something is; 2: the comparison could not be made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.comparing import THRESHOLD, Comparison, Judgement, choose_base, judge, suspects
from bench.table import print_table

PROJECT = Path(__file__).resolve().parents[1]
PAIRS = 7
PACKAGES = ("core", "operator", "worker")
LONGEST_SECONDS = 300.0
MAIN = "origin/main"


class CheckError(Exception):
    """The comparison can't be made."""


def git(*words: str) -> str:
    """Run git in the project."""
    done = subprocess.run(("git", *words), cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CheckError(f"git {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


def base_revision(asked: str) -> str:
    """The commit to compare with, by its id."""
    head = git("rev-parse", "HEAD")
    try:
        main: str | None = git("merge-base", "HEAD", MAIN)
    except CheckError:
        main = None
    changed = bool(git("status", "--porcelain", "--untracked-files=no"))
    return git(
        "rev-parse", "--verify", f"{choose_base(asked, head=head, main=main, changed=changed)}^{{commit}}"
    )


@contextmanager
def tree_of(revision: str) -> Iterator[Path]:
    """The packages of a commit in a temporary folder. No work tree of git's: it would outlive a run that is killed."""
    with tempfile.TemporaryDirectory(prefix="import-operator-base-") as folder:
        archive = Path(folder) / "base.tar"
        git("archive", "--format=tar", f"--output={archive}", revision, *PACKAGES)
        tree = Path(folder) / "base"
        with tarfile.open(archive) as files:
            files.extractall(tree, filter="data")
        yield tree


def measure(tree: Path, names: Sequence[str]) -> dict[str, float | None]:
    """CPU seconds of the parts, with the packages of a tree. The calls are always those of this one."""
    paths = os.pathsep.join(str(tree / package) for package in PACKAGES)
    done = subprocess.run(
        (sys.executable, "-m", "bench.pure", *names),
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    if done.returncode:
        raise CheckError(done.stderr.strip())
    answer = json.loads(done.stdout)
    if not Path(answer["from"]).is_relative_to(tree):
        raise CheckError(f"measured {answer['from']} in place of {tree}")
    found: dict[str, float | None] = answer["seconds"]
    return found


def compare(base: Path, names: Sequence[str], *, pairs: int) -> list[Comparison]:
    """Both sides in turns; which is first changes, so that neither has the warmer machine."""
    runs: dict[Path, list[dict[str, float | None]]] = {base: [], PROJECT: []}
    for number in range(pairs):
        for tree in (base, PROJECT) if number % 2 == 0 else (PROJECT, base):
            runs[tree].append(measure(tree, names))
    return [
        Comparison(name, _seconds(runs[base], name), _seconds(runs[PROJECT], name))
        for name in runs[PROJECT][0]
    ]


def _seconds(runs: Sequence[dict[str, float | None]], name: str) -> list[float]:
    """Of each run; none where the part could not be called."""
    return [seconds for run in runs if (seconds := run[name]) is not None]


def report(comparisons: Sequence[Comparison], threshold: float) -> None:
    """The table."""
    print_table(
        ("part", "base, ms of CPU", "now, ms of CPU", "ratio of pairs", "ratio of the least", ""),
        [
            (
                each.name,
                *(f"{min(side) * 1000:.3g}" if side else "–" for side in (each.base, each.ours)),
                *(
                    (f"{each.of_pairs:.2f}", f"{each.of_least:.2f}")
                    if each.base and each.ours
                    else ("–", "–")
                ),
                judge(each, threshold=threshold).value,
            )
            for each in comparisons
        ],
    )


def main() -> int:
    """Compare, print, and tell by the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument(
        "base", nargs="?", default="", help=f"a revision; by default where the branch left {MAIN}"
    )
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="0.1 is 10 %% more CPU time")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="runs of each side")
    options = parser.parse_args()
    try:
        revision = base_revision(options.base)
        print(
            f"CPU time of the pure parts, beside {git('log', '-1', '--format=%h %s', revision)}", flush=True
        )
        with tree_of(revision) as base:
            comparisons = compare(base, (), pairs=options.pairs)
            report(comparisons, options.threshold)
            again = suspects(comparisons, threshold=options.threshold)
            if not again:
                return 0
            print(f"\nOnce more, as it may be the machine: {', '.join(again)}\n", flush=True)
            comparisons = compare(base, again, pairs=2 * options.pairs)
            report(comparisons, options.threshold)
    except (CheckError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 2
    slower = [
        each.name for each in comparisons if judge(each, threshold=options.threshold) is Judgement.SLOWER
    ]
    if slower:
        print(f"\nSlower by more than {options.threshold:.0%}: {', '.join(slower)}")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
