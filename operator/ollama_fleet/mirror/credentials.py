"""Who the mirror is to registries: docker's config.json, read again when it changes."""

import base64
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ollama_fleet.ollama.answers import value_of

log = logging.getLogger(__name__)

TOKEN = re.compile(r"[!-~]{1,32768}")
"""What can stand in a header."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and password, or a token to show as it is."""

    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)

    @property
    def basic(self) -> str | None:
        """The value of a basic Authorization header, if there is a user."""
        if not self.user:
            return None
        return f"Basic {base64.b64encode(f'{self.user}:{self.password}'.encode()).decode()}"


class CredentialsError(Exception):
    """A file that holds no credentials; the message names it and what is wrong."""


class Credentials:
    """By registry host, from a file of the form that `docker login` writes."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._known: dict[str, Credential] = {}

    def of(self, registry: str) -> Credential | None:
        """What there is for a registry (`host[:port]`). A file that has become unreadable is told
        of in the log, and what it said before stays in force."""
        try:
            self.read()
        except CredentialsError as error:
            log.warning("%s; going on with what it said before", error)
        return self._known.get(registry.lower())

    def read(self) -> None:
        """Read the file if it has changed; raises CredentialsError."""
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            if self._seen == (stat.st_mtime_ns, stat.st_ino):
                return
            self._seen = (stat.st_mtime_ns, stat.st_ino)
            self._known = _parse(value_of(self._path.read_bytes()))
        except OSError as error:
            raise CredentialsError(f"{self._path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CredentialsError(
                f'{self._path} is no docker config.json: write {{"auths": {{"registry.lan:5000": '
                '{"username": "…", "password": "…"}}}'
            ) from error


def _parse(config: Any) -> dict[str, Credential]:
    return {_host(name): _credential(entry) for name, entry in config["auths"].items()}


def _host(name: str) -> str:
    return name.removeprefix("https://").removeprefix("http://").partition("/")[0].lower()


def _credential(entry: dict[str, str]) -> Credential:
    if token := entry.get("registrytoken"):
        if TOKEN.fullmatch(token) is None:
            raise ValueError("it is no token")
        return Credential(token=token)
    if entry.get("auth"):
        both = base64.b64decode(entry["auth"], validate=True).decode()
    else:
        both = entry.get("username", "") + ":" + entry.get("password", "")
    user, _, password = both.partition(":")
    return Credential(user, password)
