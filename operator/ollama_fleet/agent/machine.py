"""This machine: its load, its address, its disk. Linux only."""

import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SERVICE = Path("/usr/share/ollama/.ollama/models")
"""Where Ollama's own installer has the service keep models."""
_ELSEWHERE = "192.0.2.1"


@dataclass(frozen=True, slots=True)
class Ticks:
    """What the CPUs did since the machine started, in clock ticks."""

    busy: int
    total: int


def ticks(text: str) -> Ticks:
    """Out of /proc/stat."""
    columns = [int(number) for number in text.split("\n", 1)[0].split()[1:9]]
    idle = sum(columns[3:5])  # and waiting for disks
    return Ticks(sum(columns) - idle, sum(columns))


def busy(before: Ticks, after: Ticks) -> float:
    """Percent of the CPUs' time between the two that was used."""
    total = after.total - before.total
    return _percent(after.busy - before.busy, total)


def used(meminfo: str) -> float:
    """Percent of the memory that is not available, out of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    total, available = (int(fields[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return _percent(total - available, total)


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 1) if whole > 0 else 0.0


class Load:
    """How busy the machine is; CPU since one asked last."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._last = self._ticks()

    def cpu(self) -> float:
        """Percent."""
        last, self._last = self._last, self._ticks()
        return busy(last, self._last)

    def memory(self) -> float:
        """Percent."""
        return used((self._proc / "meminfo").read_text())

    def _ticks(self) -> Ticks:
        return ticks((self._proc / "stat").read_text())


def models_folder(environ: Mapping[str, str], service: Path = SERVICE) -> Path:
    """Where the local Ollama keeps models: as it is told, or by default."""
    if environ.get("OLLAMA_MODELS"):
        return Path(environ["OLLAMA_MODELS"])
    home = Path(environ.get("HOME") or "/") / ".ollama" / "models"
    return home if home.is_dir() else service


def disk(folder: Path) -> float:
    """Percent used of the disk a folder is on, or will be."""
    for place in (folder, *folder.absolute().parents):
        try:
            found = os.statvfs(place)
        except OSError:  # not there yet, or not for us to see
            continue
        taken = found.f_blocks - found.f_bfree
        return _percent(taken, taken + found.f_bavail)
    return 0.0


def address_towards(
    host: str, port: int, source: Callable[[str, int], str | None] | None = None
) -> str | None:
    """This machine's address as a host sees it, or as the world does where the host is this
    machine (a forwarded port). None where no way leads to the host, or it has no such name."""
    source = source or _source
    found = source(host, port)
    if found is not None and ipaddress.ip_address(found).is_loopback:
        return source(_ELSEWHERE, port) or found
    return found


def _source(host: str, port: int) -> str | None:
    """Connecting a datagram socket sends nothing; the kernel chooses the address."""
    try:
        for family, kind, protocol, _, there in socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM
        ):
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(there)
                return str(probe.getsockname()[0]).partition("%")[0]
    except (OSError, UnicodeError):
        pass
    return None
