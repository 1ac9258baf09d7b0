"""A real Prometheus over a fleet at work: its rules hold, and every panel shows something."""

from __future__ import annotations

import json
import re
import shlex
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dev import promtool
from dev.cluster.cluster import REPOSITORY
from dev.ollama import process
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD, Object
from tests.cluster.chatting import chatting
from tests.cluster.conftest import Kubectl
from tests.cluster.fleet import (
    OPERATOR,
    SMALL,
    Api,
    Fleet,
    distribution,
    ollama_node,
    router,
)
from tests.cluster.prometheus import Prometheus, dcgm, job, prometheus
from tests.cluster.waiting import eventually

FILES = REPOSITORY / "charts" / "ollama-fleet" / "files"
KEY = "a key of one client"
MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
# what Prometheus itself adds, and what every Python program tells
OTHERS = re.compile(
    r"up|scrape_\w+|ALERTS\w*|python_\w+|\w+_created|DCGM_\w+|namespace_router\w*:.+"
)


@pytest.fixture
def program() -> Path:
    try:
        return promtool.ensure(program="prometheus")
    except promtool.NoPromtool as error:
        pytest.skip(str(error))


def at_work(fleet: Fleet) -> str:
    """A fleet with a router, something that failed once and something that waits; its URL.

    What works is called "a", of whatever kind, as NAME of a runbook may stand for any.
    """
    secret: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "keys"},
        "stringData": {"team-a": json.dumps({"sha256": sha256(KEY.encode()).hexdigest()})},
    }
    auth = {"keysSecretRef": {"name": "keys"}, "anonymous": True}
    fleet.apply(ollama_node(replicas=2, storage={"size": "1Gi"}), secret, router("a", auth=auth))
    fleet.ready(OLLAMA_NODE, "a")
    first, _ = fleet.pods("a")
    fleet.emulator(first).fault("digest_mismatch", path="/api/pull", count=1)
    fleet.apply(distribution("a", SMALL), distribution("absent", "no-such-model:1b"))
    fleet.ready(MODEL_DISTRIBUTION, "a")
    fleet.stalls(MODEL_DISTRIBUTION, "absent", "ModelNotFound")
    url = fleet.url("a")
    with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
        eventually("the router knows the model", lambda: client.get("/api/tags").json()["models"])
    return url


def scraped(fleet: Fleet, api: Api, mirror: str, exporter: str) -> list[dict[str, Any]]:
    """As the chart's monitors have it scraped."""
    (operator,) = (
        pod
        for pod in api.all(POD, OPERATOR)
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == "operator"
    )
    (chat,) = fleet.all(POD, "ollamafleet.dev/router=a")
    console = ask_the_console(api)

    def labels(pod: Object) -> dict[str, str]:
        return {"namespace": pod["metadata"]["namespace"], "pod": pod["metadata"]["name"]}

    return [
        job(
            "operator", {f"{operator['status']['podIP']}:8080": labels(operator)}, honor_labels=True
        ),
        job("console", {f"{console['status']['podIP']}:8080": labels(console)}),
        job("routers", {f"{chat['status']['podIP']}:9090": {**labels(chat), "router": "a"}}),
        job("mirror", {mirror: {"namespace": OPERATOR, "pod": "ollama-fleet-mirror-0"}}),
        job("dcgm", {exporter: {}}),
    ]


def ask_the_console(api: Api) -> Object:
    """Whoever has no token is refused, and counted; its pod."""
    console = api.all(POD, OPERATOR, "app.kubernetes.io/component=console")[0]
    url = f"http://{console['status']['podIP']}:8080/api/agents"
    assert httpx2.get(url, trust_env=False).status_code == 401
    return console


def ask_of_everything(fleet: Fleet, url: str, mirror: str) -> None:
    """Requests that end well, badly and not at all, and a pull through the mirror."""
    first, second = fleet.pods("a")
    with httpx2.Client(base_url=url, timeout=30, trust_env=False) as client:
        for headers in ({"Authorization": f"Bearer {KEY}"}, {}):
            body = {"model": SMALL, "messages": MESSAGES}
            assert client.post("/api/chat", json=body, headers=headers).status_code == 200
        assert client.post("/api/chat", json={"model": "no-such-model"}).status_code == 404
    for pod in (first, second):
        fleet.emulator(pod).fault("busy", path="/api/chat", count=1)
        fleet.emulator(pod).fault("cut_stream", path="/api/chat", count=1)
    with chatting(url, SMALL, 12):
        eventually("requests wait", lambda: _waits(fleet), within=30)
    name, _, tag = SMALL.partition(":")
    with httpx2.Client(base_url=f"http://{mirror}", timeout=30, trust_env=False) as client:
        manifest = client.get(f"/v2/library/{name}/manifests/{tag}").raise_for_status().json()
        digest = manifest["config"]["digest"]
        client.get(f"/v2/library/{name}/blobs/{digest}").raise_for_status()


