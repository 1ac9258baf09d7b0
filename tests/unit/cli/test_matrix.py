from copy import deepcopy
from typing import Any

import pytest

from ollama_fleet.cli import matrix
from ollama_fleet.cli.fleet import Fleet
from tests.unit.cli.drawing import distribution, drawn, sample, task

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
MODEL = "llama3.1:8b"


def node(*servers: str, pins: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    made = [{"name": name, "state": "Ready"} for name in servers]
    return {
        "metadata": {"name": "n", "namespace": "llm"},
        "spec": {},
        "status": {"servers": made, "pins": pins or []},
    }


def installed(server: str, digest: str) -> dict[str, Any]:
    return task(server, MODEL, "Installed", digest=digest)


def states(fleet: Fleet) -> dict[str, str]:
    (row,) = matrix.models(fleet).rows
    servers: dict[str, str] = row["servers"]
    return servers


@pytest.mark.parametrize(
    ("digests", "pin", "wanted", "told"),
    [
        ((NEW, NEW, OLD), None, NEW, {"a": "installed", "b": "installed", "c": "drifted"}),
        ((NEW, NEW, OLD), OLD, OLD, {"a": "drifted", "b": "drifted", "c": "installed"}),
        ((NEW, OLD), None, None, {"a": "installed", "b": "installed"}),
        ((NEW,), None, NEW, {"a": "installed"}),
    ],
)
def test_what_is_neither_wanted_nor_usual_is_drifted(
    digests: tuple[str, ...], pin: str | None, wanted: str | None, told: dict[str, str]
) -> None:
    names = "abc"[: len(digests)]
    tasks = [installed(name, digest) for name, digest in zip(names, digests, strict=True)]
    pins = [{"model": MODEL, "digest": pin}] if pin else []
    fleet = Fleet([node(*names, pins=pins)], [distribution(*tasks)])
    assert states(fleet) == told
    (row,) = matrix.models(fleet).rows
    assert row["digest"] == wanted
    assert row["digests"] == dict(zip(names, digests, strict=True))


@pytest.mark.parametrize(
    ("state", "more", "told"),
    [
        ("Waiting", {}, "drifted"),
        ("Failed", {"reason": "DigestMismatch"}, "drifted"),
        ("Failed", {"reason": "ContradictoryPin"}, "failed"),
        ("Pulling", {"progress": 0.5}, "50%"),
    ],
)
def test_what_is_there_but_not_as_wanted_is_drifted_until_it_is_pulled(
    state: str, more: dict[str, Any], told: str
) -> None:
    fleet = Fleet([node("a")], [distribution(task("a", MODEL, state, digest=OLD, **more))])
    assert states(fleet) == {"a": told}


def test_a_pin_for_some_servers_is_no_pin_for_others() -> None:
    pins = [{"model": MODEL, "digest": OLD, "servers": ["b"]}]
    tasks = [installed("a", NEW), installed("b", OLD), installed("c", NEW)]
    fleet = Fleet([node("a", "b", "c", pins=pins)], [distribution(*tasks)])
    assert states(fleet) == {"a": "installed", "b": "installed", "c": "installed"}


def test_digests_without_a_majority_are_told() -> None:
    fleet = Fleet([node("a", "b")], [distribution(installed("a", OLD), installed("b", NEW))])
    said = drawn(lambda screen: screen.table(matrix.models(fleet)), width=120)
    assert "is there with 2 digests and no majority" in said


def test_wide_shows_the_digest_and_the_others() -> None:
    table = matrix.models(sample(), wide=True)
    said = drawn(lambda screen: screen.table(table), width=120, form="wide").splitlines()
    assert said[0].split() == ["MODEL", "DIGEST", *(f"fleet-gpu-{size}g" for size in (12, 24, 6))]
    (qwen,) = [line for line in said if line.startswith("qwen3:4b")]
    assert qwen.split() == [
        "qwen3:4b",
        "359d7dd4bcda",
        "drifted",
        "(2bfd38a7daaf)",
        "installed",
        "-",
    ]


def test_long_names_are_counted_where_the_screen_is_narrow() -> None:
    fleet = sample()
    narrow, broad = (matrix.models(fleet, columns=columns).columns for columns in (50, 80))
    assert [column.title for column in narrow][2:4] == ["INSTALLED", "IN MEMORY"]
    assert "fleet-gpu-24g" in [column.title for column in broad]


def test_many_drifted_servers_are_counted() -> None:
    names = [f"s{number}" for number in range(matrix.MATRIX + 1)]
    tasks = [installed(name, OLD if name == "s0" else NEW) for name in names]
    fleet = Fleet([node(*names)], [distribution(*deepcopy(tasks))])
    said = drawn(lambda screen: screen.table(matrix.models(fleet))).splitlines()
    assert said[0].split().index("DRIFTED") == 5
    assert said[1].split() == [MODEL, "6", "0", "0", "1", "0", "0"]
