"""What the peers' runner scripts share: the figures of a run, as one JSON object. Standard library alone."""

import json
import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAYLOAD = "x" * 1024


def family(pid: int) -> list[int]:
    """A process and those that it has started (Linux)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its children so far."""
    total = 0
    for one in family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process and its children have had, added up."""
    total = 0.0
    for one in family(pid):
        for line in Path(f"/proc/{one}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) / 1024
    return total


class Clock:
    """Begins when it is made; `show` prints what a process and its children took since."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._began = time.perf_counter(), cpu_seconds(pid)

    def show(self) -> None:
        """Print the figures."""
        seconds = time.perf_counter() - self._began[0]
        cpu = cpu_seconds(self._pid) - self._began[1]
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak_mib(self._pid)}))
