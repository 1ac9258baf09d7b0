"""The living fleet: servers with volumes, one on every machine, one elsewhere, models, a router."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2

from dev import chart
from dev.cluster import DEFAULT_MACHINES, Cluster, Machine
from dev.cluster.programs import free_ports
from dev.fleet import install, kubectl
from dev.ollama.certificates import server_pair
from ollama_fleet.kube.kinds import (
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROUTER,
    SECRET,
    SERVICE_ACCOUNT,
    Object,
)
from tests.cluster.audit import Audit
from tests.cluster.elsewhere import emulator, registry_environment
from tests.cluster.fleet import (
    LARGE,
    OPERATOR,
    SMALL,
    Api,
    Emulator,
    Fleet,
    Registry,
    distribution,
    ollama_node,
    resource,
    router,
    standing,
)
from tests.cluster.waiting import eventually
from tests.world.front import Front
from tests.world.traffic import Traffic

MACHINES = ("w1", "w2", "w3")
"""Of the servers; the operator and the routers are on others."""
NAMESPACE = "world"
KEY = "first"
PACE = 5e6
"""Bytes a second that the registry gives while a pull is to be caught in its middle."""
_GIB = 2**30
_TEMPLATE: Object = {
    "nodeSelector": {"world": "yes"},
    "tolerations": [{"key": "world", "operator": "Exists"}],
}
_ANSWERS = {"EMULATOR_TOKENS_PER_SECOND": "40", "EMULATOR_ANSWER_TOKENS": "40"}
FLEET = ((OLLAMA_NODE, "a"), (OLLAMA_NODE, "every"), (OLLAMA_NODE, "box"), (ROUTER, "chat"))

Digests = dict[str, dict[str, str]]
"""By server, and by model."""


def _nobody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False  # it is reached by its address
    return context


@dataclass
class World:
    """What faults are done to, and what is asked about it."""

    cluster: Cluster
    fleet: Fleet
    front: Front
    folder: Path
    registry: Registry
    key: str = KEY
    trust: ssl.SSLContext = field(default_factory=_nobody)
    """Whose certificates clients take."""
    flow: Traffic | None = None
    """What flows at present."""
    ends: list[subprocess.Popen[bytes]] = field(default_factory=list)
    """Programs that were started here in the place of others."""

    @property
    def api(self) -> Api:
        return self.fleet.api

    def kubectl(self, *arguments: str) -> str:
        """As the administrator, in the fleet's namespace."""
        return kubectl(self.cluster, "-n", NAMESPACE, *arguments)

    def secret(self, name: str, entries: dict[str, str]) -> None:
        """Make a Secret, or have it hold these entries and no others."""
        data = {key: base64.b64encode(one.encode()).decode() for key, one in entries.items()}
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        there = self.fleet.get(SECRET, name) is not None
        path = SECRET.path(NAMESPACE, name) if there else SECRET.path(NAMESPACE)
        self.api.call("PUT" if there else "POST", path, made)

    def box(self, token: str, authorities: str) -> None:
        """What the server elsewhere is spoken to with, and whom it is known by."""
        self.secret("box", {"Authorization": f"Bearer {token}"})
        self.secret("box-ca", {"ca.crt": authorities})

    def keys(self, *keys: str) -> None:
        """Those that the router takes."""
        digests = [sha256(key.encode()).hexdigest() for key in keys]
        self.secret("keys", {f"client-{one[:8]}": json.dumps({"sha256": one}) for one in digests})

    def certify(self) -> None:
        """A certificate of a new authority for the router; clients take both from now on."""
        folder = self.folder / "router"
        folder.mkdir(exist_ok=True)
        certificate, key = server_pair("chat.example.com", folder)
        self.trust.load_verify_locations(folder / "ca.pem")
        self.secret("tls", {"tls.crt": certificate, "tls.key": key})

    def routers(self) -> list[str]:
        """Where each replica answers."""
        pods = self.fleet.all(POD, "ollamafleet.dev/router=chat")
        return [f"https://{pod['status']['podIP']}:11434" for pod in pods]

    def traffic(self) -> Traffic:
        self.flow = Traffic(self.fleet.url(), SMALL, self.key, self.trust)
        return self.flow

    def operator_pod(self) -> Object:
        (pod,) = self.api.all(POD, OPERATOR, "app.kubernetes.io/component=operator")
        return pod

    def apply_fleet(self) -> None:
        """All of it, as its user wrote it."""
        env = {"OLLAMA_FLEET_SERVER": "emulator", **_ANSWERS}
        server = {
            "parallel": 8,
            "env": [{"name": name, "value": value} for name, value in env.items()],
        }
        external = {
            "url": self.front.url,
            "headersSecretRef": {"name": "box"},
            "caSecretRef": {"name": "box-ca"},
        }
        self.fleet.apply(
            ollama_node(
                "a",
                replicas=2,
                gpu={"vendor": "nvidia"},
                storage={"size": "1Gi"},
                server=server,
                template=_TEMPLATE,
            ),
            ollama_node(
                "every",
                perNode={},
                storage={"hostPath": "/srv/models"},
                server=server,
                template=_TEMPLATE,
            ),
            resource("OllamaNode", "box", {"external": external, "gpu": {"memory": "8Gi"}}),
            distribution("m", SMALL),
            router(
                replicas=2,
                auth={"keysSecretRef": {"name": "keys"}},
                tls={"secretName": "tls"},
            ),
        )

    def begin_pull(self, rollout: Object | None = None, waits: bool = False) -> None:
        """Have a second model on its way to the servers of `a`, or `waits` for its time."""
        self.registry._set(PACE)
        spec = {"rollout": rollout} if rollout else {}
        self.fleet.apply(distribution("mid", LARGE, target={"ollamaNodes": ["a"]}, **spec))

        def begun(obj: Object) -> bool:
            tasks = (obj.get("status") or {}).get("tasks", ())
            if waits:
                return any(one["state"] in ("Waiting", "Paused") for one in tasks)
            return any(one["state"] == "Pulling" and one.get("progress", 0) > 0.05 for one in tasks)

        self.fleet.until(MODEL_DISTRIBUTION, "mid", begun)

    def forget_pull(self) -> None:
        """As if that had never been."""
        self.registry.mend()
        self.registry._set(30e6)
        self.fleet.delete(MODEL_DISTRIBUTION, "mid")
        self.fleet.gone(MODEL_DISTRIBUTION, "mid")
        for name, url in self.servers().items():
            if name.startswith("a-"):
                body = {"model": LARGE}
                httpx2.request("DELETE", f"{url}/api/delete", json=body, trust_env=False)

    def servers(self) -> dict[str, str]:
        """Where each server answers, by its pod's machine for those of every machine."""
        found = {}
        for pod in self.fleet.all(POD, "ollamafleet.dev/ollamanode"):
            if pod["status"].get("podIP") and "deletionTimestamp" not in pod["metadata"]:
                name = pod["metadata"]["name"]
                if name.startswith("every-"):
                    name = f"every on {pod['spec']['nodeName']}"
                found[name] = f"http://{pod['status']['podIP']}:11434"
        return found

    def digests(self) -> Digests:
        """What all servers hold."""
        found = {name: Emulator(url).installed() for name, url in self.servers().items()}
        found["box"] = self._box().installed()
        return found

    def _box(self) -> Emulator:
        host, port = self.front.backend
        return Emulator(f"http://{host}:{port}")

    def unsettled(self, names: set[str], *models: str) -> str:
        """What is not as it ought to be; empty where all is well."""
        wanted = [*FLEET, (MODEL_DISTRIBUTION, "m")]
        if models:
            wanted.append((MODEL_DISTRIBUTION, "mid"))
        for kind, name in wanted:
            obj = self.fleet.get(kind, name)
            now = standing(obj) if obj else None
            if now is None or not now.ready or now.stalled:
                return f"{kind}/{name}: {now.reason + ' ' + now.message if now else 'unseen'}"
        found = self.digests()
        if found.keys() != names:
            return f"servers are {sorted(found)}"
        for server, held in found.items():
            for model in (SMALL, *(models if server.startswith("a-") else ())):
                if model not in held:
                    return f"{server} lacks {model}"
        told = {
            str(one.get("kubernetesNode") if kind == "every" else one["name"]): one.get("installed")
            for kind in ("a", "every", "box")
            for one in self.fleet.status(OLLAMA_NODE, kind).get("servers", ())
        }
        for server, held in found.items():
            if told.get(server.removeprefix("every on ")) != len(held):
                return f"{server} is said to have {told.get(server)} models"
        return ""

    def settles(self, names: set[str], *models: str, within: float = 240.0) -> None:
        """Wait until all is well, be the API server away for a while or not."""
        last = ""

        def well() -> bool:
            nonlocal last
            try:
                last = self.unsettled(names, *models)
            except (httpx2.HTTPError, AssertionError) as error:
                last = repr(error)
            return not last

        try:
            eventually("the fleet is well", well, within=within)
        except AssertionError as error:
            raise AssertionError(f"{error}: {last}") from None


