"""The kubelet's /containerLogs over HTTPS, so that `kubectl logs` works; metrics beside it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections import deque
from pathlib import Path
from typing import BinaryIO
from urllib.parse import parse_qs, urlsplit

from dev.machines import metrics
from dev.machines.metrics import Meter

_PATH = re.compile(r"/containerLogs/([a-z0-9.-]+)/([a-z0-9.-]+)/([a-z0-9.-]+)")
_FOLLOW_EVERY = 0.2
_CHUNK = 1 << 16


async def serve(listener: socket.socket, directory: Path, meter: Meter) -> None:
    """Answer the API server, which shows a certificate, for ever."""
    certificates = directory / "certificates"
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.crt")
    )
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates / "kubelet.crt", certificates / "kubelet.key")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            target = request.split(b" ", 2)[1].decode()
            if target.startswith(metrics.ROOT):
                _measure(target, meter, writer)
            else:
                await _answer(target, directory / "pods", writer)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, IndexError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(answer, sock=listener, ssl=context)
    try:
        # Not serve_forever: it would not end before the last follower of a log has left.
        await asyncio.Event().wait()
    finally:
        server.close()


async def _answer(target: str, pods: Path, writer: asyncio.StreamWriter) -> None:
    url = urlsplit(target)
    found = _PATH.fullmatch(url.path)
    options = {key: values[-1] for key, values in parse_qs(url.query).items()}
    if not found:
        _refuse(writer, "404 Not Found", "simulated machines give logs, no exec or port-forward")
        return
    suffix = ".previous.log" if options.get("previous") == "true" else ".log"
    log = pods / f"{found[1]}_{found[2]}" / f"{found[3]}{suffix}"
    if not log.exists():
        _refuse(writer, "400 Bad Request", f'container "{found[3]}" has written no such log')
        return
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    with log.open("rb") as file:
        if tail := options.get("tailLines"):
            writer.writelines(deque(file, maxlen=int(tail)))
        await _copy(file, writer)
        # The log's writer is gone once its pid file is: then there is nothing to follow.
        while options.get("follow") == "true" and log.with_suffix(".pid").exists():
            await asyncio.sleep(_FOLLOW_EVERY)
            await _copy(file, writer)


def _measure(target: str, meter: Meter, writer: asyncio.StreamWriter) -> None:
    url = urlsplit(target)
    found = meter.answer(url.path, parse_qs(url.query).get("labelSelector", [""])[0])
    if found is None:
        _refuse(writer, "404 Not Found", "no such pod runs here")
        return
    body = json.dumps(found).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


def _refuse(writer: asyncio.StreamWriter, status: str, message: str) -> None:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(message)}\r\nConnection: close\r\n\r\n"
    writer.write((head + message).encode())


async def _copy(file: BinaryIO, writer: asyncio.StreamWriter) -> None:
    while chunk := file.read(_CHUNK):
        writer.write(chunk)
        await writer.drain()
