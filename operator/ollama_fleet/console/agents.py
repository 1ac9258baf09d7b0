"""Agents out of OllamaNodes: servers of every kind, as the fleet API tells of them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from ollama_fleet.api.model import LABEL_PREFIX
from ollama_fleet.api.ollamanode import PORT, OllamaNodeSpec
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.console.wire import Agent, Health, Registration
from ollama_fleet.kube import Object
from ollama_fleet.kube.kinds import OLLAMA_NODE
from ollama_fleet.plan.times import parsed, rfc3339

MACHINE = LABEL_PREFIX + "machine-name"
"""On an OllamaNode that registered: the machine's name as it gave it."""
VERSION = LABEL_PREFIX + "ollama-version"
GPU_MODEL = LABEL_PREFIX + "gpu-model"
REGISTERED_AT = LABEL_PREFIX + "registered-at"
"""When it last registered."""
REPORT = LABEL_PREFIX + "report"
"""How it does, as it reported last."""

OFFLINE_AFTER = timedelta(seconds=60)
_AMD = re.compile(r"\b(amd|radeon|instinct)\b", re.IGNORECASE)
_NEVER = "1970-01-01T00:00:00Z"
_LONGEST = 39


@dataclass(frozen=True)
class Server:
    """A server in its OllamaNode; ``status`` is what that tells of it, empty before it does."""

    node: Object
    spec: OllamaNodeSpec
    name: str
    status: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """Of its OllamaNode."""
        return str(self.node["metadata"]["namespace"])

    @property
    def id(self) -> str:
        """The namespace has no dot, so this is never ambiguous."""
        return f"{self.namespace}.{self.name}"

    @property
    def ollamanode(self) -> str:
        """The name of its OllamaNode."""
        return str(self.node["metadata"]["name"])

    @property
    def annotations(self) -> Mapping[str, str]:
        """Of its OllamaNode."""
        return self.node["metadata"].get("annotations") or {}

    @property
    def url(self) -> str | None:
        """Where it answers, if it has an address."""
        external = self.spec.external
        address: str | None = self.status.get("address") or (external.url if external else None)
        return address


def servers_of(node: Object) -> list[Server]:
    """The servers an OllamaNode tells of; one elsewhere is there before it is looked at. A spec
    that an older definition let through has none, as for the operator."""
    try:
        spec = OllamaNodeSpec.model_validate(node["spec"])
    except ValidationError:
        return []
    told = {one["name"]: one for one in (node.get("status") or {}).get("servers") or ()}
    if spec.external is not None:
        name = node["metadata"]["name"]
        told = {name: told.get(name, {})}
    return [Server(node, spec, name, status) for name, status in sorted(told.items())]


def agents_of(node: Object, now: datetime, offline_after: timedelta = OFFLINE_AFTER) -> list[Agent]:
    """The same as the API tells of them."""
    return [agent(server, now, offline_after) for server in servers_of(node)]


def agent(server: Server, now: datetime, offline_after: timedelta = OFFLINE_AFTER) -> Agent:
    """One server as the API tells of it."""
    status, spec, notes = server.status, server.spec, server.annotations
    at = urlsplit(server.url or "")
    report = _report(notes.get(REPORT))
    contact = _contact(notes, report)
    seen = [moment for moment in (contact, parsed(status.get("lastSeen"))) if moment]
    registered = (
        server.node["metadata"].get("creationTimestamp")
        if spec.external is not None
        else status.get("registeredAt") or server.node["metadata"].get("creationTimestamp")
    ) or _NEVER
    total = _bytes(status.get("memoryTotal"))
    has_gpu = spec.gpu.vendor != "none" and (total is not None or spec.gpu.memory is not None)
    return Agent(
        id=server.id,
        machine_name=notes.get(MACHINE) or status.get("kubernetesNode") or server.name,
        ip_address=at.hostname or "",
        ollama_version=status.get("version") or notes.get(VERSION) or "",
        ollama_port=at.port or {"https": 443, "http": 80}.get(at.scheme, PORT),
        status="online"
        if _online(status.get("state"), contact, bool(report), now, offline_after)
        else "offline",
        registered_at=registered,
        last_seen=rfc3339(max(seen)) if seen else registered,
        name=server.name,
        namespace=server.namespace,
        ollama_node=server.ollamanode,
        kind="external" if spec.external is not None else "pod",
        state=status.get("state") or "Starting",
        cordoned=spec.cordoned,
        message=status.get("message"),
        gpu_model=notes.get(GPU_MODEL) or status.get("gpu"),
        gpu_count=spec.gpu.count if has_gpu else None,
        gpu_memory_bytes=_each(total, spec) if has_gpu else None,
        memory_bytes=total,
        memory_used_bytes=_bytes(status.get("memoryUsed")),
        disk_bytes=_bytes(status.get("diskTotal")),
        disk_free_bytes=_bytes(status.get("diskFree")),
        cpu_usage=report.get("cpuUsage"),
        memory_usage=report.get("memoryUsage"),
        active_requests=_most(status.get("activeRequests"), report.get("activeRequests")),
        models_installed=status.get("installed"),
        models_resident=list(status.get("resident") or ()),
    )


