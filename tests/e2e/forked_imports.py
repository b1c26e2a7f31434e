"""`kubectl imports` without its start: a process that has imported the program once forks for each command.

The start takes most of a command's time, and the runbooks have many. `python forked_imports.py serve SOCKET` is the
server; `python forked_imports.py run SOCKET WORDS…` hands its words, environment, folder and open files to it, and
ends as the command does. tests/e2e/test_command_line.py runs the program as it is installed.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import NoReturn

FILES = (0, 1, 2)


def serve(path: str) -> NoReturn:
    """Fork for each command; ends with the process that started this one."""
    from import_cli.main import main

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(32)
        # Nobody waits for these children: the one who asked hears how they end.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    _run(connection, main)


def _run(connection: socket.socket, main: object) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    code = 70
    try:
        first, files, _, _ = socket.recv_fds(connection, 8, len(FILES))
        length = int.from_bytes(first)
        text = b""
        while len(text) < length:
            text += connection.recv(length - len(text))
        asked = json.loads(text)
        for given, file in zip(files, FILES, strict=True):
            os.dup2(given, file)
            os.close(given)
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["folder"])
        sys.argv = ["kubectl-imports", *asked["words"]]
        code = _code_of(main)
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        connection.sendall(bytes([code]))
        os._exit(code)


def _code_of(main: object) -> int:
    assert callable(main)
    try:
        main()
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0


def run(path: str, words: list[str]) -> int:
    """Have the server run a command; returns its exit code."""
    asked = {"words": words, "environment": dict(os.environ), "folder": os.getcwd()}  # noqa: PTH109 - starts fast
    text = json.dumps(asked).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [len(text).to_bytes(8)], FILES)
        connection.sendall(text)
        answer = connection.recv(1)
    return answer[0] if answer else 71


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(run(sys.argv[2], sys.argv[3:]))
