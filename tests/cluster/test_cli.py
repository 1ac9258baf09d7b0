"""`kubectl ollama`, as a person calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import httpx2
import pytest
import yaml

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER
from ollama_fleet.plan.anew import RETRY_AT
from tests.cluster.fleet import (
    LARGE,
    SMALL,
    Fleet,
    Registry,
    distribution,
    ollama_node,
    router,
    told,
)
from tests.cluster.operating import operating
from tests.cluster.waiting import eventually


class Ollama(Protocol):
    """`kubectl ollama`; stdout and stderr."""

    def __call__(self, *arguments: str, code: int = 0) -> tuple[str, str]: ...


def environment(cluster: Cluster) -> dict[str, str]:
    """The administrator's, with the plugin on the path, and models' registry as pods see it."""
    here = json.loads((cluster.directory / "environment.json").read_text())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, **here, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig)}


@pytest.fixture
def ollama(cluster: Cluster, fleet: Fleet) -> Ollama:
    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        done = subprocess.run(
            [str(cluster.kubectl), "ollama", *arguments, "-n", fleet.namespace],
            env=environment(cluster),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    return run


def told_of(rows: list[dict[str, str]], namespace: str) -> set[str]:
    return {row["what"] for row in rows if row["namespace"] == namespace}


def test_a_pull_is_waited_for_while_the_operator_is_killed(
    cluster: Cluster, fleet: Fleet, alone: None, registry: Registry, tmp_path: Path
) -> None:
    fleet.apply(ollama_node(replicas=2))
    said = tmp_path / "said"
    command = [str(cluster.kubectl), "ollama", "pull", LARGE, "--wait", "-n", fleet.namespace]
    with registry.pace(4e6):
        with operating(fleet, tmp_path), said.open("w") as log:
            fleet.ready(OLLAMA_NODE, "a")
            pull = subprocess.Popen(
                command, env=environment(cluster), stdout=log, stderr=subprocess.STDOUT
            )
            eventually("bytes have come", lambda: "25 %" in said.read_text())
        assert pull.poll() is None
    try:
        with operating(fleet, tmp_path):
            assert pull.wait(60) == 0, said.read_text()
    finally:
        pull.kill()
    lines = said.read_text().splitlines()
    assert lines[0] == f"ModelDistribution pulled wants {LARGE}"
    assert {f"a-0: {LARGE} is installed", f"a-1: {LARGE} is installed"} <= set(lines)
    assert told(fleet.tasks("pulled"), "server", "state") == [
        ("a-0", "Installed"),
        ("a-1", "Installed"),
    ]


def test_a_fleet_is_seen_and_driven(ollama: Ollama, fleet: Fleet) -> None:
    assert ollama("status", code=0)[0].startswith("0 of 0 servers ready")
    fleet.apply(ollama_node("a"), ollama_node("b"), router())
    fleet.ready(OLLAMA_NODE, "a")
    fleet.ready(OLLAMA_NODE, "b")

    said, _ = ollama("pull", SMALL, "--to", "a", "--wait")
    assert f"a-0: {SMALL} is installed" in said
    ollama("pull", "all-minilm", "--to", "a", "--wait")
    wanted = fleet.get(MODEL_DISTRIBUTION, "pulled-a") or {}
    assert wanted["spec"]["target"] == {"ollamaNodes": ["a"]}
    names = {one["name"] for one in wanted["spec"]["models"]}
    assert names == {SMALL, "all-minilm:latest"}

    _, why = ollama("pull", "llama3.1:9b", "--to", "b", "--wait", "--timeout", "50", code=1)
    assert "ModelNotFound" in why or "has no llama3.1:9b" in why
    _, why = ollama("pull", SMALL, "--to", "c", code=1)
    assert why == "error: no OllamaNode or server is called c: OllamaNodes here are a, b\n"

    rows = json.loads(ollama("models", "-o", "json")[0])
    assert {"a-0"} == {
        server
        for row in rows
        if row["model"] == SMALL
        for server, state in row["servers"].items()
        if state == "installed"
    }
    assert "ModelDistribution pulled-b  ModelNotFound" in ollama("status")[0]

    assert "was given up nowhere" in ollama("retry", SMALL, code=1)[1]
    said, _ = ollama("retry", "llama3.1:9b")
    assert said == "ModelDistribution pulled-b tries again: llama3.1:9b on b-0\n"
    meta = (fleet.get(MODEL_DISTRIBUTION, "pulled-b") or {})["metadata"]
    assert RETRY_AT in meta["annotations"]

    fleet.ready(ROUTER, "chat")
    answer, _ = ollama("chat", SMALL, "hi")
    assert answer.strip()
    assert f"model '{LARGE}' not found" in ollama("chat", LARGE, "hi", code=1)[1]

    rows = json.loads(ollama("doctor", "-o", "json", code=1)[0])
    assert "ModelDistribution pulled-b" in told_of(rows, fleet.namespace)
    assert told_of(rows, "") == set()

    fits = json.loads(ollama("fit", SMALL, "-o", "json")[0])
    assert [(row["server"], row["fits"]) for row in fits] == [("a-0", True), ("b-0", True)]
    # stand-ins are small: what is known without the registry is not
    without = ("--registry", "127.0.0.1:1", "--context-length", "131072")
    table, _ = ollama("fit", "gpt-oss:120b", *without, code=1)
    assert [line.split()[:2] for line in table.splitlines()[2:]] == [["a-0", "no"], ["b-0", "no"]]
    assert "try again where" in ollama("fit", "strange:1b", *without, code=1)[1]

    assert ollama("cordon", "b")[0] == "OllamaNode b cordoned\n"
    node: dict[str, Any] = fleet.get(OLLAMA_NODE, "b") or {}
    assert node["spec"]["cordoned"] is True
    assert node["spec"]["replicas"] == 1
    assert ollama("cordon", "b")[0] == "OllamaNode b is cordoned already\n"
    assert ollama("uncordon", "b")[0] == "OllamaNode b uncordoned\n"
    assert (fleet.get(OLLAMA_NODE, "b") or {})["spec"]["cordoned"] is False


def test_a_policy_is_written_and_what_it_did_is_told(
    ollama: Ollama, fleet: Fleet, cluster: Cluster
) -> None:
    fleet.apply(ollama_node(replicas=3), router(accessLog=True))
    fleet.ready(OLLAMA_NODE, "a")
    both = ("distribute", SMALL, "llama3.2:3b", "--name", "both")

    made = yaml.safe_load(ollama(*both, "--max-parallel", "3", "--dry-run", "client")[0])
    checked = yaml.safe_load(ollama(*both, "--max-parallel", "3", "--dry-run", "server")[0])
    assert made["spec"] == checked["spec"]
    assert "uid" in checked["metadata"]
    assert fleet.get(MODEL_DISTRIBUTION, "both") is None
    large = ("gpt-oss:120b", "--registry", "127.0.0.1:1")
    told_no, why = ollama("distribute", SMALL, *large, code=1)
    assert "gpt-oss:120b  a-2     no" in told_no
    assert "nothing is written, as not all of it fits" in why
    assert fleet.all(MODEL_DISTRIBUTION) == []
    assert ollama(*both, "--digest", "1", code=1)[1].startswith("error: --digest is of one model")

    said, _ = ollama(*both, "--max-parallel", "3")
    assert f"ModelDistribution both wants {SMALL}, llama3.2:3b" in said
    wanted = fleet.ready(MODEL_DISTRIBUTION, "both")
    assert wanted["spec"] == made["spec"]
    fleet.patch(MODEL_DISTRIBUTION, "both", {"spec": {"rollout": {"maxParallel": 1}}})
    assert "somebody else has set that" in ollama(*both, "--max-parallel", "2", code=1)[1]
    ollama("distribute", SMALL, "--name", "both")
    names = (fleet.get(MODEL_DISTRIBUTION, "both") or {})["spec"]["models"]
    assert names == [{"name": SMALL}]
    fleet.apply(distribution("other", SMALL))
    assert "distribute did not make it" in ollama(*both[:-1], "other", code=1)[1]

    assert ollama("suspend", "both", "other")[0].splitlines() == [
        "ModelDistribution both suspended",
        "ModelDistribution other suspended",
    ]
    assert (fleet.get(MODEL_DISTRIBUTION, "both") or {})["spec"]["suspend"] is True
    assert "is suspended already" in ollama("suspend", "both")[0]
    assert ollama("resume", "both")[0] == "ModelDistribution both resumed\n"
    assert "no ModelDistribution x in" in ollama("suspend", "x", code=1)[1]

    # of three servers one has another model under that name
    (odd,) = (pod for pod in fleet.pods("a") if pod["metadata"]["name"] == "a-1")
    fleet.emulator(odd).copy("llama3.2:3b", SMALL)

    def row() -> dict[str, Any]:
        rows = json.loads(ollama("models", "-o", "json")[0])
        return next(one for one in rows if one["model"] == SMALL)

    drifted = {"a-0": "installed", "a-1": "drifted", "a-2": "installed"}
    eventually("the other digest is told", lambda: row()["servers"] == drifted)
    found = row()
    assert found["digests"]["a-0"] == found["digests"]["a-2"] == found["digest"]
    assert found["digests"]["a-1"] != found["digest"]
    assert f"drifted ({found['digests']['a-1'][7:19]})" in ollama("models", "-o", "wide")[0]

    url = fleet.url()
    lines = ollama("logs", "a", "--tail", "1")[0].splitlines()
    assert [line.split(": ")[0] for line in lines] == ["a-0", "a-1", "a-2"]
    assert not ollama("logs", "a-0", "--tail", "1")[0].startswith("a-0: ")
    assert len(ollama("logs", "operator", "--tail", "5")[0].splitlines()) == 5
    assert "is called x: name one of a, chat, or say" in ollama("logs", "x", code=1)[1]
    assert "no pod of a mirror" in ollama("logs", "mirror", code=1)[1]
    assert "'10' is not a duration" in ollama("logs", "a", "--since", "10", code=2)[1]
    following(cluster, fleet, url)

    def completed(*words: str) -> list[str]:
        """As kubectl has it, which asks the plugin: nothing where Kubernetes is slow to answer."""
        command = [str(cluster.kubectl), "__complete", "ollama", *words]
        done = subprocess.run(
            command, env=environment(cluster), capture_output=True, text=True, timeout=60
        )
        *found, directive = done.stdout.splitlines()
        assert directive == ":4", done.stdout + done.stderr
        return [line.split("\t")[0] for line in found]

    def completes(wanted: list[str], *words: str) -> None:
        eventually(f"{words} is completed by {wanted}", lambda: completed(*words) == wanted)

    here = ("-n", fleet.namespace)
    assert completed("st") == ["status"]
    completes(["llama3.2:1b", "llama3.2:3b"], "pull", *here, "llama3.2:")
    completes(["a", "a-0", "a-1", "a-2"], "pull", SMALL, *here, "--to", "a")
    completes(["console", "chat"], "logs", *here, "c")
    completes(["both", "other"], "suspend", *here, "")
    completes([fleet.namespace], "status", "-n", fleet.namespace)


def following(cluster: Cluster, fleet: Fleet, url: str) -> None:
    """Follow a Router's log until it tells of a call that came after."""
    log = subprocess.Popen(
        [str(cluster.kubectl), "ollama", "logs", "chat", "-f", "-n", fleet.namespace],
        env=environment(cluster),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert log.stdout
        assert log.stdout.readline()
        httpx2.get(f"{url}/api/nothing", trust_env=False)
        assert any("/api/nothing" in line for line in log.stdout)
        log.send_signal(signal.SIGINT)
        assert log.wait(20) == 130
    finally:
        log.kill()


def test_what_goes_wrong_is_one_line(ollama: Ollama, tmp_path: Path) -> None:
    def line(*arguments: str, code: int = 1) -> str:
        (said,) = ollama(*arguments, code=code)[1].splitlines()
        return said

    assert line("status", "--context", "x").startswith("error: no context 'x' in ")
    assert line("status", "--kubeconfig", str(tmp_path / "none")).endswith(
        "point KUBECONFIG at one"
    )
    assert "no OllamaNode z in namespace" in line("cordon", "z")
    assert "is no model name" in line("pull", "a b")
    assert line("pull", code=2).endswith("See kubectl-ollama pull --help.")


def test_a_client_gets_a_key_and_loses_it(ollama: Ollama, fleet: Fleet) -> None:
    fleet.apply(ollama_node(), router(auth={"keysSecretRef": {"name": "keys"}}))
    ollama("pull", SMALL, "--wait")

    key = ollama("keys", "create", "team", "--requests-per-minute", "1000")[0].strip()
    assert len(key) == 64
    assert "has a key already" in ollama("keys", "create", "team", code=1)[1]
    other = ollama("keys", "create", "other", "--model", SMALL)[0].strip()
    rows = json.loads(ollama("keys", "list", "-o", "json")[0])
    assert told(rows, "client", "requestsPerMinute", "models") == [
        ("other", None, [SMALL]),
        ("team", 1000, None),
    ]
    assert key not in json.dumps(rows)

    fleet.ready(ROUTER, "chat")
    eventually("the key is known", lambda: answered(ollama, key))
    assert answered(ollama, other)
    ollama("keys", "revoke", "team")
    eventually("the key is refused", lambda: not answered(ollama, key))
    assert answered(ollama, other)
    assert "OLLAMA_FLEET_KEY" in ollama("chat", SMALL, "hi", code=1)[1]
    assert "on one line" in ollama("chat", SMALL, "hi", "--key", "one\ntwo", code=1)[1]
    assert "there are other" in ollama("keys", "revoke", "team", code=1)[1]


def answered(ollama: Ollama, key: str) -> bool:
    try:
        return bool(ollama("chat", SMALL, "hi", "--key", key)[0].strip())
    except AssertionError as refused:
        if "401" not in str(refused):
            raise
        return False
