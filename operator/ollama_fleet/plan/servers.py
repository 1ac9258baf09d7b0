"""The servers of an OllamaNode as they stand: pods, machines and probes put together."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ollama_fleet.api.access import CA_KEY, SecretRefs
from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import PORT, OllamaNodeSpec
from ollama_fleet.api.ollamanodestatus import ServerState
from ollama_fleet.api.servers import server_name
from ollama_fleet.plan.devices import Devices
from ollama_fleet.plan.disk import Disks, Store, elsewhere
from ollama_fleet.plan.machines import gpu_gone, not_ready, without_gpus
from ollama_fleet.plan.memory import Memory, server_memory
from ollama_fleet.plan.preflight import unmet
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.sizing import Load, Shape
from ollama_fleet.plan.times import elapsed
from ollama_fleet.plan.troubles import Trouble, made_for, pod_trouble, scheduling_trouble

OFFLINE_AFTER = timedelta(seconds=60)
"""For how long a server may be silent, unless the operator is told otherwise."""


@dataclass(frozen=True)
class Installed:
    """A model on a server's disk."""

    digest: str
    size: int
    modified: str = ""
    """When it was last changed there, as RFC 3339."""


@dataclass(frozen=True)
class Probe:
    """What a server last said of itself. ``error`` is why the latest probe failed, ``denied``
    that it wants other headers, ``secret`` what is wrong with a Secret it is reached by."""

    version: str | None = None
    installed: Mapping[str, Installed] = field(default_factory=dict)
    resident: Mapping[str, int] = field(default_factory=dict)
    """Model names and the bytes of memory they hold."""
    lasting: frozenset[str] = frozenset()
    """Those of them that stay there for ever."""
    first_seen: datetime | None = None
    last_seen: datetime | None = None
    error: str | None = None
    denied: bool = False
    secret: Trouble | None = None
    offline_after: timedelta = OFFLINE_AFTER

    def silent(self, now: datetime) -> bool:
        """Whether it does not answer, and its last word is too long ago; or there was none."""
        if self.last_seen is None or self.error is None:
            return self.last_seen is None
        return elapsed(self.last_seen, now) >= self.offline_after


@dataclass(frozen=True)
class Server:
    """One Ollama process."""

    name: str
    ollamanode: str
    labels: Mapping[str, str]
    state: ServerState
    memory: Memory
    url: str | None = None
    external: bool = False
    """Whether it runs elsewhere, and may not know the cluster's own names."""
    kubernetes_node: str | None = None
    probe: Probe = Probe()
    store: Store = field(default_factory=Store)
    load: Load = field(default_factory=Load)
    """How it loads models."""
    shapes: Mapping[str, Shape] = field(default_factory=dict, repr=False, compare=False)
    """Models that anybody was asked to describe, by the digest of their manifest."""
    trouble: Trouble | None = None
    note: str | None = None
    """Why its state is what somebody asked for, which is no trouble."""
    secrets: tuple[str, ...] = ()
    """Names of the Secrets it is reached by."""
    pod: Object | None = field(default=None, repr=False, compare=False)
    max_loaded: int | None = None
    """How many models it has in memory at once; None: not known."""
    restoring: tuple[str, ...] = ()
    """Models that were in memory before its pod was replaced, and are to be there again."""

    @property
    def reachable(self) -> bool:
        """Whether it can be asked and told things now."""
        return self.state == "Ready" and self.url is not None

    @property
    def up(self) -> bool:
        """Whether its pod runs, is to stay, and answers; one that is cordoned or unfit may be."""
        ready = self.pod is not None and pod_ready(self.pod)
        return ready and self.state in ("Ready", "Unfit", "Draining")

    @property
    def answers(self) -> bool:
        """Whether it can be asked now, be it that no new models go there."""
        able = self.up or (self.pod is None and self.serving)
        return able and self.url is not None and self.probe.error is None

    @property
    def serving(self) -> bool:
        """Whether it answers with the models it has; an unfit one only gets no more of them."""
        return self.state in ("Ready", "Unfit")


def probe_url(pod: Object) -> str | None:
    """Where a pod's server answers; None before it has an address."""
    address = pod.get("status", {}).get("podIP")
    if not address:
        return None
    return f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"


def pod_ready(pod: Object) -> bool:
    """Whether Kubernetes calls the pod Ready and it is not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return any(
        one["type"] == "Ready" and one["status"] == "True"
        for one in pod.get("status", {}).get("conditions", ())
    )


def servers_of(
    node: Object,
    spec: OllamaNodeSpec,
    pods: Collection[Object],
    kubernetes_nodes: Mapping[str, Object],
    probes: Mapping[str, Probe],
    now: datetime,
    rivals: Iterable[Object] = (),
    devices: Devices | None = None,
    disks: Disks | None = None,
    standing: Mapping[str, Server] | None = None,
) -> list[Server]:
    """Every server of an OllamaNode. ``probes`` are by URL; ``rivals`` may hold the GPUs that its
    pods wait for; those ``standing``, by their pod's name, are as they were."""
    name = node["metadata"]["name"]
    labels = node["metadata"].get("labels") or {}
    stores = disks or Disks()
    if spec.external is not None:
        return [_checked(_external(name, labels, spec, probes, now), elsewhere(), stores, spec)]
    everyone, known = [*pods, *rivals], devices or Devices()
    found, same = [], standing or {}
    for pod in pods:
        if (as_before := same.get(pod["metadata"]["name"])) is not None:
            found.append(as_before)
            continue
        one = _pod_server(name, labels, spec, pod, everyone, kubernetes_nodes, probes, now, known)
        store = stores.store(name, pod, kubernetes_nodes.get(one.kubernetes_node or ""))
        found.append(_checked(one, store, stores, spec))
    return found