def _online(
    state: str | None,
    contact: datetime | None,
    reports: bool,
    now: datetime,
    offline_after: timedelta,
) -> bool:
    """What the operator cannot reach is offline; so is one that used to report and went silent.
    Who has just registered is there before the operator has looked."""
    if state == "Offline":
        return False
    if contact is not None and (reports or state in (None, "Starting")):
        return now - contact < offline_after
    return state in ("Ready", "Draining", "Unfit")


def _contact(notes: Mapping[str, str], report: Mapping[str, Any]) -> datetime | None:
    moments = (parsed(notes.get(REGISTERED_AT)), parsed(report.get("at")))
    return max((moment for moment in moments if moment), default=None)


def _report(text: str | None) -> dict[str, Any]:
    """A report as it was kept; empty where somebody else wrote there."""
    try:
        found = json.loads(text or "{}")
        health = Health.model_validate(
            {
                "agent_id": "-",
                "cpu_usage": found["cpuUsage"],
                "memory_usage": found["memoryUsage"],
                "active_requests": found["activeRequests"],
            }
        )
        at = str(found["at"])
    except (ValueError, KeyError, TypeError):
        return {}
    return _kept(health, at)


def _kept(health: Health, at: str) -> dict[str, Any]:
    return {
        "cpuUsage": health.cpu_usage,
        "memoryUsage": health.memory_usage,
        "activeRequests": health.active_requests,
        "at": at,
    }


def _each(total: int | None, spec: OllamaNodeSpec) -> int | None:
    if total is not None:
        return total // spec.gpu.count
    return _bytes(spec.gpu.memory)


def _most(*counts: int | None) -> int | None:
    """Routers count what they send, an agent everything: the larger is nearer to the truth."""
    return max((count for count in counts if count is not None), default=None)


def _bytes(quantity: str | None) -> int | None:
    try:
        return None if quantity is None else bytes_of(quantity)
    except ValueError:
        return None


def registration_name(registration: Registration) -> str:
    """The name of the OllamaNode of a machine that registers: of machine and port alone."""
    machine = registration.machine_name
    slug = re.sub(r"[^a-z0-9]+", "-", machine.lower()).strip("-")[:_LONGEST].strip("-")
    if not slug[:1].isalpha():
        slug = f"machine-{slug}".strip("-")[:_LONGEST].strip("-")
    if slug != machine:
        slug += f"-{sha256(machine.encode()).hexdigest()[:6]}"
    return slug if registration.ollama_port == PORT else f"{slug}-{registration.ollama_port}"


def registered(registration: Registration, namespace: str, now: datetime) -> Object:
    """The OllamaNode of a machine that registers, to be applied."""
    address = registration.ip_address
    host = f"[{address}]" if ":" in address else address
    spec: dict[str, Any] = {"external": {"url": f"http://{host}:{registration.ollama_port}"}}
    gpu: dict[str, Any] = {}
    if registration.gpu_memory_bytes:
        gpu["memory"] = str(registration.gpu_memory_bytes)
        gpu["count"] = registration.gpu_count or 1
    if registration.gpu_model and _AMD.search(registration.gpu_model):
        gpu["vendor"] = "amd"
    if gpu:
        spec["gpu"] = gpu
    notes = {
        MACHINE: registration.machine_name,
        VERSION: registration.ollama_version,
        REGISTERED_AT: rfc3339(now),
    }
    if registration.gpu_model:
        notes[GPU_MODEL] = registration.gpu_model
    return {
        "apiVersion": OLLAMA_NODE.api_version,
        "kind": OLLAMA_NODE.kind,
        "metadata": {
            "name": registration_name(registration),
            "namespace": namespace,
            "annotations": notes,
        },
        "spec": spec,
    }


def is_registered(node: Object, registration: Registration) -> bool:
    """Whether an OllamaNode is that of the machine, rather than somebody's of the same name."""
    notes = node["metadata"].get("annotations") or {}
    return bool(notes.get(MACHINE) == registration.machine_name)


def report_of(health: Health, now: datetime) -> dict[str, Any]:
    """The change to an OllamaNode that keeps a report."""
    kept = json.dumps(_kept(health, rfc3339(now.astimezone(UTC))), separators=(",", ":"))
    return {"metadata": {"annotations": {REPORT: kept}}}
