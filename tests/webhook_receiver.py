"""A server that webhooks are sent to: it verifies signatures with the reference library, and misbehaves when asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered: nothing at all where `hangs`."""

    status: int = 204
    headers: tuple[str, ...] = ()
    body: bytes = b""
    hangs: bool = False


@dataclass(slots=True)
class Receiver:
    """What was received, by path; `replies` says what a path answers to a message."""

    port: int = 0
    secret: str = SECRET
    received: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Path, webhook-id and body of verified messages."""
    refused: list[str] = field(default_factory=list)
    """Messages that could not be verified."""
    replies: dict[str, Callable[[dict[str, Any]], Reply]] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    most_at_once: int = 0
    _at_once: int = 0

    def url(self, path: str) -> str:
        """Where a path is."""
        return f"http://127.0.0.1:{self.port}{path}"

    def told(self, path: str) -> list[tuple[str, str]]:
        """Job and event of what a path was told, in order."""
        return [(body["data"]["id"], body["type"]) for where, _, body in self.received if where == path]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what has arrived makes the condition true."""
        async with asyncio.timeout(60):
            while not condition():
                self.arrived.clear()
                await self.arrived.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            request, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            path = request.split()[1]
            try:
                message = Webhook(self.secret).verify(body, headers)
            except WebhookVerificationError as error:
                self.refused.append(repr(error))
                message = json.loads(body)
            else:
                self.received.append((path, headers["webhook-id"], message))
            reply = self.replies.get(path, lambda _: Reply())(message)
            self.arrived.set()
            if reply.hangs:
                await asyncio.Event().wait()
            fields = "".join(f"{line}\r\n" for line in reply.headers)
            writer.write(
                f"HTTP/1.1 {reply.status} x\r\n{fields}content-length: {len(reply.body)}\r\n\r\n".encode()
                + reply.body
            )
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            self._at_once -= 1
            writer.close()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a port of its own."""
    receiver, tasks = Receiver(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await receiver.serve(reader, writer)
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
