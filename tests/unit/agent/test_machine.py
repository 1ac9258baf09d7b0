"""Load, disk and address of a machine, out of what the kernel says."""

from pathlib import Path

import pytest

from ollama_fleet.agent.inflight import Connection
from ollama_fleet.agent.machine import (
    Load,
    Ticks,
    address_towards,
    busy,
    disk,
    models_folder,
    ticks,
    used,
)

STAT = "cpu  100 10 40 800 50 0 0 0 5 5\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n"
MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    598 kB\n"


def test_ticks_know_idle_time_and_count_guests_once() -> None:
    assert ticks(STAT) == Ticks(150, 1000)


@pytest.mark.parametrize(
    ("before", "after", "percent"),
    [
        (Ticks(100, 1000), Ticks(145, 1100), 45.0),
        (Ticks(100, 1000), Ticks(100, 1000), 0.0),
        (Ticks(100, 1000), Ticks(98, 1010), 0.0),  # idle time may run backwards
    ],
)
def test_busy(before: Ticks, after: Ticks, percent: float) -> None:
    assert busy(before, after) == percent


def test_memory_that_is_given_back_when_needed_is_not_used() -> None:
    assert used(MEMINFO) == 40.2


def test_load_is_since_one_asked_last(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    (tmp_path / "meminfo").write_text(MEMINFO)
    load = Load(tmp_path)
    (tmp_path / "stat").write_text("cpu  175 10 40 825 50 0 0 0 5 5\n")
    assert load.cpu() == 75.0
    assert load.cpu() == 0.0
    assert load.memory() == 40.2


def test_where_models_are(tmp_path: Path) -> None:
    service = Path("/usr/share/ollama/.ollama/models")
    home = {"HOME": str(tmp_path)}
    assert models_folder({}) == models_folder(home) == service
    (tmp_path / ".ollama" / "models").mkdir(parents=True)
    assert models_folder(home) == tmp_path / ".ollama" / "models"
    assert models_folder({**home, "OLLAMA_MODELS": "/data"}) == Path("/data")


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert 0 < disk(tmp_path / "not" / "there") <= 100


@pytest.mark.parametrize(
    ("towards", "world", "found"),
    [
        ("10.0.0.5", "192.168.1.20", "10.0.0.5"),
        ("127.0.0.1", "192.168.1.20", "192.168.1.20"),
        ("::1", "192.168.1.20", "192.168.1.20"),
        ("127.0.0.1", None, "127.0.0.1"),
        (None, "192.168.1.20", None),  # a name server that is away is no reason to move
    ],
)
def test_the_address_is_that_towards_the_fleet(
    towards: str | None, world: str | None, found: str | None
) -> None:
    def source(host: str, port: int) -> str | None:
        return towards if (host, port) == ("fleet", 80) else world

    assert address_towards("fleet", 80, source) == found


@pytest.mark.parametrize(
    ("connection", "answering"),
    [
        (Connection(50_000, 50_000, 0, 0), False),  # opened, nothing asked
        (Connection(3_000, 3_000, 0, 400), True),  # the first request, no answer yet
        (Connection(9_000, 2_000, 5_000, 800), True),  # the next one
        (Connection(100, 8_000, 5_000, 400), True),  # streams
        (Connection(60_000, 60_004, 5_000, 400), False),  # answered, and kept open
    ],
)
def test_which_connections_have_a_request(connection: Connection, answering: bool) -> None:
    assert connection.answering is answering
