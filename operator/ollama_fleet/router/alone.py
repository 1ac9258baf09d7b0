"""The router without Kubernetes: its settings are a file, and follow it as it changes."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ollama_fleet.router.config import ConfigError
from ollama_fleet.router.server import Router
from ollama_fleet.router.settings import Settings
from ollama_fleet.router.snapshot import Snapshot

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
_SETTLE_SECONDS = 10.0

Stamp = tuple[int, int, int]
"""Device, file and moment of the last change: another one where an editor put a new file there."""


class Following:
    """Has a router go by a file. `read` gives what it says, or raises `ConfigError`."""

    def __init__(
        self,
        router: Router,
        path: Path,
        read: Callable[[Path], Settings],
        poll: float = POLL_SECONDS,
    ) -> None:
        self._router = router
        self._path = path
        self._read = read
        self._poll = poll
        self._asked = asyncio.Event()
        self._taken = self._seen = stamp_of(path)

    def reload(self) -> None:
        """Read the file now, changed or not; for a signal."""
        self._asked.set()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._asked.wait()
            self.look(at_once=self._asked.is_set())
            self._asked.clear()

    def look(self, *, at_once: bool = False) -> None:
        """Take over a file that changed since, once it was the same twice: it is written by then.

        One that is gone for now changes nothing.
        """
        last, self._seen = self._seen, stamp_of(self._path)
        changed = self._seen not in (None, self._taken)
        if at_once or (changed and self._seen == last):
            self._taken = self._seen
            self._take()

    def _take(self) -> None:
        try:
            settings = self._read(self._path)
        except ConfigError as error:
            log.error("%s; the last good settings stay", error)
            return
        if settings == self._router.settings:
            log.info("%s: nothing new", self._path)
            return
        self._router.configure(settings)
        self._router.fleet.want(settings.backends)
        log.info("%s is in effect: %s", self._path, _servers(settings))


def stamp_of(path: Path) -> Stamp | None:
    """What changes when the file does; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def checked(path: Path, settings: Settings) -> str:
    """What a check says of settings that can be used."""
    return f"{path}: good, {_servers(settings)}"


def _servers(settings: Settings) -> str:
    count = len(settings.backends)
    return "1 server" if count == 1 else f"{count} servers"


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """Where a person on this machine reaches what listens there."""
    scheme = "https" if tls else "http"
    if host in ("", "0.0.0.0", "::"):  # noqa: S104
        host = "localhost"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


async def say_who_answers(router: Router, url: str) -> None:
    """Once every server has been asked, tell whoever started the router in a line."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_SECONDS):
            while not router.prober.settled:  # noqa: ASYNC110 - a few times, once
                await asyncio.sleep(0.05)
    log.info("%s", who_answers(router.fleet.snapshot, url))


def who_answers(snapshot: Snapshot, url: str) -> str:
    """How many servers do, and which do not."""
    ready = snapshot.ready
    models = {name for one in ready for name in one.offered}
    silent = [one.endpoint.url for one in snapshot.servers if one not in ready]
    told = f"{url} leads to {len(ready)} of {len(snapshot.servers)} servers, {len(models)} models"
    if silent:
        more = f" and {len(silent) - 5} more" if len(silent) > 5 else ""
        told += f"; no answer from {', '.join(silent[:5])}{more}"
    return told
