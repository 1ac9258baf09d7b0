"""Kubernetes itself in trouble, or unobserved."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2

from dev.cluster.processes import alive, die_with_parent
from ollama_fleet.kube.kinds import (
    DAEMON_SET,
    DEPLOYMENT,
    NETWORK_POLICY,
    OLLAMA_NODE,
    POD,
    ROLE_BINDING,
    SERVICE,
    STATEFUL_SET,
)
from tests.cluster.fleet import OPERATOR, SMALL, ollama_node
from tests.cluster.waiting import eventually
from tests.world.ground import World
from tests.world.measure import Fault


def _pid(world: World, program: str) -> int:
    """The latest process of a program: one that was restarted here is in a file of its own."""
    own = world.folder / f"{program}.pid"
    return int(own.read_text()) if own.exists() else int(world.cluster.state()["programs"][program])


def _arguments(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().rstrip("\0").split("\0")


def _answers(world: World) -> bool:
    try:
        return world.api.http.get("/readyz").text == "ok"
    except httpx2.HTTPError:
        return False


@contextmanager
def frozen(world: World) -> Iterator[None]:
    """The API server takes connections, and answers nothing."""
    pid = _pid(world, "kube-apiserver")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
        eventually("it answers", partial(_answers, world))


@contextmanager
def killed(world: World) -> Iterator[None]:
    """The API server is gone, and then there again."""
    pid = _pid(world, "kube-apiserver")
    command = _arguments(pid)
    os.kill(pid, signal.SIGKILL)
    try:
        eventually("it has ended", lambda: not alive(pid))
        yield
    finally:
        with (world.cluster.directory / "logs" / "kube-apiserver.log").open("ab") as log:
            started = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGKILL),
            )
        (world.folder / "kube-apiserver.pid").write_text(str(started.pid))
        world.ends.append(started)
        eventually("it answers", partial(_answers, world))


@contextmanager
def compacted(world: World) -> Iterator[None]:
    """Whatever the watches have seen last is forgotten: the API server can only say 410."""
    arguments = _arguments(_pid(world, "etcd"))
    (url,) = [one.partition("=")[2] for one in arguments if "listen-client-urls" in one]
    with killed(world), httpx2.Client(base_url=url, trust_env=False, timeout=20) as etcd:
        seen = {"key": "AA==", "range_end": "AA==", "count_only": True}
        head = etcd.post("/v3/kv/range", json=seen).raise_for_status().json()
        # another write, so that what was seen last is older than the oldest that is kept
        touched = {"key": "d29ybGQ=", "value": "d29ybGQ="}
        for _ in range(3):
            head = etcd.post("/v3/kv/put", json=touched).raise_for_status().json()
        revision = {"revision": head["header"]["revision"], "physical": True}
        etcd.post("/v3/kv/compaction", json=revision).raise_for_status()
    yield


@contextmanager
def no_operator(world: World) -> Iterator[None]:
    """Nobody looks."""
    scale = ("scale", f"deployment/{OPERATOR}", "-n", OPERATOR)
    chosen = "app.kubernetes.io/component=operator"
    world.kubectl(*scale, "--replicas=0")
    eventually("the operator has gone", lambda: not world.api.all(POD, OPERATOR, chosen))
    try:
        yield
    finally:
        world.kubectl(*scale, "--replicas=1")
        world.kubectl(
            "rollout", "status", f"deployment/{OPERATOR}", "-n", OPERATOR, "--timeout=90s"
        )


_CHILDREN = (
    (STATEFUL_SET, "a"),
    (DAEMON_SET, "every"),
    (DEPLOYMENT, "chat-router"),
    (SERVICE, "a-servers"),
    (NETWORK_POLICY, "a-servers"),
    (ROLE_BINDING, "chat-router"),
)


@contextmanager
def children_deleted(world: World) -> Iterator[None]:
    """While nobody looks, what the operator had made is deleted, but for pods and the Service that
    clients come by."""
    with no_operator(world):
        for kind, name in _CHILDREN:
            options = ("--wait=false", "--cascade=orphan")
            world.kubectl("delete", kind.kind.lower(), name, *options)
        for kind, name in _CHILDREN:
            world.fleet.gone(kind, name)
        yield


@contextmanager
def resources_deleted(world: World) -> Iterator[None]:
    """While nobody looks, custom resources and a whole namespace go; nothing of them stays."""
    away = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "away"}}
    world.api.call("POST", "/api/v1/namespaces", away)
    extra = ollama_node("extra", storage={"size": "1Gi"})
    world.fleet.apply(extra)
    world.fleet.ready(OLLAMA_NODE, "extra")
    path = OLLAMA_NODE.path("away", "other") + "?fieldManager=tests&force=true"
    # Kubernetes looks at a namespace again after half the time its pods may take to end
    other = ollama_node("other", update={"drainTimeout": "5s"})
    eventually("it takes pods", lambda: world.api.http.get(
        "/api/v1/namespaces/away/serviceaccounts/default").status_code == 200)  # fmt: skip
    world.api.call("PATCH", path, other, "application/apply-patch+yaml")
    eventually("its server is there", lambda: world.api.all(POD, "away"))
    with no_operator(world):
        world.kubectl("delete", "ollamanode", "extra", "--wait=false")
        world.kubectl("delete", "namespace", "away", "--wait=false")
        world.fleet.gone(OLLAMA_NODE, "extra")
        yield
    path = "/api/v1/namespaces/away"
    gone = partial(_gone, world, path)
    eventually("the namespace is gone", gone, within=90)
    world.fleet.gone(STATEFUL_SET, "extra", within=90)
    world.fleet.gone(POD, "extra-0", within=90)
    world.kubectl("delete", "pvc", "models-extra-0", "--wait=false")


def _gone(world: World, path: str) -> bool:
    return world.api.http.get(path).status_code == 404


@contextmanager
def model_removed(world: World) -> Iterator[None]:
    """While nobody looks, somebody removes a model from a server by hand."""
    with no_operator(world):
        server = world.servers()["a-0"]
        body = {"model": SMALL}
        httpx2.request("DELETE", f"{server}/api/delete", json=body, trust_env=False)
        time.sleep(3)
        yield


FAULTS = (
    Fault("API server frozen", frozen, seconds=120),
    Fault("API server killed", killed, seconds=120),
    Fault("etcd compacted", compacted),
    Fault("children deleted, no operator", children_deleted, seconds=5),
    Fault("resources deleted, no operator", resources_deleted, seconds=2, pulled=13e6),
    Fault("model removed, no operator", model_removed, seconds=2, pulled=13e6),
)
