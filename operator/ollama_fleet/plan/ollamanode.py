"""Planning an OllamaNode: its workload, and how its servers stand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import (
    PORT,
    MemoryStatus,
    OllamaNodeSpec,
    OllamaNodeStatus,
    ServerStatus,
)
from ollama_fleet.api.quantity import bytes_of, gib
from ollama_fleet.api.servers import OLLAMANODE_LABEL, labels, selector
from ollama_fleet.plan import unsupported
from ollama_fleet.plan.claims import claim_template, outdated
from ollama_fleet.plan.conditions import Verdict, conditions, transition
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.result import Object, Plan, child
from ollama_fleet.plan.serverpod import pod_template
from ollama_fleet.plan.servers import Probe, Server, servers_of
from ollama_fleet.plan.times import parsed, rfc3339

SERVERS_SHOWN = 100
DEFAULT_SIZE = "100Gi"
SEEN_STEP = timedelta(minutes=5)
"""How coarsely lastSeen is kept while all is well: a fresh stamp alone is no reason to write."""

_ORDER = {"Unfit": 0, "Offline": 1, "Starting": 2, "Draining": 3, "Ready": 4}


@dataclass(frozen=True)
class Observed:
    """What the cluster shows of one OllamaNode."""

    workload: Object | None
    """The StatefulSet or DaemonSet, where there is one."""
    pods: tuple[Object, ...]
    kubernetes_nodes: Mapping[str, Object]
    probes: Mapping[str, Probe]
    """By URL."""
    rivals: tuple[Object, ...] = ()
    """Pods that may hold the GPUs this one's wait for."""
    devices: Devices = field(default_factory=Devices)
    claim_templates: tuple[Object, ...] = ()
    """What claims for its GPUs were ever made from."""


def plan_ollamanode(node: Object, observed: Observed, now: datetime) -> Plan:
    """What to apply for an OllamaNode, and its status."""
    spec = OllamaNodeSpec.model_validate(node["spec"])
    servers = servers_of(
        node,
        spec,
        observed.pods,
        observed.kubernetes_nodes,
        observed.probes,
        now,
        observed.rivals,
        observed.devices,
    )
    unserved = unsupported.ollama_node(node["spec"]) or _claims_refused(spec, observed.devices)
    verdict = unserved or _verdict(spec, observed, servers)
    gpus = claim_template(node, spec, _names(node)[1])
    objects = () if unserved else _objects(node, spec, observed.workload, gpus)
    old = outdated(gpus, observed.claim_templates, observed.workload, observed.pods)
    previous = node.get("status") or {}
    return Plan(
        apply=objects,
        delete=() if unserved else old,
        status=_status(node, spec, observed, servers, verdict, now),
        notes=transition(previous.get("conditions") or (), verdict),
    )


def _claims_refused(spec: OllamaNodeSpec, devices: Devices) -> Verdict | None:
    if spec.gpu.allocation != "ResourceClaim" or devices.refused is None:
        return None
    return Verdict.stuck(
        Reason.UNSUPPORTED,
        "spec.gpu.allocation ResourceClaim needs resource.k8s.io/v1, which Kubernetes serves from "
        f"1.34 on, and leave to use it; here: {devices.refused}. Upgrade and restart the operator, "
        "or set spec.gpu.allocation to DevicePlugin.",
    )


def _objects(
    node: Object, spec: OllamaNodeSpec, workload: Object | None, gpus: Object | None
) -> tuple[Object, ...]:
    if spec.external is not None:
        return ()
    first = () if gpus is None else (gpus,)
    if spec.per_node is not None:
        return (*first, _daemon_set(node, spec, gpus))
    return (*first, _service(node), _stateful_set(node, spec, workload, gpus))


def _names(node: Object) -> tuple[str, dict[str, str]]:
    name = node["metadata"]["name"]
    return name, labels(OLLAMANODE_LABEL, name, "ollama")


def _service(node: Object) -> Object:
    name, all_labels = _names(node)
    made = child(node, "v1", "Service", f"{name}-servers", all_labels)
    made["spec"] = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": selector(OLLAMANODE_LABEL, name),
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
    }
    return made


