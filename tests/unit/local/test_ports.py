"""A port that one process was given goes to no other while that process lives."""

import subprocess
import sys

import pytest

from import_local import ports
from import_local.errors import LocalError

_HOLDER = """
import sys
from import_local import ports
print(ports.free_port(), flush=True)
sys.stdin.read()
"""


def test_a_port_chosen_elsewhere_is_not_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ports.free_port()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        other = int(holder.stdout.readline())
        assert other != own
        monkeypatch.setattr(ports, "_FIRST", other)
        monkeypatch.setattr(ports, "_LAST", other)
        assert ports.is_free(other), "nothing listens there yet"
        with pytest.raises(LocalError, match="no free TCP port"):
            ports.free_port()
        assert ports.free_port(preferred=own) == own
        holder.communicate()


def test_one_that_was_given_is_not_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ports.free_port()
    monkeypatch.setattr(ports, "_FIRST", own)
    monkeypatch.setattr(ports, "_LAST", own)
    with pytest.raises(LocalError, match="no free TCP port"):
        ports.free_port()
    assert ports.free_port(preferred=own) == own
