"""Pictures of the dashboard over a fleet that works (`make screenshots`).

The cluster is the local one with four GPU machines, servers are emulated with the real models'
sizes; the figures are those of the moment.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import Page

from dev import fleet
from dev.browser import chromium
from dev.chart import find_helm
from dev.cluster import DEFAULT_MACHINES, Cluster, ClusterError, Machine
from dev.cluster.cluster import REPOSITORY
from dev.demo.chats import load

Run = Callable[..., str]
"""Runs kubectl with some arguments."""

IMAGES = REPOSITORY / "docs" / "images"
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
DESKTOP, PHONE = 1280, 390


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


def main() -> None:
    """Start it all, take the pictures, stop it all."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "cluster"
        directory.mkdir()
        (directory / "environment.json").write_text(json.dumps(ENVIRONMENT))
        machines = (*DEFAULT_MACHINES, Machine("gpu-48g", gpu_memory=48 * 2**30))
        cluster = Cluster.start(directory, machines, models="sized:0", say=print)
        try:
            fleet.install(cluster, find_helm(print))
            _pictures(cluster, Path(folder))
        finally:
            cluster.stop()


def _pictures(cluster: Cluster, folder: Path) -> None:
    run = partial(fleet.kubectl, cluster)
    run("create", "namespace", NAMESPACE)
    run("create", "serviceaccount", PERSON, "-n", NAMESPACE)
    account = f"--serviceaccount={NAMESPACE}:{PERSON}"
    run(
        "create",
        "rolebinding",
        PERSON,
        "-n",
        NAMESPACE,
        account,
        "--clusterrole=ollama-fleet-editor",
    )
    fleet.apply_sample(cluster, NAMESPACE)
    _until("the fleet is ready", lambda: _is_ready(run))
    _apply(run, folder, LATE)
    url = run("get", "router", "chat", "-n", NAMESPACE, "-o", "jsonpath={.status.url}")
    pod = ("get", "pod", "-n", "ollama-fleet", "-l", "app.kubernetes.io/component=console")
    address = run(*pod, "-o", "jsonpath={.items[0].status.podIP}")
    config = cluster.token_kubeconfig(NAMESPACE, PERSON, folder / PERSON)
    (user,) = yaml.safe_load(config.read_text())["users"]
    with _asking(url), chromium() as browser:
        time.sleep(15)
        _apply(run, folder, [LAST])
        time.sleep(6)
        for name, theme, width, height, where in (
            ("dashboard-overview", "light", DESKTOP, 866, ""),
            ("dashboard-dark", "dark", DESKTOP, 490, "routers"),
            ("dashboard-models", "light", DESKTOP, 520, "models"),
            ("dashboard-phone", "light", PHONE, 844, "servers"),
        ):
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if theme == "dark" else "light",
            )
            _enter(page, f"http://{address}:8080", user["user"]["token"], where)
            page.screenshot(path=IMAGES / f"{name}.png")
            page.close()


def _enter(page: Page, url: str, token: str, where: str) -> None:
    page.goto(f"{url}/#token={token}")
    page.wait_for_selector("#who:not(:empty)")
    page.click(f'#nav a[href="#/{where}"]')
    # figures of routers come with the second look at them
    page.wait_for_timeout(6000)


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


def _until(what: str, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not check():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: not so within {WITHIN:.0f} s")
        time.sleep(0.5)


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


if __name__ == "__main__":
    main()
