"""Run the emulator: `python -m dev.ollama.emulator`, or this file from any directory."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # As a script, Python puts this directory first, whose modules are not to be found there.
    _root = Path(__file__).resolve().parents[3]
    sys.path[0:1] = [str(_root), str(_root / "operator")]

import uvloop

from dev.ollama.emulator.app import Emulator
from dev.ollama.emulator.server import listen
from dev.ollama.emulator.settings import Settings, from_environment


async def serve(settings: Settings, preinstalled: list[str], faults: list[dict[str, Any]]) -> None:
    """Serve until SIGTERM or SIGINT, which cut what is in flight, as Ollama does."""
    emulator = Emulator(settings)
    if not os.environ.get("OLLAMA_NOPRUNE"):
        emulator.store.prune_at_start()
    for name in preinstalled:
        emulator.store.install(name)
    for fault in faults:
        emulator.faults.add(fault)
    server, connections = await listen(emulator.handle, settings.host, settings.port)
    host, port = server.sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    _log(f"Listening on {shown}:{port} (version {settings.version})")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    server.close()
    for connection in list(connections):
        connection.transport.abort()


def _log(message: str) -> None:
    stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(f'time={stamp} level=INFO msg="{message}"', file=sys.stderr, flush=True)


def main() -> int:
    """Start from the environment."""
    try:
        settings = from_environment(os.environ)
        preinstalled = [name for name in os.environ.get("EMULATOR_MODELS", "").split(",") if name]
        faults = json.loads(os.environ.get("EMULATOR_FAULTS") or "[]")
        uvloop.run(serve(settings, preinstalled, faults))
    except (ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