def _waits(fleet: Fleet) -> bool:
    (pod,) = fleet.all(POD, "ollamafleet.dev/router=a")
    text = httpx2.get(f"http://{pod['status']['podIP']}:9090/metrics", trust_env=False).text
    return "ollama_fleet_router_queue_wait_seconds_count" in text


def test_every_panel_shows_something(
    program: Path, fleet: Fleet, api: Api, kubectl: Kubectl, tmp_path: Path
) -> None:
    log = fleet.cluster.directory / "logs" / "registry.log"
    leading = json.loads(log.read_text().splitlines()[0])["environment"]
    rules = sorted((FILES / "rules").glob("*.yaml"))
    with ExitStack() as stack:
        enter = stack.enter_context
        url = at_work(fleet)
        machines = {pod["spec"]["nodeName"] for pod in fleet.pods("a")}
        exporter = enter(dcgm(sorted(machines)))
        server = enter(process.mirror(tmp_path / "mirror", "--size=1Gi", env=leading))
        mirror = server.url.removeprefix("http://")
        jobs = scraped(fleet, api, mirror, exporter)
        seen = enter(prometheus(program, tmp_path / "prometheus", rules, jobs))
        eventually("everything is scraped", lambda: len(seen.query("up == 1")) == len(jobs))
        ask_of_everything(fleet, url, mirror)
        ask_the_console(api)
        for path in sorted((FILES / "dashboards").glob("*.json")):
            _every_panel(seen, json.loads(path.read_text()), fleet.namespace)
        _rules_hold(seen, fleet.namespace)
        _all_is_documented(seen)
        _runbooks_can_be_followed(kubectl, fleet.namespace, machines.pop())


def _every_panel(seen: Prometheus, dashboard: dict[str, Any], namespace: str) -> None:
    chosen = {"__rate_interval": "1m", "namespace": namespace}
    for variable in dashboard["templating"]["list"][1:]:
        asked = _with(chosen, variable["definition"])
        values = eventually(variable["name"], partial(seen.values, asked), within=20)
        chosen.setdefault(variable["name"], f"({'|'.join(values)})")
    empty = {
        f"{panel['title']}: {target['expr']}"
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    }

    def still_empty() -> set[str]:
        nonlocal empty
        empty = {one for one in empty if not seen.query(_with(chosen, one.partition(": ")[2]))}
        return empty

    try:
        # what a server has in use is known after its next probe
        eventually("all panels show something", lambda: not still_empty(), within=45)
    except AssertionError:
        pytest.fail("nothing is shown by\n" + "\n".join(sorted(empty)))


def _with(chosen: dict[str, str], text: str) -> str:
    """A query as Grafana sends it."""
    return re.sub(r"\$(\w+)", lambda found: chosen[found[1]], text)


def _rules_hold(seen: Prometheus, namespace: str) -> None:
    """Each is evaluated without complaint, and what waits is on its way to be told."""
    rules = [rule for group in seen.ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: rule.get("lastError") for rule in rules if rule["health"] != "ok"} == {}
    alerts = [
        one for one in seen.ask("alerts")["alerts"] if one["labels"].get("namespace") == namespace
    ]
    told = {(one["labels"]["alertname"], one["labels"].get("name")) for one in alerts}
    assert ("OllamaFleetPullFailed", "absent") in told


def _all_is_documented(seen: Prometheus) -> None:
    page = (REPOSITORY / "docs/reference/metrics.md").read_text()
    known = set(re.findall(r"^\| `(\w+)` ", page, re.MULTILINE))
    names = set(seen.ask("label/__name__/values"))
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}
    assert {name for name in told - known if not OTHERS.fullmatch(name)} == set()


def _runbooks_can_be_followed(kubectl: Kubectl, namespace: str, machine: str) -> None:
    """Every look at the cluster that they advise is one that kubectl takes."""
    meant = {"NAMESPACE": namespace, "KIND": "ollamanode", "MACHINE": machine}
    meant |= dict.fromkeys(("NAME", "OLLAMANODE", "DISTRIBUTION", "ROUTER"), "a")
    meant |= dict.fromkeys(("POD", "SERVER"), "a-0")
    looks = set()
    for page in sorted((REPOSITORY / "docs" / "runbooks").glob("*.md")):
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", "").splitlines()
            looks |= {re.split(r"[|#&]", one)[0] for one in lines if one.startswith("kubectl")}
    # the mirror is not in this cluster, nothing here has crashed, and nothing measures pods
    changing = r" (exec|delete|cordon|drain|uncordon|run|top|port-forward) "
    left_out = re.compile(changing + r"|mirror|previous")
    looks = {one for one in looks if not left_out.search(one)}
    assert len(looks) > 15
    for look in sorted(looks):
        words = shlex.split(re.sub(r"\b[A-Z]{3,}\b", lambda found: meant[found[0]], look))
        kubectl(*words[1:])
