"""Without Kubernetes: keys and the certificate out of files, which may change."""

import asyncio
import logging
import ssl
from pathlib import Path

import yaml

from ollama_fleet.api.keys import ENTRY, Clients, clients_in
from ollama_fleet.api.tls import Pair, serve
from ollama_fleet.kube.access import value_of
from ollama_fleet.router.config import ConfigError, load
from ollama_fleet.router.ownsecrets import INTERVAL
from ollama_fleet.router.server import Router
from ollama_fleet.router.settings import Settings

log = logging.getLogger(__name__)


class Files:
    """Who may ask, and what HTTPS is served with; None: nothing of that."""

    def __init__(self, keys: Path | None, certificate: Path | None, key: Path | None) -> None:
        self._keys = keys
        self._certificate = certificate
        self._key = key
        self._clients: Clients | None = None
        self._pair: Pair | None = None

    def settings(self, path: Path) -> Settings:
        """What the file of settings says; raises `ConfigError`."""
        settings = load(path)
        self.check(settings)
        return settings

    def check(self, settings: Settings) -> None:
        """Raises `ConfigError` where nobody could ask."""
        if settings.guarded and self._keys is None:
            raise ConfigError("auth: nobody could ask: start with --keys FILE, or remove it")

    def read(self, router: Router) -> None:
        """Take over what there is now; raises `ConfigError` where that is of no use."""
        if self._keys is not None:
            router.guard()
        self._read_keys(router)
        self._read_certificate(router)

    def _read_keys(self, router: Router) -> None:
        if self._keys is None:
            return
        found = _clients(self._keys)
        if found.faults and self._clients is None:
            raise ConfigError(f"{self._keys}: {next(iter(found.faults.values())).message}")
        if found != self._clients:
            self._clients = found
            router.gate.take(found)
            for fault in found.faults.values():
                log.warning("%s: %s; what was good of it last stays", self._keys, fault.message)

    def _read_certificate(self, router: Router) -> None:
        if self._certificate is None or self._key is None:
            return
        pair = Pair(_text(self._certificate), _text(self._key))
        if pair != self._pair:
            try:
                router.use(serve(pair))
            except ssl.SSLError as error:
                told = f"{self._certificate} and {self._key}: no certificate and its key"
                raise ConfigError(f"{told} ({error.reason})") from None
            self._pair = pair

    async def follow(self, router: Router) -> None:
        """Look for changes for ever; what cannot be used is told, and changes nothing."""
        told: dict[str, str] = {}
        while True:
            await asyncio.sleep(INTERVAL)
            for what, read in (("keys", self._read_keys), ("tls", self._read_certificate)):
                try:
                    read(router)
                    told.pop(what, None)
                except ConfigError as error:
                    if told.get(what) != str(error):
                        log.warning("%s; what was good last stays", error)
                        told[what] = str(error)


def _clients(path: Path) -> Clients:
    """One YAML mapping, or a folder with a file for each client, as a mounted Secret is."""
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if not one.name.startswith("."))
        return clients_in({one.name: _text(one) for one in files}, value_of)
    try:
        entries = value_of(_text(path))
    except ValueError:
        raise ConfigError(f"{path}: is not YAML") from None
    if not isinstance(entries, dict):
        raise ConfigError(f"{path}: write an entry for each client, such as 'team-a: {ENTRY}'")
    texts = {str(name): yaml.safe_dump(value) for name, value in entries.items()}
    return clients_in(texts, value_of)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
