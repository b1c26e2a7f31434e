"""Stands for PagerDuty, Slack and the dead man's switch: takes what Alertmanager sends and keeps it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]


@dataclass
class AlertReceiver:
    """Bodies by the path that they were sent to, in the order of their coming."""

    port: int
    received: dict[str, list[Json]] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def take(self, path: str, body: Json) -> None:
        self.received.setdefault(path, []).append(body)
        self._news.set()

    async def first(self, path: str, matches: Callable[[Json], bool], *, seconds: float = 60) -> Json:
        """The first body at `path` that matches, also one that has come already."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    self._news.clear()
                    for body in self.received.get(path, []):
                        if matches(body):
                            return body
                    await self._news.wait()
        except TimeoutError:
            latest = self.received.get(path, [])[-5:]
            raise AssertionError(
                f"nothing that matches came to {path}; the last that came: {latest}"
            ) from None


@asynccontextmanager
async def alert_receiver() -> AsyncIterator[AlertReceiver]:
    """Run a receiver on a free loopback port; each POST is answered as PagerDuty or Slack does."""
    loop = asyncio.get_running_loop()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            loop.call_soon_threadsafe(receiver.take, self.path, body)
            # Slack says only this; Alertmanager takes any other answer of Slack's for a failure, and tells again.
            answer = b"ok"
            if self.path.startswith("/v2/"):
                answer = json.dumps({"status": "success", "message": "Event processed"}).encode()
            self.send_response(202 if self.path.startswith("/v2/") else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Keep the tests' output to what they say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = AlertReceiver(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
