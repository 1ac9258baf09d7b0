"""Run the machine agent: python -m dev.machines DIRECTORY URL."""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import suppress
from pathlib import Path

import httpx2

from dev.machines.agent import Agent
from dev.machines.apiserver import ApiServer


async def run(directory: Path, url: str) -> None:
    """Run until a TERM."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    certificates = directory / "certificates"
    api = ApiServer(
        url,
        authority=certificates / "ca.crt",
        certificate=certificates / "admin.crt",
        key=certificates / "admin.key",
    )
    # Probes trust any certificate, as a kubelet's do.
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(verify=False, limits=limits, trust_env=False) as client:
        try:
            await Agent(api, url, directory, client).run()
        finally:
            await api.close()


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m dev.machines")
    parser.add_argument("directory", type=Path)
    parser.add_argument("url")
    arguments = parser.parse_args()
    with suppress(asyncio.CancelledError):
        asyncio.run(run(arguments.directory, arguments.url))


if __name__ == "__main__":
    main()
