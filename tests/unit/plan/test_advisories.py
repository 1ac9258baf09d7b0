from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from ollama_fleet.api.ollamanode import DEFAULT_TAG, OllamaNodeSpec
from ollama_fleet.plan.advisories import ADVISORIES, advisories, exposure
from ollama_fleet.plan.observed import Observed
from ollama_fleet.plan.ollamanode import plan_ollamanode
from tests.unit.plan.objects import NOW, machine, pod, probe, resource

TRAVERSAL = "CVE-2026-103663"
PULLS = ["CVE-2026-108836", "CVE-2026-5530"]
URL = "http://10.0.0.1:11434"


@pytest.mark.parametrize(
    ("version", "ids"),
    [
        ("0.35.1", []),
        ("0.35.0", []),
        ("0.35.0-rc2", [TRAVERSAL]),
        ("0.36.0-rc0", []),
        ("0.34.3", [TRAVERSAL]),
        ("0.34.2", [TRAVERSAL]),
        ("0.34.2-rc1", [TRAVERSAL, *PULLS]),
        ("0.34.1", PULLS),
        ("v0.34.1", PULLS),
        ("0.17.4", PULLS),
        ("0.17.4-5-g0123abc", PULLS),
        ("0.17.4+build7", PULLS),
        ("0.17.0", [*PULLS, "CVE-2026-7482"]),
        ("0.14.2", [*PULLS, "CVE-2026-7482", "CVE-2025-51471"]),
        ("0.1.46", [*PULLS, "CVE-2026-7482", "CVE-2025-51471", "CVE-2024-45436"]),
        ("1.0.0", []),
        ("0.0.0", []),
        ("", []),
        (None, []),
        ("latest", []),
        ("0.35", []),
    ],
)
def test_the_holes_of_a_version(version: str | None, ids: list[str]) -> None:
    assert [one.id for one in advisories(version)] == ids


def test_the_oldest_has_all_but_what_came_later() -> None:
    assert {one.id for one in advisories("0.1.0")} == {one.id for one in ADVISORIES} - {TRAVERSAL}


def test_what_is_recommended_has_none() -> None:
    assert advisories(DEFAULT_TAG) == ()


SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "an old tag": (
        {"replicas": 1, "image": {"tag": "0.17.4"}},
        f"Write spec.image.tag {DEFAULT_TAG} or newer.",
    ),
    "a tag that says nothing": (
        {"replicas": 1, "image": {"tag": "latest"}},
        f"Write spec.image.tag {DEFAULT_TAG} or newer.",
    ),
    "a digest": (
        {"replicas": 1, "image": {"digest": "sha256:" + "c" * 64}},
        f"Write spec.image.digest of Ollama {DEFAULT_TAG} or newer.",
    ),
    "a tag that is right already": (
        {"replicas": 1, "image": {"tag": "0.35.1-rocm"}},
        "spec.image.tag is 0.35.1-rocm: these servers are yet to be updated",
    ),
    "elsewhere": (
        {"external": {"url": "http://box:11434"}},
        f"Upgrade Ollama there to {DEFAULT_TAG} or newer.",
    ),
}


@pytest.mark.parametrize("what", SPECS)
def test_the_remedy_is_where_the_version_comes_from(what: str) -> None:
    spec, remedy = SPECS[what]
    told = exposure(OllamaNodeSpec.model_validate(spec), ["0.17.4", "0.35.1"])
    assert told is not None
    assert told.startswith(
        "Ollama 0.17.4 has known security holes: a pull can reach inside your network "
        "(CVE-2026-108836, CVE-2026-5530). "
    )
    assert remedy in told


def test_versions_side_by_side_are_told_together_and_in_order() -> None:
    spec = OllamaNodeSpec.model_validate({"replicas": 2, "image": {"tag": "0.17.0"}})
    told = exposure(spec, ["0.34.2", "0.17.0"])
    assert told is not None
    assert told.startswith("Ollama 0.17.0 and Ollama 0.34.2 have known security holes: ")
    assert told == exposure(spec, ["0.17.0", "0.34.2", "0.34.2", "0.35.1"])
    assert all(name in told for name in (TRAVERSAL, *PULLS, "CVE-2026-7482"))


def test_the_condition_comes_once_and_goes_with_the_last_old_server() -> None:
    node = resource("OllamaNode", "a", {"replicas": 1})
    workload = {"spec": {"replicas": 1}, "status": {"updatedReplicas": 1}}
    old = Observed(
        workload,
        (pod("a-0"),),
        {"gpu-a": machine("gpu-a")},
        {URL: replace(probe(), version="0.17.4")},
    )
    first = plan_ollamanode(node, old, NOW)
    by_type = {one["type"]: one for one in first.status["conditions"]}
    assert by_type["Ready"]["status"] == "True"
    vulnerable = by_type["Vulnerable"]
    assert (vulnerable["status"], vulnerable["reason"]) == ("True", "VulnerableVersion")
    assert "CVE-2026-5530" in vulnerable["message"]
    assert [(one.type, one.reason) for one in first.notes] == [
        ("Normal", "Ready"),
        ("Warning", "VulnerableVersion"),
    ]

    later = NOW + timedelta(minutes=1)
    told = {**node, "status": first.status}
    again = plan_ollamanode(told, old, later)
    assert (again.status["conditions"], again.notes) == (first.status["conditions"], ())

    mended = plan_ollamanode(told, replace(old, probes={URL: probe()}), later)
    assert [one["type"] for one in mended.status["conditions"]] == [
        "Ready",
        "Reconciling",
        "Stalled",
    ]
    assert mended.notes == ()


def test_a_condition_of_somebody_elses_stays() -> None:
    theirs = {"type": "Audited", "status": "True", "reason": "X", "message": ""}
    node = resource("OllamaNode", "a", {"replicas": 1}, status={"conditions": [theirs]})
    plan = plan_ollamanode(node, Observed(None, (), {}, {}), NOW)
    assert plan.status["conditions"][-1] == theirs
