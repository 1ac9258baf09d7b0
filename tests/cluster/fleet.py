"""A namespace with a fleet in it, as its user and its operator's overseer see it."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx2

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import (
    EVENT,
    KINDS,
    MODEL_DISTRIBUTION,
    OLLAMA_NODE,
    POD,
    ROUTER,
    Kind,
    Object,
)
from tests.cluster.audit import Audit, Call
from tests.cluster.waiting import eventually

T = TypeVar("T")

OPERATOR = "ollama-fleet"
"""The operator's namespace, Deployment and service account."""
SMALL = "llama3.2:1b"
"""13 MB in the local registry."""
RATE = 30e6
"""Bytes a second that the registry gives."""
LARGE = "llama3.1:8b"
"""32 MB in the local registry."""


def ollama_node(name: str = "a", **spec: Any) -> Object:
    """Emulated servers without GPUs that think they have 8 GiB; `spec` overrides any field.

    Fields of `server_env` are added to the servers' environment.
    """
    env = {"OLLAMA_FLEET_SERVER": "emulator", **spec.pop("server_env", {})}
    given = [{"name": key, "value": value} for key, value in env.items()]
    made: Object = {
        "replicas": 1,
        "gpu": {"vendor": "none"},
        "storage": {"ephemeral": True},
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "8Gi"}},
        "server": {"env": given},
    }
    if "perNode" in spec:
        del made["replicas"]
    return resource("OllamaNode", name, {**made, **spec})


def external(name: str, url: str) -> Object:
    """A server that runs elsewhere."""
    return resource("OllamaNode", name, {"external": {"url": url}, "gpu": {"memory": "8Gi"}})


def distribution(name: str = "m", *models: str, **spec: Any) -> Object:
    """Models on every server of the namespace; a failed pull is tried again after 1 s."""
    made: Object = {"rollout": {"retry": {"backoff": "1s"}}}
    if models:
        made["models"] = [{"name": model} for model in models]
    return resource("ModelDistribution", name, {**made, **spec})


def router(name: str = "chat", **spec: Any) -> Object:
    """A router that this machine can reach."""
    return resource("Router", name, {"service": {"type": "LoadBalancer"}, **spec})


def resource(kind: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": "ollamafleet.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    }


@dataclass(frozen=True)
class Standing:
    """How a resource says it stands, about its present generation."""

    ready: bool
    stalled: bool
    reason: str
    message: str


def standing(obj: Object) -> Standing | None:
    """None while the status is of an older generation."""
    status = obj.get("status") or {}
    if status.get("observedGeneration") != obj["metadata"]["generation"]:
        return None
    by_type = {one["type"]: one for one in status["conditions"]}
    ready = by_type["Ready"]
    return Standing(
        ready["status"] == "True",
        by_type["Stalled"]["status"] == "True",
        ready["reason"],
        ready["message"],
    )


class Api:
    """The API server, as the administrator."""

    def __init__(self, cluster: Cluster) -> None:
        certificates = cluster.directory / "certificates"
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        context.load_cert_chain(certificates / "admin.crt", certificates / "admin.key")
        self.http = httpx2.Client(base_url=cluster.url, verify=context, timeout=20, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, method: str, path: str, body: Any = None, content_type: str = "") -> Object:
        """One request; AssertionError for what is refused."""
        headers = {"Content-Type": content_type or "application/json"}
        content = None if body is None else json.dumps(body)
        answer = self.http.request(method, path, content=content, headers=headers)
        assert answer.status_code < 400, f"{method} {path}: {answer.json()['message']}"
        found: Object = answer.json()
        return found

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        answer = self.http.get(kind.path(namespace, name))
        if answer.status_code == 404:
            return None
        found: Object = answer.raise_for_status().json()
        return found

    def all(self, kind: Kind, namespace: str = "", labels: str = "") -> list[Object]:
        query = {"labelSelector": labels} if labels else {}
        answer = self.http.get(kind.path(namespace), params=query).raise_for_status()
        return list(answer.json()["items"])


