"""What a server's store holds and takes."""

from typing import Any

import pytest

from ollama_fleet.plan.disk import Disks, Store
from tests.unit.plan.objects import GIB, Object, pod, stored, volume

LAYERS = {
    "sha256:one": {"weights": 5 * GIB, "first": 10},
    "sha256:two": {"weights": 5 * GIB, "second": 20},
}
SMALL: Object = {"name": "ollama", "resources": {"limits": {"ephemeral-storage": "4Gi"}}}
FOLDER: Object = {"name": "models", "hostPath": {"path": "/var/ollama"}}


def machine(ephemeral: str | None = "100Gi") -> Object:
    given = {"ephemeral-storage": ephemeral} if ephemeral else {}
    return {"metadata": {"name": "gpu-a"}, "status": {"allocatable": given}}


@pytest.mark.parametrize(
    ("of", "claims", "on", "size", "source", "remedy"),
    [
        (
            stored("a-0", "models-a-0"),
            [volume("models-a-0", "20Gi")],
            machine(),
            20 * GIB,
            "volume models-a-0",
            "Raise spec.storage.size of OllamaNode a",
        ),
        (
            stored("a-0", "shared"),
            [volume("shared", "20Gi")],
            machine(),
            20 * GIB,
            "volume shared",
            "Grow PersistentVolumeClaim shared",
        ),
        (
            stored("a-0", "models-a-0"),
            [volume("models-a-0", None)],
            machine(),
            None,
            "unknown: volume models-a-0 is not bound",
            "Raise spec.storage.size",
        ),
        (stored("a-0", "models-a-0"), [], machine(), None, "unknown: volume", "Raise"),
        (
            stored("a-0"),
            [],
            machine(),
            100 * GIB,
            "ephemeral storage of gpu-a",
            "Use a machine with more ephemeral storage",
        ),
        (
            stored("a-0", containers=[SMALL]),
            [],
            machine(),
            4 * GIB,
            "spec.resources.limits.ephemeral-storage",
            "Use a machine",
        ),
        (stored("a-0"), [], machine(None), None, "unknown: gpu-a tells no", "Use a machine"),
        (stored("a-0"), [], None, None, "unknown: gpu-a tells no", "Use a machine"),
        (
            stored("a-0", volumes=[FOLDER]),
            [],
            machine(),
            None,
            "unknown: a folder of the machine tells no size",
            "Keep models in a volume",
        ),
        (pod("a-0"), [], machine(), None, "unknown", "Keep models in a volume"),
    ],
)
def test_the_size_of_a_store_and_how_it_is_known(
    of: Object, claims: list[Object], on: Object | None, size: int | None, source: str, remedy: str
) -> None:
    found = Disks({one["metadata"]["name"]: one for one in claims}).store("a", of, on)
    assert found.size == size
    assert found.source.startswith(source)
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("models", "free"),
    [
        ([], 20 * GIB),
        ([("sha256:one", 5 * GIB + 10)], 15 * GIB - 10),
        # the weights are there once
        ([("sha256:one", 5 * GIB + 10), ("sha256:two", 5 * GIB + 20)], 15 * GIB - 30),
        # two names of one model
        ([("sha256:one", 5 * GIB + 10), ("sha256:one", 5 * GIB + 10)], 15 * GIB - 10),
        # nobody knows what it is made of: counted whole, so that free is never too much
        ([("sha256:one", 5 * GIB + 10), ("sha256:other", 5 * GIB)], 10 * GIB - 10),
        ([("sha256:other", 50 * GIB)], 0),
    ],
)
def test_what_models_share_is_counted_once(models: list[Any], free: int) -> None:
    assert Disks(layers=LAYERS).filled(Store(20 * GIB), models).free == free


@pytest.mark.parametrize(
    ("models", "room"),
    [
        ([], 20 * GIB),
        ([("sha256:one", 5 * GIB + 10)], 15 * GIB - 10),
        # made there by hand from what is there: it may take nothing of its own
        ([("sha256:one", 5 * GIB + 10), ("sha256:other", 5 * GIB)], 15 * GIB - 10),
        ([("sha256:one", 5 * GIB + 10), ("sha256:other", 8 * GIB)], 12 * GIB),
        ([(f"sha256:{number}", 5 * GIB) for number in range(9)], 15 * GIB),
        ([("sha256:other", 50 * GIB)], 0),
    ],
)
def test_what_models_may_share_keeps_no_pull_from_trying(models: list[Any], room: int) -> None:
    store = Disks(layers=LAYERS).filled(Store(20 * GIB), models)
    assert store.room == room
    assert store.takes({"new": room})
    assert not store.takes({"new": room + 1})


@pytest.mark.parametrize(
    ("size", "lacks", "takes"),
    [(6 * GIB, 20, True), (5 * GIB + 29, 20, False), (5 * GIB + 30, 20, True), (None, 20, True)],
)
def test_a_model_needs_room_for_what_is_not_there_yet(
    size: int | None, lacks: int, takes: bool
) -> None:
    store = Store(size, layers=LAYERS["sha256:one"])
    assert store.lacks(LAYERS["sha256:two"]) == lacks
    assert store.takes(LAYERS["sha256:two"]) is takes
