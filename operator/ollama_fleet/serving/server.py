"""Serving an ASGI application until SIGTERM or SIGINT."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

GOODBYE = 5
"""Seconds that answers under way are given at the end."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections from now on; OSError where it cannot."""
    return socket.create_server((host, port), backlog=1024)


async def serve(
    app: Starlette,
    listening: socket.socket,
    connections: int,
    protocol: type[H11Protocol] = H11Protocol,
) -> None:
    """Answer what comes over a socket, of so many clients at once."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=connections,
        timeout_graceful_shutdown=GOODBYE,
    )
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.handle_exit, number, None)
    await server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would end the process by the one it got."""
        yield
