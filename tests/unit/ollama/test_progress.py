from __future__ import annotations

import pytest

from ollama_fleet.ollama.progress import Progress
from ollama_fleet.ollama.wire import PullProgress


def line(digest: str, completed: int, total: int) -> PullProgress:
    return PullProgress(status="pulling", digest=digest, completed=completed, total=total)


def test_nothing_is_known_at_first() -> None:
    progress = Progress()
    progress.observe(PullProgress(status="pulling manifest"), 0)
    assert (progress.completed, progress.total, progress.fraction) == (0, 0, 0)
    assert progress.speed(1) == 0
    assert progress.eta(1) is None


def test_layers_add_up() -> None:
    progress = Progress()
    progress.observe(line("a", 0, 100), 0)
    progress.observe(line("a", 100, 100), 1)
    progress.observe(line("b", 20, 300), 2)
    assert (progress.completed, progress.total) == (120, 400)
    assert progress.fraction == pytest.approx(0.3)


def test_an_expected_total_holds_from_the_start() -> None:
    progress = Progress(expected=1000)
    progress.observe(line("a", 100, 200), 0)
    assert (progress.total, progress.fraction) == (1000, 0.1)


def test_speed_and_time_left() -> None:
    progress = Progress()
    for second in range(6):
        progress.observe(line("a", second * 50, 1000), second)
    assert progress.speed(5) == pytest.approx(50)
    assert progress.eta(5) == pytest.approx(15)


def test_what_was_on_disk_is_no_speed() -> None:
    progress = Progress()
    progress.observe(line("a", 900, 1000), 0)
    progress.observe(line("a", 910, 1000), 1)
    assert progress.speed(1) == pytest.approx(10)


def test_speed_is_of_the_last_ten_seconds() -> None:
    progress = Progress()
    for second in range(11):
        progress.observe(line("a", second * 1000, 10**6), second)
    for second in range(11, 31):
        progress.observe(line("a", 10_000 + (second - 10) * 10, 10**6), second)
    assert progress.speed(30) == pytest.approx(10)


def test_speed_falls_as_a_pull_stands_still() -> None:
    progress = Progress()
    for second in range(11):
        progress.observe(line("a", second * 100, 10**6), second)
    assert progress.speed(10) > progress.speed(14) > 0
    assert progress.speed(40) == 0
    assert progress.eta(40) is None


def test_a_repeated_part_is_taken_back() -> None:
    progress = Progress()
    progress.observe(line("a", 500, 1000), 0)
    progress.observe(line("a", 400, 1000), 1)
    assert progress.completed == 400
    assert progress.speed(1) == 0
