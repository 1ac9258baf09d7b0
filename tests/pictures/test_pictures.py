"""The dashboard over the demo's fleet at work, and pictures of it (`make screenshots`).

The cluster is the local one with four GPU machines, servers are emulated with the real models'
sizes; the figures are those of the moment.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import expect

from dev import fleet
from dev.browser import chromium
from dev.chart import find_helm
from dev.cluster import DEFAULT_MACHINES, Cluster, Machine
from dev.demo.chats import load
from tests.browsing import found_by_axe, too_wide, turn_to, visit
from tests.cluster.waiting import eventually

Run = Callable[..., str]
"""Runs kubectl with some arguments."""

NAMESPACE, PERSON = "llm", "ada"
ENVIRONMENT = {
    "OLLAMA_FLEET_SERVER": "emulator",
    "EMULATOR_PULL_BYTES_PER_SECOND": "420M",
    "EMULATOR_LOAD_BYTES_PER_SECOND": "10G",
    "EMULATOR_TOKENS_PER_SECOND": "38",
}
ASKED = {"gpt-oss:20b": 3, "llama3.1:8b": 2, "qwen3:4b": 1}
"""How many ask each model, one question after the other."""
WITHIN = 120.0
SPEED = "MB/s"
"""What a pull shows; it begins when that is waited for."""
IN_MEMORY = re.compile(r"12g\D[\s\S]{0,60}llama3.1:8b[\s\S]*6g\D[\s\S]{0,60}qwen3:4b")
PICTURES: tuple[tuple[str, str, tuple[int, int], str, tuple[re.Pattern[str] | str, ...]], ...] = (
    (
        "dashboard-overview",
        "light",
        (1280, 866),
        "",
        (
            re.compile(r"requests/s\s*[\d.]*[1-9]"),
            IN_MEMORY,
            "Unschedulable:",
            "DoesNotFit:",
            SPEED,
        ),
    ),
    (
        "dashboard-dark",
        "dark",
        (1280, 490),
        "routers",
        (re.compile(r"tokens/s\s*[\d.]*[1-9]"), "closed"),
    ),
    ("dashboard-models", "light", (1280, 520), "models", ("in memory", "misfit", "llama3.3:70b")),
    ("dashboard-phone", "light", (390, 844), "servers", ("fleet-gpu-48g",)),
)
"""The name of each, its theme and size, the page, and what is to be there before."""


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    head = {"apiVersion": "ollamafleet.dev/v1alpha1", "kind": kind}
    return {**head, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _distribution(name: str, model: str, **spec: Any) -> dict[str, Any]:
    return _resource("ModelDistribution", name, {"models": [{"name": model}], **spec})


SPARE = {
    "replicas": 1,
    "gpu": {"vendor": "nvidia", "memory": "80Gi"},
    "storage": {"ephemeral": True},
}
LATE = [
    _resource("OllamaNode", "a100", SPARE),
    _distribution("drafts", "qwen3:14b", target={"servers": ["fleet-gpu-24g", "fleet-gpu-6g"]}),
]
LAST = _distribution("big", "llama3.3:70b", target={"servers": ["fleet-gpu-48g"]})


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """The demo's, and a machine more; the operator is installed."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
    machines = (*DEFAULT_MACHINES, Machine("gpu-48g", gpu_memory=48 * 2**30))
    cluster = Cluster.start(directory, machines, models="sized:0", say=print)
    try:
        fleet.install(cluster, find_helm(print))
        yield cluster
    finally:
        cluster.stop()


def test_a_fleet_at_work(cluster: Cluster, tmp_path: Path, into: Path) -> None:
    run: Run = partial(fleet.kubectl, cluster)
    here = ("-n", NAMESPACE)
    run("create", "namespace", NAMESPACE)
    run("create", "serviceaccount", PERSON, *here)
    may = (f"--serviceaccount={NAMESPACE}:{PERSON}", "--clusterrole=ollama-fleet-editor")
    run("create", "rolebinding", PERSON, *here, *may)
    fleet.apply_sample(cluster, NAMESPACE)
    eventually("the fleet is ready", lambda: _is_ready(run), within=WITHIN)
    _apply(run, tmp_path, LATE)
    drafts = ("get", "modeldistribution", "drafts", *here, "-o", "jsonpath={.status.summary}")
    eventually("a draft is there", lambda: '"installed":1' in run(*drafts), within=WITHIN)
    url = run("get", "router", "chat", *here, "-o", "jsonpath={.status.url}")
    pod = ("get", "pod", "-n", "ollama-fleet", "-l", "app.kubernetes.io/component=console")
    address = run(*pod, "-o", "jsonpath={.items[0].status.podIP}")
    config = cluster.token_kubeconfig(NAMESPACE, PERSON, tmp_path / PERSON)
    (user,) = yaml.safe_load(config.read_text())["users"]
    with _asking(url), chromium() as browser:
        for name, theme, size, where, shows in PICTURES:
            with visit(browser, size, theme) as page:
                page.goto(f"http://{address}:8080/#token={user['user']['token']}")
                expect(page.locator("#who")).to_have_text(f"{NAMESPACE}:{PERSON}")
                turn_to(page, where)
                for words in shows:
                    if words == SPEED:
                        _apply(run, tmp_path, [LAST])
                    expect(page.locator("main")).to_contain_text(words, timeout=WITHIN * 1000)
                assert found_by_axe(page) == []
                assert too_wide(page) <= 0
                page.screenshot(path=into / f"{name}.png")


def _apply(run: Run, folder: Path, objects: list[dict[str, Any]]) -> None:
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(objects))
    run("apply", "-f", str(path))


def _is_ready(run: Run) -> bool:
    told = json.loads(run("get", "ollama", "-n", NAMESPACE, "-o", "json"))["items"]
    conditions = [
        one
        for item in told
        for one in (item.get("status") or {}).get("conditions", ())
        if one["type"] == "Ready"
    ]
    return len(conditions) == len(told) and all(one["status"] == "True" for one in conditions)


@contextmanager
def _asking(url: str) -> Iterator[None]:
    """People who ask, until the block ends."""
    stop, loop = asyncio.Event(), asyncio.new_event_loop()

    async def work() -> None:
        asked = (load(url, model, count, stop, 100_000) for model, count in ASKED.items())
        await asyncio.gather(*asked)

    thread = threading.Thread(target=lambda: loop.run_until_complete(work()), daemon=True)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
