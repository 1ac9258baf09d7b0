"""How long who plans rests: the more there is, the longer, and never for long."""

import pytest

from ollama_fleet.controllers.pace import hearsay, rest
from ollama_fleet.controllers.store import Store


def fleet(objects: int) -> Store:
    store = Store()
    for number in range(objects):
        meta = {"name": f"a{number}", "namespace": "llm", "uid": str(number)}
        kind = ("OllamaNode", "ModelDistribution", "Router")[number % 3]
        made = {"apiVersion": "ollamafleet.dev/v1alpha1", "kind": kind, "metadata": meta}
        store.put(made | {"metadata": meta | {"resourceVersion": "1"}})
    return store


@pytest.mark.parametrize(
    ("objects", "servers", "seconds"),
    [
        (3, 3, 0.5),
        (50, 100, 0.5),
        (160, 20, 1.6),
        (5000, 20, 2.0),
        (10, 1000, 3.0),
        (160, 1000, 3.0),
    ],
)
def test_who_has_planned_rests(objects: int, servers: int, seconds: float) -> None:
    assert rest(fleet(objects), servers) == seconds


@pytest.mark.parametrize(("objects", "seconds"), [(0, 0.0), (3, 0.09), (160, 4.8), (5000, 5.0)])
def test_what_models_a_server_has_is_heard_of_soon_enough(objects: int, seconds: float) -> None:
    assert hearsay(fleet(objects)) == pytest.approx(seconds)
