"""Settings: flags, or else the environment, under the names such agents have for them."""

import argparse
import ipaddress
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from ollama_fleet.serving.options import argument

T = TypeVar("T")

_NAME = re.compile(r"[!-~]{1,253}")
_NAMES = ("OLLAMA_AGENT_MACHINE_NAME", "OLLAMA_MACHINE_NAME", "HOSTNAME")


@dataclass(frozen=True, slots=True)
class Settings:
    """What an agent goes by; times in seconds."""

    url: str
    """Of the fleet API, without a slash at its end."""
    machine_name: str
    port: int
    """Of the local Ollama."""
    address: str | None
    """Where the fleet reaches this machine; None: found out."""
    token_file: Path | None
    ca_file: Path | None
    retry: float
    max_retries: int
    interval: float
    pull_timeout: float
    verbose: bool

    @property
    def host(self) -> str:
        """Of the fleet API."""
        return urlsplit(self.url).hostname or ""

    @property
    def host_port(self) -> int:
        """Of the fleet API."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def in_clear(self) -> bool:
        """Whether others could read along."""
        return self.url.startswith("http:") and self.host not in ("localhost", "127.0.0.1", "::1")


def read(arguments: list[str] | None, environ: Mapping[str, str], hostname: str) -> Settings:
    """The settings; ends the program with a sentence where one is of no use."""
    parser = _parser(environ, hostname)
    given = parser.parse_args(arguments)
    return Settings(
        url=given.coordinator_url,
        machine_name=given.machine_name,
        port=given.ollama_port,
        address=given.ip_address,
        token_file=given.token_file,
        ca_file=given.ca_file,
        retry=given.register_retry,
        max_retries=given.register_max_retries,
        interval=given.health_interval,
        pull_timeout=given.pull_timeout,
        verbose=given.verbose,
    )


def _parser(environ: Mapping[str, str], hostname: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollama-fleet-agent",
        description="Registers this machine's Ollama with a fleet, and reports how it does.",
        epilog="Each may also be set in the environment, by the name in parentheses.",
    )

    def add(
        flag: str, names: str | tuple[str, ...], default: str | None, reader: Callable[[str], T],
        told: str, metavar: str,
    ) -> None:  # fmt: skip
        """Both a flag's value and the environment's are read the same way, and called by what
        people wrote them under."""
        names = (names,) if isinstance(names, str) else names
        name = next((one for one in names if environ.get(one)), None)
        shown = f" ({names[0]}; {default})" if default else f" ({names[0]})"
        text = environ[name] if name else default
        try:
            value = None if text is None else reader(text)
        except ValueError as error:
            parser.error(f"{name or flag}: {error}")
        parser.add_argument(
            flag, type=argument(reader), default=value, metavar=metavar, help=told + shown
        )

    url = "http://localhost:8080"
    add("--coordinator-url", "COORDINATOR_URL", url, _url, "the fleet API", "URL")
    add("--ollama-port", "OLLAMA_PORT", "11434", _port, "of the local Ollama", "PORT")
    add("--machine-name", _NAMES, hostname, _machine, "what to be known by", "NAME")
    told = "where the fleet reaches this machine; found out where it is not given"
    add("--ip-address", "OLLAMA_AGENT_IP_ADDRESS", None, _address, told, "IP")
    told = "with the token for the fleet API, read again each time"
    add("--token-file", "COORDINATOR_TOKEN_FILE", None, Path, told, "FILE")
    told = "with the authority of the fleet API's certificate, in PEM; the only one trusted then"
    add("--ca-file", "COORDINATOR_CA_FILE", None, Path, told, "FILE")
    told = "before a registration is tried again, longer each time up to a minute; 0: at once"
    add("--register-retry", "COORDINATOR_REGISTER_RETRY_SECS", "5", _seconds, told, "SECONDS")
    told = "how often it is tried again; 0: for ever"
    add("--register-max-retries", "COORDINATOR_REGISTER_MAX_RETRIES", "0", _count, told, "COUNT")
    told = "between reports; the fleet takes a machine for offline after 60 without one"
    add("--health-interval", "COORDINATOR_HEALTH_INTERVAL_SECS", "30", _interval, told, "SECONDS")
    told = "taken, and without effect: it is the fleet that pulls"
    add("--pull-timeout", "OLLAMA_PULL_TIMEOUT_SECS", "0", _seconds, told, "SECONDS")
    parser.add_argument("--verbose", action="store_true")
    return parser


def _url(text: str) -> str:
    parts = urlsplit(text.strip())
    try:
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise ValueError("is no URL of a fleet API: write https://fleet.example.com")
    if parts.username is not None:
        raise ValueError("has credentials in it: put the token into a file, COORDINATOR_TOKEN_FILE")
    return text.strip().rstrip("/").removesuffix("/api")


def _machine(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("is no machine's name: up to 253 characters of ASCII, without spaces")
    return text


def _address(text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address: write it like 192.168.1.20") from None
    if found.is_unspecified or found.is_multicast or "%" in text:
        raise ValueError(f"{text} is no address of one machine: write it like 192.168.1.20")
    return str(found)


def _port(text: str) -> int:
    if not (_is_count(text) and 0 < int(text) < 65536):
        raise ValueError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not _is_count(text):
        raise ValueError(f"{text!r} is no count: give a whole number, or 0")
    return int(text)


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 86400:
        raise ValueError(f"{text!r} is no time: give seconds, from 0 to 86400")
    return seconds


def _interval(text: str) -> float:
    seconds = _seconds(text)
    if seconds < 1:
        raise ValueError(f"{text} is too short: give 1 or more")
    return seconds