class Fleet:
    """What a test does in its namespace."""

    def __init__(self, cluster: Cluster, api: Api, namespace: str) -> None:
        self.cluster = cluster
        self.api = api
        self.namespace = namespace
        self.audit = Audit(cluster)

    def apply(self, *objects: Object) -> None:
        """Server-side apply, as kubectl does."""
        for obj in objects:
            kind = KINDS[obj["apiVersion"], obj["kind"]]
            path = kind.path(self.namespace, obj["metadata"]["name"])
            query = "?fieldManager=tests&force=true&fieldValidation=Strict"
            self.api.call("PATCH", path + query, obj, "application/apply-patch+yaml")

    def patch(self, kind: Kind, name: str, change: Object) -> Object:
        """JSON merge patch."""
        path = kind.path(self.namespace, name)
        return self.api.call("PATCH", path, change, "application/merge-patch+json")

    def delete(self, kind: Kind, name: str, **options: Any) -> None:
        self.api.call("DELETE", kind.path(self.namespace, name), options or None)

    def get(self, kind: Kind, name: str) -> Object | None:
        return self.api.get(kind, name, self.namespace)

    def all(self, kind: Kind, labels: str = "") -> list[Object]:
        return self.api.all(kind, self.namespace, labels)

    def gone(self, kind: Kind, name: str, within: float = 60.0) -> None:
        eventually(f"{kind} {name} is gone", lambda: self.get(kind, name) is None, within=within)

    def status(self, kind: Kind, name: str) -> Object:
        """What the resource reports; empty before it does."""
        status: Object = (self.get(kind, name) or {}).get("status") or {}
        return status

    def until(
        self, kind: Kind, name: str, check: Callable[[Object], T | None], within: float = 60.0
    ) -> T:
        """Wait until `check` of the object is true, and return what it gave."""
        last: Object = {}

        def look() -> T | None:
            nonlocal last
            last = self.get(kind, name) or {}
            return check(last) if last else None

        try:
            found = eventually(f"{kind} {name}", look, within=within)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {json.dumps(last.get('status'))}") from None
        assert found is not None
        return found

    def ready(self, kind: Kind, name: str, within: float = 60.0) -> Object:
        """Wait for Ready, and return the object."""

        def check(obj: Object) -> Object | None:
            return obj if (now := standing(obj)) and now.ready else None

        return self.until(kind, name, check, within)

    def stalls(self, kind: Kind, name: str, reason: str, within: float = 60.0) -> str:
        """Wait until it is Stalled for that reason, and return the message."""

        def message(obj: Object) -> str:
            now = standing(obj)
            return now.message if now and now.stalled and now.reason == reason else ""

        return self.until(kind, name, message, within)

    def servers(self, name: str) -> dict[str, Object]:
        """The servers an OllamaNode reports, by name."""
        return {one["name"]: one for one in self.status(OLLAMA_NODE, name).get("servers", ())}

    def tasks(self, name: str) -> list[Object]:
        """The tasks a ModelDistribution reports."""
        return list(self.status(MODEL_DISTRIBUTION, name).get("tasks", ()))

    def events(self, kind: Kind, name: str) -> list[Object]:
        """The operator's Events about an object, in order."""
        found = [
            event
            for event in self.all(EVENT)
            if event["regarding"]["kind"] == kind.kind
            and event["regarding"]["name"] == name
            and event["reportingController"] == "ollamafleet.dev/operator"
        ]
        return sorted(found, key=lambda event: str(event["eventTime"]))

    def reasons(self, kind: Kind, name: str) -> list[str]:
        """The reasons of its Events, in order."""
        return [event["reason"] for event in self.events(kind, name)]

    def tells(self, kind: Kind, name: str, *reasons: str) -> None:
        """Wait until its Events give exactly these reasons; they follow the status they tell of.

        Progressing, which tells that it is no longer Stalled, is left out, and so is what all
        emulated servers cause, whose version is an old one.
        """

        def others() -> list[str]:
            usual = ("Progressing", "VulnerableVersion")
            return [reason for reason in self.reasons(kind, name) if reason not in usual]

        eventually(f"{kind} {name} tells {reasons}", lambda: others() == list(reasons), within=20)

    def writes(self) -> list[Call]:
        """What the operator has written in this namespace."""
        calls = self.audit.of(f"{OPERATOR}:{OPERATOR}")
        return [call for call in calls if call.writes and call.namespace == self.namespace]

    def rests(self, seconds: float, within: float = 60.0) -> None:
        """Wait until the operator has written nothing here for so long."""
        begun = datetime.now(UTC)

        def still() -> bool:
            last = max((datetime.fromisoformat(call.at) for call in self.writes()), default=begun)
            return (datetime.now(UTC) - max(last, begun)).total_seconds() > seconds

        eventually(f"the operator rests for {seconds} s", still, within=within)

    def denied(self) -> list[Call]:
        """Calls of the operator and of this namespace's pods that RBAC refused."""
        return [
            call
            for call in self.audit.calls()
            if call.code in (401, 403) and call.namespace in ("", OPERATOR, self.namespace)
        ]

    def pods(self, ollamanode: str) -> list[Object]:
        """The pods of an OllamaNode."""
        return self.all(POD, f"ollamafleet.dev/ollamanode={ollamanode}")

    def emulator(self, pod: Object) -> Emulator:
        """The emulated server in a pod."""
        return Emulator(f"http://{pod['status']['podIP']}:11434")

    def url(self, name: str = "chat") -> str:
        """Where a Router answers, once it is Ready."""
        return str(self.ready(ROUTER, name)["status"]["url"])

    def kill(self, pod: Object) -> None:
        """End a pod's processes as a crash would."""
        self.cluster.kill_pod_process(self.namespace, pod["metadata"]["name"])

    def end(self) -> None:
        """Delete the namespace, its pods without grace."""
        for kind in (MODEL_DISTRIBUTION, ROUTER, OLLAMA_NODE, POD):
            self.api.call("DELETE", kind.path(self.namespace), {"gracePeriodSeconds": 0})
        self.api.call("DELETE", f"/api/v1/namespaces/{self.namespace}")
        eventually("the pods are gone", lambda: self._no_pods())

    def _no_pods(self) -> bool:
        self.api.call("DELETE", POD.path(self.namespace), {"gracePeriodSeconds": 0})
        return not self.all(POD)


