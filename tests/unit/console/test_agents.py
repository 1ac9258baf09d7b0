"""Agents out of OllamaNodes, and OllamaNodes out of machines that register."""

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from ollama_fleet.console.agents import (
    REGISTERED_AT,
    REPORT,
    agents_of,
    is_registered,
    registered,
    registration_name,
    report_of,
    servers_of,
)
from ollama_fleet.console.wire import Health, Registration
from ollama_fleet.plan.times import parsed, rfc3339

NOW = parsed("2026-03-04T05:06:07Z")
assert NOW is not None


def ago(seconds: float) -> str:
    assert NOW is not None
    return rfc3339(NOW - timedelta(seconds=seconds))


def machine(**more: Any) -> Registration:
    given = {
        "machine_name": "gpu-box",
        "ip_address": "192.0.2.7",
        "ollama_version": "0.35.1",
        "ollama_port": 11434,
    }
    return Registration.model_validate(given | more)


def node(spec: dict[str, Any], notes: dict[str, str] | None = None, *servers: Any) -> Any:
    meta = {"name": "a", "namespace": "llm", "annotations": notes or {}, "uid": "1"}
    meta["creationTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta, "spec": spec, "status": {"servers": list(servers)}}


@pytest.mark.parametrize(
    ("state", "contact", "reported", "status"),
    [
        ("Ready", None, None, "online"),
        ("Draining", None, None, "online"),
        ("Unfit", None, None, "online"),
        ("Starting", None, None, "offline"),
        ("Offline", None, None, "offline"),
        (None, None, None, "offline"),
        # who has just registered is there before anybody looked
        (None, 59, None, "online"),
        ("Starting", 59, None, "online"),
        ("Starting", 60, None, "offline"),
        ("Offline", 1, 1, "offline"),
        # who never reported is as the operator finds it
        ("Ready", 3600, None, "online"),
        # who reported once is missed
        ("Ready", 3600, 59, "online"),
        ("Ready", 3600, 60, "offline"),
        ("Ready", 1, 3600, "online"),
    ],
)
def test_who_is_online(
    state: str | None, contact: float | None, reported: float | None, status: str
) -> None:
    assert NOW is not None
    notes = {}
    if contact is not None:
        notes[REGISTERED_AT] = ago(contact)
    if reported is not None:
        health = Health(agent_id="x", cpu_usage=1.0, memory_usage=2.0, active_requests=3)
        when = parsed(ago(reported))
        assert when is not None
        notes |= report_of(health, when)["metadata"]["annotations"]
    told = [{"name": "a", "state": state}] if state else []
    (one,) = agents_of(node({"external": {"url": "http://192.0.2.7:1"}}, notes, *told), NOW)
    assert one.status == status
    assert one.cpu_usage == (None if reported is None else 1.0)


def test_a_pod_before_it_has_an_address() -> None:
    assert NOW is not None
    (one,) = agents_of(node({"replicas": 1}, None, {"name": "a-0", "state": "Starting"}), NOW)
    assert (one.id, one.machine_name, one.ip_address, one.ollama_port) == (
        "llm.a-0",
        "a-0",
        "",
        11434,
    )
    assert (one.registered_at, one.last_seen) == ("2026-01-01T00:00:00Z",) * 2
    assert (one.gpu_count, one.memory_bytes, one.models_installed) == (None, None, None)


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", '{"cpuUsage": 1}', '{"cpuUsage":"x","memoryUsage":1}']
)
def test_a_report_that_somebody_wrote_himself_is_none(text: str) -> None:
    assert NOW is not None
    spec = {"external": {"url": "http://192.0.2.7:1"}}
    (one,) = agents_of(node(spec, {REPORT: text}, {"name": "a", "state": "Ready"}), NOW)
    assert (one.status, one.cpu_usage, one.active_requests) == ("online", None, None)


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({}, "gpu-box"),
        ({"ollama_port": 11435}, "gpu-box-11435"),
        ({"machine_name": "GPU_Box"}, "gpu-box-"),
        ({"machine_name": "7"}, "machine-7-"),
        ({"machine_name": "---"}, "machine-"),
        ({"machine_name": "x" * 253, "ollama_port": 65535}, "x" * 39 + "-"),
    ],
)
def test_a_machine_and_its_port_have_a_name_of_their_own(more: dict[str, Any], name: str) -> None:
    found = registration_name(machine(**more))
    assert found.startswith(name)
    assert len(found) <= 52
    assert found == registration_name(machine(**more, ip_address="192.0.2.99"))


def test_names_that_look_alike_are_kept_apart() -> None:
    names = ["gpu-box", "GPU-box", "gpu.box", "gpu_box"]
    found = {registration_name(machine(machine_name=name)) for name in names}
    assert len(found) == len(names)


@pytest.mark.parametrize(
    ("more", "spec"),
    [
        ({}, {"external": {"url": "http://192.0.2.7:11434"}}),
        ({"ip_address": "2001:db8::1"}, {"external": {"url": "http://[2001:db8::1]:11434"}}),
        (
            {"gpu_memory_bytes": 5, "gpu_count": 2, "gpu_model": "AMD Instinct MI300X"},
            {
                "external": {"url": "http://192.0.2.7:11434"},
                "gpu": {"memory": "5", "count": 2, "vendor": "amd"},
            },
        ),
        ({"gpu_memory_bytes": 0, "gpu_count": 0}, {"external": {"url": "http://192.0.2.7:11434"}}),
    ],
)
def test_what_a_machine_becomes(more: dict[str, Any], spec: dict[str, Any]) -> None:
    assert NOW is not None
    made = registered(machine(**more), "llm", NOW)
    assert made["spec"] == spec
    assert is_registered(made, machine())
    assert not is_registered(made, machine(machine_name="other"))
    assert [one.id for one in servers_of(made)] == ["llm.gpu-box"]


@pytest.mark.parametrize(
    "more",
    [
        {"ip_address": "gpu.lan"},
        {"ip_address": "0.0.0.0"},
        {"ip_address": "fe80::1%eth0"},
        {"ip_address": "192.0.2.7:11434"},
        {"ollama_port": 0},
        {"ollama_port": "11434"},
        {"machine_name": ""},
        {"machine_name": "a b"},
        {"gpu_count": -1},
    ],
)
def test_what_is_no_machine(more: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        machine(**more)