def _checked(server: Server, store: Store, disks: Disks, spec: OllamaNodeSpec) -> Server:
    """The server with its store; unfit where it lacks what models must find there."""
    installed = ((one.digest, one.size) for one in server.probe.installed.values())
    told = spec.external is None or "max_loaded_models" in spec.server.model_fields_set
    loaded = spec.server.max_loaded_models if told else None
    filled = disks.filled(store, installed)
    server = replace(server, store=filled, shapes=disks.shapes, max_loaded=loaded)
    trouble = unmet(server.name, spec.requirements, server.memory, store)
    if server.state != "Ready" or trouble is None:
        return server
    return replace(server, state="Unfit", trouble=trouble)


def _external(
    name: str,
    labels: Mapping[str, str],
    spec: OllamaNodeSpec,
    probes: Mapping[str, Probe],
    now: datetime,
) -> Server:
    assert spec.external is not None
    url = spec.external.url.rstrip("/")
    probe = probes.get(url, Probe())
    trouble = None
    state: ServerState = "Starting"
    if probe.secret is not None:
        state, trouble = "Offline", probe.secret
    elif not probe.silent(now) and not probe.denied:
        state = "Ready"
    elif probe.error is not None:
        state = "Offline"
        trouble = Trouble(
            Reason.UNREACHABLE,
            f"{probe.error.rstrip('.')}. {_remedy(probe, spec.external.secrets)}",
        )
    return Server(
        name=server_name(name, None, None, per_node=False),
        ollamanode=name,
        labels=labels,
        state=_held(state, spec),
        memory=server_memory(spec, None),
        load=Load.of(spec),
        url=url,
        external=True,
        probe=probe,
        trouble=trouble,
        secrets=spec.external.secrets.names,
    )


def _remedy(probe: Probe, named: SecretRefs) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in (probe.error or ""):
        if named.ca:
            return (
                f"Put the authority that signs its certificate into Secret {named.ca}, as {CA_KEY}."
            )
        return (
            f"Put the authority that signs its certificate into a Secret, as {CA_KEY}, and name it "
            "in spec.external.caSecretRef."
        )
    if probe.denied:
        if named.headers:
            return f"Correct the headers in Secret {named.headers}, such as Authorization."
        return (
            "Put the headers it asks for into a Secret, such as Authorization, and name it in "
            "spec.external.headersSecretRef."
        )
    return (
        "Check that Ollama runs there, that it listens on more than loopback "
        "(OLLAMA_HOST=0.0.0.0), and spec.external.url."
    )


def _pod_server(
    name: str,
    labels: Mapping[str, str],
    spec: OllamaNodeSpec,
    pod: Object,
    everyone: list[Object],
    kubernetes_nodes: Mapping[str, Object],
    probes: Mapping[str, Probe],
    now: datetime,
    devices: Devices,
) -> Server:
    machine = pod["spec"].get("nodeName")
    url = probe_url(pod)
    probe = probes.get(url, Probe()) if url else Probe()
    host = kubernetes_nodes.get(machine or "")
    away = not_ready(pod, host, now)
    trouble = (
        away
        or gpu_gone(pod, host, spec.gpu.resource, everyone, devices)
        or pod_trouble(pod)
        or scheduling_trouble(pod, spec, kubernetes_nodes.values(), everyone, devices)
    )
    state: ServerState = "Starting"
    if away is not None:
        state = "Offline"
    elif pod["metadata"].get("deletionTimestamp"):
        state, trouble = "Draining", None
    elif without_gpus(pod, host, spec.gpu.resource, devices):
        state = "Unfit"
    elif pod_ready(pod):
        lost = probe.error is not None and probe.silent(now)
        state = "Offline" if lost else "Ready" if probe.last_seen else "Starting"
        if lost and trouble is None:
            trouble = Trouble(Reason.UNREACHABLE, f"{probe.error}, though its pod is Ready")
    elif trouble is not None or probe.last_seen is not None:
        state = "Offline"
    note = None
    if machine and cordoned(kubernetes_nodes.get(machine)):
        note = f"machine {machine} is cordoned"
    return Server(
        name=server_name(
            name, pod["metadata"]["name"], machine or made_for(pod), spec.per_node is not None
        ),
        ollamanode=name,
        labels=labels,
        state="Draining" if note and state == "Ready" else _held(state, spec),
        memory=server_memory(spec, host, pod, devices),
        load=Load.of(spec),
        url=url,
        kubernetes_node=machine,
        probe=probe,
        trouble=trouble,
        note=note,
        pod=pod,
    )


def cordoned(kubernetes_node: Object | None) -> bool:
    """Whether nothing new is to come to a machine."""
    return bool((kubernetes_node or {}).get("spec", {}).get("unschedulable"))


def _held(state: ServerState, spec: OllamaNodeSpec) -> ServerState:
    return "Draining" if spec.cordoned and state == "Ready" else state
