"""The console as a program, with the rights the chart gives it, and people who ask it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import yaml

from dev.cluster import Cluster
from ollama_fleet.kube import Kube, Object
from tests.component.kube.conftest import REPOSITORY, eventually

PROGRAM = Path(sys.executable).with_name("ollama-fleet-console")
HOME = "ollama-fleet"
_RBAC = "rbac.authorization.k8s.io"


async def install(kube: Kube) -> None:
    """The chart's roles, bindings and service account of the console, and people's roles."""
    meta = {"name": HOME}
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    for name in ("console.yaml", "people.yaml"):
        for one in yaml.safe_load_all((REPOSITORY / "manifests" / name).read_text()):
            if one["kind"] == "ServiceAccount":
                await kube.apply(one)
            elif one["apiVersion"].startswith(_RBAC):
                await _apply(kube, one)


async def _apply(kube: Kube, one: Object) -> None:
    """ClusterRoles are no kind that the programs know."""
    plural = one["kind"].lower() + "s"
    namespace = one["metadata"].get("namespace")
    scope = f"/namespaces/{namespace}" if namespace else ""
    path = f"/apis/{one['apiVersion']}{scope}/{plural}/{one['metadata']['name']}"
    query: dict[str, str | int | bool | None] = {"fieldManager": "tests", "force": True}
    await kube._transport.request("PATCH", path, query, one, "application/apply-patch+yaml")


async def bind(kube: Kube, role: str, account: str, of: str, namespace: str | None) -> None:
    """Give a service account (of a namespace) a ClusterRole in a namespace, or everywhere."""
    kind = "RoleBinding" if namespace else "ClusterRoleBinding"
    meta = {"name": f"{account}-{of}-{role}"} | ({"namespace": namespace} if namespace else {})
    await _apply(
        kube,
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": kind,
            "metadata": meta,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": of}],
        },
    )


async def token(kube: Kube, cluster: Cluster, namespace: str, name: str, folder: Path) -> str:
    """A new service account's token."""
    meta = {"name": name, "namespace": namespace}
    await kube.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    path = await asyncio.to_thread(
        cluster.token_kubeconfig, namespace, name, folder / f"{namespace}-{name}"
    )
    (user,) = yaml.safe_load(path.read_text())["users"]
    return str(user["user"]["token"])


@asynccontextmanager
async def console(
    cluster: Cluster, folder: Path, *arguments: str, **env: str
) -> AsyncIterator[tuple[str, Path]]:
    """It runs, and has seen the fleet: its URL and its log. It ends well when asked to."""
    own = await asyncio.to_thread(
        cluster.token_kubeconfig, HOME, "ollama-fleet-console", folder / "console"
    )
    log = folder / "console.log"
    process = _start(log, arguments, {"KUBECONFIG": str(own), "POD_NAMESPACE": HOME, **env})
    try:
        found = await eventually(
            lambda: re.search(r"serving on 127.0.0.1 port (\d+)", log.read_text()), 30
        )
        url = f"http://127.0.0.1:{found[1]}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as client:

            async def ready() -> bool:
                return (await client.get("/readyz")).status_code == 200

            await eventually(ready, 30)
        yield url, log
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0
    finally:
        process.kill()
        process.wait()


def _start(log: Path, arguments: Iterable[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [str(PROGRAM), "--host=127.0.0.1", "--port=0", *arguments],
            env={**os.environ, **env},
            stdout=out,
            stderr=out,
        )


def person(url: str, bearer: str | None) -> httpx2.AsyncClient:
    """A client that sends this token."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    return httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False, timeout=20)


def told(answer: httpx2.Response) -> tuple[int, str]:
    """The sentence of a refusal; AssertionError where it is none."""
    body = answer.json()
    assert isinstance(body["error"], str), body
    assert body["error"]
    assert "Traceback" not in body["error"]
    return answer.status_code, body["error"]