@contextmanager
def world(folder: Path, say: Any = print) -> Iterator[World]:
    """Start it all, and end it."""
    with ExitStack() as stack:
        cluster = Cluster.start(
            folder / "cluster", DEFAULT_MACHINES, models="real:30M", backoff=1.0, say=say
        )
        stack.callback(cluster.stop)
        install(cluster, chart.find_helm(say))
        for name in MACHINES:
            cluster.add_machine(Machine(name, gpu_memory=24 * _GIB, labels={"world": "yes"}))
            kubectl(cluster, "taint", "node", name, "world=yes:NoSchedule")
        api = stack.enter_context(Api(cluster))
        kubectl(cluster, "create", "namespace", NAMESPACE)
        eventually("it takes pods", lambda: api.get(SERVICE_ACCOUNT, "default", NAMESPACE))
        (port,) = free_ports(1)
        leading = registry_environment(cluster)
        backend = stack.enter_context(emulator(port, folder / "box", **leading, **_ANSWERS))
        front = stack.enter_context(Front(backend, folder))
        made = World(cluster, Fleet(cluster, api, NAMESPACE), front, folder, Registry(cluster))
        front.tokens = {"t1"}
        made.box("t1", authorities=front.authority)
        made.keys(KEY)
        made.certify()
        made.apply_fleet()
        made.settles({"a-0", "a-1", "box", *(f"every on {one}" for one in MACHINES)})
        made.fleet.audit = Audit(cluster)
        stack.callback(_end, made.ends)
        yield made


def _end(programs: list[subprocess.Popen[bytes]]) -> None:
    for one in programs:
        one.kill()
        one.wait()
