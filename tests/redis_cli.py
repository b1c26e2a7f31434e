"""Stands for redis-cli in tests: sends one command to a real server and prints the answer, one value a line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from redis import Redis


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-u", dest="url", required=True)
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--count", type=int)
    parser.add_argument("--pattern", default="*")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args(arguments)
    # Payloads are binary (packed arguments in the slow log): shown escaped, as redis-cli does.
    with Redis.from_url(
        options.url, decode_responses=True, encoding_errors="backslashreplace", socket_timeout=10
    ) as client:
        if options.scan:
            answer: object = list(client.scan_iter(match=options.pattern, count=options.count))
        else:
            # As the server answers it; the client makes dictionaries of some.
            client.response_callbacks.clear()
            answer = client.execute_command(*options.command)
    sys.stdout.writelines(f"{value}\n" for value in _values(answer))
    return 0


def _values(answer: object) -> Iterator[object]:
    if isinstance(answer, list):
        for each in answer:
            yield from _values(each)
    else:
        yield answer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
