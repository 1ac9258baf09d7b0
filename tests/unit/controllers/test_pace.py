"""How long who plans rests: the more goes on, the longer, and never for long."""

import pytest

from ollama_fleet.controllers.pace import hearsay, rest


@pytest.mark.parametrize(
    ("busy", "servers", "seconds"),
    [
        (3, 3, 0.5),
        (50, 100, 0.5),
        (160, 20, 1.6),
        (5000, 20, 2.0),
        (10, 1000, 3.0),
        (160, 1000, 3.0),
    ],
)
def test_who_has_planned_rests(busy: int, servers: int, seconds: float) -> None:
    assert rest(busy, servers) == seconds


@pytest.mark.parametrize(("busy", "seconds"), [(0, 0.0), (3, 0.09), (160, 4.8), (5000, 5.0)])
def test_what_models_a_server_has_is_heard_of_soon_enough(busy: int, seconds: float) -> None:
    assert hearsay(busy) == pytest.approx(seconds)
    assert hearsay(busy, concerned=False) == pytest.approx(6 * seconds)
