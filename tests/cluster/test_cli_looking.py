"""`kubectl ollama status`, `top` and `dashboard`, with what they need besides the resources."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event, Thread
from types import MappingProxyType
from typing import Any

import httpx2
import yaml

from dev.cluster import Cluster
from dev.cluster.processes import alive
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import SMALL, Api, Fleet, distribution, ollama_node, router
from tests.cluster.podproxy import reaching_pods
from tests.cluster.waiting import eventually

GUIDE = Path(__file__).parents[2] / "docs/guides/kubectl.md"
_FIGURES = re.compile(r"^[\d.]+ requests/s, first token p50 .* s, p99 .* s, \d+ queued$", re.M)
PROGRAM = Path(sys.executable).with_name("kubectl-ollama")


def person(fleet: Fleet, kubectl: Kubectl, folder: Path) -> Path:
    """A kubeconfig of one who may see the custom resources in a namespace, and nothing else."""
    here = ("-n", fleet.namespace)
    kubectl("create", "serviceaccount", "me", *here)
    account = f"--serviceaccount={fleet.namespace}:me"
    kubectl("create", "rolebinding", "me", *here, "--clusterrole=ollama-fleet-viewer", account)
    return fleet.cluster.token_kubeconfig(fleet.namespace, "me", folder / fleet.namespace)


def called(
    kubeconfig: Path,
    *arguments: str,
    code: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, str]:
    """The plugin with these arguments and variables; stdout and stderr."""
    done = subprocess.run(
        [str(PROGRAM), *arguments],
        env={**os.environ, "KUBECONFIG": str(kubeconfig), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_what_passes_through_routers_is_told_to_those_who_may_ask(
    cluster: Cluster, fleet: Fleet, another: Fleet, api: Api, kubectl: Kubectl, tmp_path: Path
) -> None:
    fleet.apply(ollama_node(), router(), distribution("m", SMALL))
    another.apply(router())
    told, _ = called(person(another, kubectl, tmp_path), "status")
    assert "No figures of traffic: you may not ask the routers' pods." in told

    me = person(fleet, kubectl, tmp_path)
    (role,) = re.findall(r"```yaml\n(.*?kind: Role\n.*?)```", GUIDE.read_text(), re.DOTALL)
    kubectl("apply", "-n", fleet.namespace, "-f", "-", input=role)
    name = yaml.safe_load(role)["metadata"]["name"]
    account = f"--serviceaccount={fleet.namespace}:me"
    kubectl("create", "rolebinding", "looks", f"--role={name}", account, "-n", fleet.namespace)
    fleet.ready(MODEL_DISTRIBUTION, "m")
    url = fleet.url()
    done = Event()

    def ask() -> None:
        body: dict[str, Any] = {"model": SMALL, "messages": [{"role": "user", "content": "hi"}]}
        body["options"] = {"num_predict": 3}
        while not done.is_set():
            httpx2.post(f"{url}/api/chat", json=body, timeout=30, trust_env=False)

    asking = Thread(target=ask)
    with reaching_pods(cluster, api, me) as config:
        eventually(
            "the role is known",
            lambda: "No figures" not in called(config, "status")[0],
        )
        asking.start()
        try:
            eventually("answers are told", lambda: _FIGURES.search(called(config, "status")[0]))
            top = eventually("the server's are", lambda: asked(config))
            followed(config)
        finally:
            done.set()
            asking.join()
    (one,) = top["routers"]
    assert (one["router"], top["problem"]) == ("chat", None)
    assert 0 < one["firstTokenP50Seconds"] <= one["firstTokenP99Seconds"]
    (server,) = top["servers"]
    assert (server["server"], server["breaker"]) == ("a-0", "closed")

    # as it is where the API server cannot reach them
    told, _ = called(me, "status")
    assert "1 of 1 routers' pods do not answer" in told
    assert "servers ready" in told


def followed(config: Path) -> None:
    """Have `top` on a terminal until it has drawn twice, and leave it as people do."""
    ours, its = pty.openpty()
    top = subprocess.Popen(
        [str(PROGRAM), "top"],
        env={**os.environ, "KUBECONFIG": str(config), "TERM": "xterm-256color"},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    try:
        said = b""
        while said.count(b"BREAKER") < 2:
            said += os.read(ours, 65536)
        top.send_signal(signal.SIGINT)
        assert top.wait(20) == 0
        said += os.read(ours, 65536)
        assert said.startswith(b"\x1b[?1049h"), "a screen of its own"
        assert b"\x1b[?1049l" in said, "which is left"
    finally:
        top.kill()
        os.close(ours)


def asked(config: Path) -> dict[str, Any]:
    """What `top` tells, once the server has been asked; else nothing."""
    found: dict[str, Any] = json.loads(called(config, "top", "-o", "json")[0])
    answered = [one["requestsPerSecond"] for one in (*found["routers"], *found["servers"])]
    return found if all(answered) and found["routers"][0]["firstTokenP50Seconds"] else {}


def program(path: Path, does: str) -> Path:
    """A stand-in for a program, which tells how it was called and who it is."""
    path.write_text(f"#!/bin/sh\necho $@ > {path}.arguments\necho $$ > {path}.pid\n{does}\n")
    path.chmod(0o755)
    return path


def kubectl_that(does: str, folder: Path) -> dict[str, str]:
    """Variables that have a stand-in for kubectl first on the PATH."""
    program(folder / "kubectl", does)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_the_dashboard_is_opened_signed_in(
    cluster: Cluster, fleet: Fleet, kubectl: Kubectl, tmp_path: Path
) -> None:
    admin, page = cluster.kubeconfig, "http://127.0.0.1:1/"
    there = ("dashboard", "--url", page)
    assert "give --token-of SERVICEACCOUNT. To make one:" in called(admin, *there, code=1)[1]
    me = person(fleet, kubectl, tmp_path)
    (user,) = yaml.safe_load(me.read_text())["users"]
    token = user["user"]["token"]
    assert called(me, *there, "--no-browser")[0] == f"{page}#token={token}\n"

    opened = tmp_path / "opened"
    browser = program(tmp_path / "browser", f'printf %s "$1" > {opened}')
    mine = ("--token-of", f"{fleet.namespace}:me")
    said, _ = called(admin, *there, *mine, environment={"BROWSER": f"{browser} %s"})
    assert said == f"The dashboard is at {page}\n"
    other = opened.read_text().removeprefix(f"{page}#token=")
    assert other.count(".") == 2
    assert other != token
    assert "no service account x" in called(admin, *there, "--token-of", "x", code=1)[1]

    # pods here have no port-forward: what kubectl would do, a stand-in does
    listens = 'echo "Forwarding from 127.0.0.1:4567 -> 8080"; exec sleep 600'
    path = kubectl_that(listens, tmp_path)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        forwarded = subprocess.Popen(
            [
                str(PROGRAM),
                "dashboard",
                "--no-browser",
                *mine,
                f"--kubeconfig={admin}",
                "--port=4567",
            ],
            env={**os.environ, **path},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert forwarded.stdout
        assert forwarded.stdout.readline().startswith("http://127.0.0.1:4567/#token=")
        assert forwarded.stdout.readline() == "Ctrl-C ends it.\n"
        child = int((tmp_path / "kubectl.pid").read_text())
        assert alive(child)
        forwarded.send_signal(number)
        assert forwarded.wait(20) == 130
        assert not alive(child)
    asked = (tmp_path / "kubectl.arguments").read_text().split()
    assert asked[:3] == ["port-forward", "--namespace=ollama-fleet", "--address=127.0.0.1"]
    assert asked[3:] == [
        "service/ollama-fleet-console", "4567:8080", f"--kubeconfig={admin}",
    ]  # fmt: skip

    path = kubectl_that('echo "error: unable to listen on port 1" >&2; exit 1', tmp_path)
    why = called(admin, "dashboard", *mine, code=1, environment=path)[1]
    assert why == "error: kubectl port-forward: unable to listen on port 1\n"
    path = kubectl_that(listens.replace("exec sleep 600", "echo lost connection to pod"), tmp_path)
    why = called(admin, "dashboard", *mine, "--no-browser", code=1, environment=path)[1]
    assert why == "error: kubectl port-forward has ended: lost connection to pod. Try again\n"