class Emulator:
    """An emulated server: its models and its faults."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fault(self, kind: str, **values: Any) -> None:
        """Put a fault in force."""
        body = {"kind": kind, **values}
        httpx2.post(f"{self.url}/_emulator/faults", json=body, trust_env=False).raise_for_status()

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name."""
        body = {"source": source, "destination": destination}
        httpx2.post(f"{self.url}/api/copy", json=body, trust_env=False).raise_for_status()

    def mend(self) -> None:
        """Lift all faults."""
        httpx2.delete(f"{self.url}/_emulator/faults", trust_env=False).raise_for_status()

    def installed(self) -> dict[str, str]:
        """Digests by model."""
        answer = httpx2.get(f"{self.url}/api/tags", trust_env=False).raise_for_status()
        return {one["name"]: one["digest"] for one in answer.json()["models"]}

    def chats(self) -> tuple[int, int]:
        """How many it answers now, and how many it was ever asked."""
        answer = httpx2.get(f"{self.url}/_emulator/stats", trust_env=False).raise_for_status()
        stats = answer.json()
        return stats["generating"], stats["requests"].get("/api/chat", 0)


class Registry:
    """The cluster's registry of models."""

    def __init__(self, cluster: Cluster) -> None:
        log: Path = cluster.directory / "logs" / "registry.log"
        self.url = str(json.loads(log.read_text().splitlines()[0])["url"])

    def fault(self, kind: str, count: int, after: int = 0) -> None:
        """A fault of the next `count` downloads."""
        body = {"kind": kind, "count": count, "after": after}
        httpx2.post(f"{self.url}/_registry/faults", json=body, trust_env=False).raise_for_status()

    def mend(self) -> None:
        """Lift all faults."""
        httpx2.delete(f"{self.url}/_registry/faults", trust_env=False).raise_for_status()

    @contextmanager
    def pace(self, rate: float) -> Iterator[None]:
        """All downloads together get that many bytes a second meanwhile."""
        self._set(rate)
        try:
            yield
        finally:
            self._set(RATE)

    def _set(self, rate: float) -> None:
        body = {"bytesPerSecond": rate}
        url = f"{self.url}/_registry/rate"
        httpx2.put(url, json=body, trust_env=False).raise_for_status()

    def digest(self, model: str) -> str:
        """The digest of a model's manifest."""
        name, _, tag = model.partition(":")
        path = f"/v2/library/{name}/manifests/{tag}"
        return httpx2.get(self.url + path, trust_env=False).headers["Docker-Content-Digest"]

    def renew(self, model: str, other: str) -> None:
        """From now on the name `model` stands for `other`."""
        answer = httpx2.post(f"{self.url}/_registry/newer", json={model: other}, trust_env=False)
        answer.raise_for_status()

    def served(self) -> int:
        """Bytes given so far."""
        answer = httpx2.get(f"{self.url}/_registry/stats", trust_env=False)
        return int(answer.json()["served_bytes"])


def told(objects: Iterable[Object], *fields: str) -> list[tuple[Any, ...]]:
    """Some fields of some objects, sorted: to compare with what is expected."""
    return sorted(tuple(obj.get(field) for field in fields) for obj in objects)
