"""`python -m bench.tls_echo PORT PAIR`: a bare Starlette application with TLS, which answers what it gets."""

from __future__ import annotations

import sys

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def echo(request: Request) -> Response:
    body = await request.json()
    return JSONResponse({"uid": body["request"]["uid"], "allowed": True})


def main() -> None:
    """Serve until stopped."""
    port, pair = int(sys.argv[1]), sys.argv[2]
    app = Starlette(routes=[Route("/", echo, methods=["POST"])])
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        ssl_certfile=pair,
    )
    uvloop.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
