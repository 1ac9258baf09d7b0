from ollama_fleet.controllers.offers import GRACE, Offers
from ollama_fleet.kube import Object

GPU = "nvidia.com/gpu"


def machine(name: str = "gpu-a", **counts: str) -> Object:
    allocatable = {"cpu": "31500m", "memory": "8Gi", **counts}
    return {"metadata": {"name": name}, "status": {"allocatable": allocatable}}


def offered(offers: Offers, now: float, *machines: Object) -> list[int]:
    shown = offers.steady(machines, now)
    return [int(one["status"]["allocatable"].get(GPU, 0)) for one in shown.values()]


def test_what_is_found_first_is_believed() -> None:
    assert offered(Offers(), 0.0, machine(**{GPU: "0"})) == [0]


def test_less_is_believed_once_it_lasts() -> None:
    offers, whole, none, gone = Offers(), machine(**{GPU: "8"}), machine(**{GPU: "0"}), machine()
    assert offered(offers, 0.0, whole) == [8]
    assert offers.due(0.0) is None
    assert offered(offers, 10.0, none) == [8]
    assert offers.due(20.0) == GRACE - 10.0
    assert offered(offers, 10.0 + GRACE - 1, gone) == [8]
    assert offered(offers, 10.0 + GRACE, gone) == [0]
    assert offers.due(50.0) is None
    assert offered(offers, 60.0, none) == [0]


def test_more_is_believed_at_once_and_ends_the_wait() -> None:
    offers, whole, part = Offers(), machine(**{GPU: "8"}), machine(**{GPU: "7"})
    offered(offers, 0.0, whole)
    assert offered(offers, 10.0, part) == [8]
    assert offered(offers, 20.0, whole) == [8]
    assert offered(offers, 10.0 + GRACE, part) == [8]
    assert offered(offers, 10.0 + 2 * GRACE, part) == [7]
    assert offered(offers, 100.0, whole) == [8]


def test_machines_are_told_apart_and_forgotten() -> None:
    offers = Offers()
    one, other = machine("a", **{GPU: "1"}), machine("b", **{GPU: "2"})
    assert offered(offers, 0.0, one, other) == [1, 2]
    assert offered(offers, 1.0, machine("a", **{GPU: "0"}), other) == [1, 2]
    assert offered(offers, 2.0, other) == [2]
    assert offered(offers, 3.0, machine("a", **{GPU: "0"}), other) == [0, 2]


def test_what_is_as_it_was_is_not_copied() -> None:
    offers, whole = Offers(), machine(**{GPU: "8"})
    assert offers.steady([whole], 0.0)["gpu-a"] is whole
    assert offers.steady([whole], 1.0)["gpu-a"] is whole