def _stateful_set(
    node: Object, spec: OllamaNodeSpec, workload: Object | None, gpus: Object | None
) -> Object:
    name, all_labels = _names(node)
    template = pod_template(spec, all_labels, gpus)
    made = child(node, "apps/v1", "StatefulSet", name, all_labels)
    made["spec"] = {
        "replicas": spec.replicas or 0,
        "serviceName": f"{name}-servers",
        "podManagementPolicy": "Parallel",
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "selector": {"matchLabels": selector(OLLAMANODE_LABEL, name)},
        "template": template,
    }
    if not any(volume["name"] == "models" for volume in template["spec"]["volumes"]):
        # the API server allows no change of a claim template: what is there stays
        there = ((workload or {}).get("spec") or {}).get("volumeClaimTemplates")
        made["spec"]["volumeClaimTemplates"] = there or [_claim(spec, all_labels)]
    return made


def _claim(spec: OllamaNodeSpec, all_labels: dict[str, str]) -> Object:
    claim: Object = {
        "metadata": {"name": "models", "labels": all_labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": spec.storage.size or DEFAULT_SIZE}},
        },
    }
    if spec.storage.storage_class_name:
        claim["spec"]["storageClassName"] = spec.storage.storage_class_name
    return claim


def _daemon_set(node: Object, spec: OllamaNodeSpec, gpus: Object | None) -> Object:
    name, all_labels = _names(node)
    made = child(node, "apps/v1", "DaemonSet", name, all_labels)
    made["spec"] = {
        "selector": {"matchLabels": selector(OLLAMANODE_LABEL, name)},
        "updateStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": spec.update.max_unavailable},
        },
        "template": pod_template(spec, all_labels, gpus),
    }
    return made


def _wanted(spec: OllamaNodeSpec, workload: Object | None) -> int:
    if spec.external is not None:
        return 1
    if spec.replicas is not None:
        return spec.replicas
    return int(((workload or {}).get("status") or {}).get("desiredNumberScheduled", 0))


def _updated(spec: OllamaNodeSpec, workload: Object | None, ready: int) -> int:
    if spec.external is not None:
        return ready
    status = (workload or {}).get("status") or {}
    return int(status.get("updatedReplicas", status.get("updatedNumberScheduled", 0)))


def _verdict(spec: OllamaNodeSpec, observed: Observed, servers: list[Server]) -> Verdict:
    wanted = _wanted(spec, observed.workload)
    ready = sum(server.state == "Ready" for server in servers)
    told = f"{ready} of {wanted} servers ready"
    trouble = next((server.trouble for server in servers if server.trouble), None)
    if trouble is not None:
        return Verdict.stuck(trouble.reason, trouble.message)
    if spec.cordoned:
        return Verdict(
            Reason.CORDONED, "cordoned: no new requests or pulls. Set spec.cordoned to false."
        )
    if spec.external is None and not _seen(observed.workload):
        return Verdict.underway(told)
    if wanted == 0 and spec.per_node is not None:
        return Verdict.stuck(
            Reason.NO_SERVERS,
            "no machine matches: GPU machines need the labels of the vendor's feature discovery; "
            "or set gpu.vendor to none, or correct spec.template.nodeSelector.",
        )
    if (grown := _grown(spec, observed.workload)) is not None:
        return grown
    if ready < wanted or len(servers) > wanted:
        return Verdict.underway(told)
    if _updated(spec, observed.workload, ready) < wanted:
        return Verdict.underway(f"{told}, an update rolls")
    return Verdict.good(told)


def _seen(workload: Object | None) -> bool:
    """Whether there is a workload, and its status speaks of its newest spec."""
    if workload is None:
        return False
    status, meta = workload.get("status") or {}, workload.get("metadata") or {}
    return bool(status.get("observedGeneration") == meta.get("generation"))


def _grown(spec: OllamaNodeSpec, workload: Object | None) -> Verdict | None:
    """Volumes keep the size they were made with; who wants another is told so."""
    claims = ((workload or {}).get("spec") or {}).get("volumeClaimTemplates") or ()
    for claim in claims:
        size = claim["spec"]["resources"]["requests"]["storage"]
        if spec.storage.size and bytes_of(size) != bytes_of(spec.storage.size):
            return Verdict.stuck(
                Reason.UNSUPPORTED,
                f"the volumes have {size}, and growing them is not served by this version. Set "
                f"spec.storage.size back to {size}.",
                ready=True,
            )
    return None


def _status(
    node: Object,
    spec: OllamaNodeSpec,
    observed: Observed,
    servers: list[Server],
    verdict: Verdict,
    now: datetime,
) -> dict[str, Any]:
    name = node["metadata"]["name"]
    previous = node.get("status") or {}
    generation = node["metadata"].get("generation", 1)
    ready = sum(server.state == "Ready" for server in servers)
    before = {one["name"]: one for one in previous.get("servers") or ()}
    shown = sorted(servers, key=lambda server: (_ORDER[server.state], server.name))
    versions = sorted({server.probe.version for server in servers if server.probe.version})
    status = OllamaNodeStatus(
        observed_generation=generation,
        replicas=len(servers),
        ready_replicas=ready,
        updated_replicas=_updated(spec, observed.workload, ready),
        ready=f"{ready}/{_wanted(spec, observed.workload)}",
        selector=f"{OLLAMANODE_LABEL}={name}",
        version=", ".join(versions)[:64] or None,
        models=len({model for server in servers for model in server.probe.installed}),
        memory=_memory(servers),
        servers=[_server_status(one, before.get(one.name, {})) for one in shown[:SERVERS_SHOWN]],
        servers_omitted=max(0, len(shown) - SERVERS_SHOWN),
    ).wire()
    status["conditions"] = conditions(previous.get("conditions") or (), verdict, generation, now)
    return status


def _memory(servers: Iterable[Server]) -> MemoryStatus | None:
    known = [server.memory for server in servers if server.memory.size is not None]
    unknown = [server.memory for server in servers if server.memory.size is None]
    if not known:
        return MemoryStatus(source=unknown[0].source) if unknown else None
    least = min(known, key=lambda memory: memory.size or 0)
    most = max(known, key=lambda memory: memory.size or 0)
    source = least.source
    if least.size != most.size:
        source += f"; the smallest of {gib(least.size or 0)} to {gib(most.size or 0)}"
    return MemoryStatus(per_server=short_quantity(least.size or 0), source=source)


def short_quantity(size: int) -> str:
    """Bytes as a quantity people read: ``24Gi`` if whole, else in ``Mi``."""
    if size == 0:
        return "0"
    for unit, factor in (("Gi", 2**30), ("Mi", 2**20)):
        if size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size / 2**30:.1f}Gi" if size >= 2**30 else f"{size // 2**20}Mi"


def _server_status(server: Server, before: Mapping[str, Any]) -> ServerStatus:
    probe = server.probe
    return ServerStatus(
        name=server.name,
        state=server.state,
        kubernetes_node=server.kubernetes_node,
        address=server.url,
        version=probe.version,
        gpu=server.memory.gpu,
        memory_total=short_quantity(server.memory.size) if server.memory.size else None,
        memory_source=server.memory.source,
        memory_used=short_quantity(sum(probe.resident.values())) if probe.version else None,
        installed=len(probe.installed) if probe.version else None,
        resident=sorted(probe.resident)[:64],
        registered_at=before.get("registeredAt")
        or (rfc3339(probe.first_seen) if probe.first_seen else None),
        last_seen=_last_seen(server, before),
        message=server.trouble.message[:1024] if server.trouble else None,
    )


def _last_seen(server: Server, before: Mapping[str, Any]) -> str | None:
    seen = server.probe.last_seen
    told = parsed(before.get("lastSeen"))
    if seen is None:
        return before.get("lastSeen")
    if told is not None and seen - told < SEEN_STEP and before.get("state") == server.state:
        return str(before["lastSeen"])
    return rfc3339(seen)
