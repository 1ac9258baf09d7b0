"""Where fields are walked: a cluster with GPUs of all kinds, one operator for all namespaces,
servers elsewhere, and in each namespace what fields name."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dev.cluster import Cluster, Machine
from dev.cluster.programs import free_ports
from dev.ollama.certificates import server_context, server_pair
from ollama_fleet.kube.kinds import Object
from tests.cluster.elsewhere import emulator, registry_environment
from tests.cluster.fleet import OPERATOR, Registry
from tests.faults.grounds import Grounds, grounds
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Proxy
from tests.faults.waiting import until

_GIB = 2**30
_MIG = "nvidia.com/mig-1g.10gb"
MACHINES = (
    Machine("gpu-24g", gpus=16, gpu_memory=24 * _GIB),
    Machine("gpu-192g", gpus=8, vendor="amd", gpu_memory=192 * _GIB),
    Machine(
        "gpu-40g",
        gpu_memory=40 * _GIB,
        resources={"nvidia.com/gpu": "0", _MIG: "8"},
        labels={"nvidia.com/mig.strategy": "mixed", f"{_MIG}.memory": "9728"},
    ),
    Machine("gpu-6g", vendor="none"),
)
_OPTIONS = (
    "--host=127.0.0.1",
    "--port=0",
    "--no-leader-elect",
    "--probe-interval=3s",
    "--console=http://console.example.com:8080",
)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_BLANK = re.compile(r"<([^<>]+)>")


@dataclass
class Site:
    """Grounds with an operator, and what the table leaves blank."""

    grounds: Grounds
    proxy: Proxy
    blanks: dict[str, str]

    def fill(self, value: Any, namespace: str) -> Any:
        """Write what stands for a blank in a namespace."""
        if isinstance(value, dict):
            return {key: self.fill(one, namespace) for key, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one, namespace) for one in value]
        if isinstance(value, str):
            known = {**self.blanks, "namespace": namespace}
            return _BLANK.sub(lambda found: known[found[1]], value)
        return value

    def rested(self, namespace: str) -> float:
        """Seconds since the operator last wrote there."""
        now = asyncio.get_running_loop().time()
        mark = f"/namespaces/{namespace}/"
        last = [when for when, call in self.proxy.writes if mark in call.path]
        return now - (last[-1] if last else self.proxy.began)

    @asynccontextmanager
    async def namespace(self) -> AsyncIterator[str]:
        """One that has what fields name."""
        async with self.grounds.namespace() as name:
            for obj in self._named(name):
                await self.grounds.kube.apply(obj, field_manager="tests")
            yield name

    def _named(self, namespace: str) -> list[Object]:
        found: list[Object] = [{"apiVersion": "v1", "kind": "ServiceAccount"} | _meta("walked")]
        for which in ("first", "walked"):
            key = json.dumps({"sha256": hashlib.sha256(which.encode()).hexdigest()})
            pair = {"tls.crt": self.blanks["certificate"], "tls.key": self.blanks["key"]}
            found += [
                {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1", "b": "2"}}
                | _meta(which),
                _secret(which, {"a": "1", "b": "2"}),
                _secret(f"{which}-ca", {"ca.crt": self.blanks["authority"]}),
                _secret(f"{which}-keys", {"client": key}),
                _secret(f"{which}-tls", pair, "kubernetes.io/tls"),
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }
                | _meta(which),
            ]
        return [{**obj, "metadata": {**obj["metadata"], "namespace": namespace}} for obj in found]


def _meta(name: str) -> Object:
    return {"metadata": {"name": name}}


def _secret(name: str, entries: dict[str, str], sort: str = "Opaque") -> Object:
    data = {key: base64.b64encode(one.encode()).decode() for key, one in entries.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": sort, "data": data} | _meta(name)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    """Make it, its files in `folder`; all of it ends in the end."""
    emulated = {"OLLAMA_FLEET_SERVER": "emulator"}
    classes = Path(__file__).with_name("classes.yaml")
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(grounds(folder, MACHINES, emulated, (classes,)))
        proxy = await stack.enter_async_context(Proxy(here.cluster))
        blanks = _times(datetime.now(UTC)) | _pairs(folder) | _registry(here.cluster)
        blanks |= await _boxes(stack, here.cluster, folder)
        kubeconfig = proxy.kubeconfig(folder / "kubeconfig", here.token)
        environment = here.environment(kubeconfig, OPERATOR, "operator")
        operator = OperatorProcess(_OPTIONS, environment, folder / "operator.log")
        operator.start()
        stack.callback(operator.join)
        stack.callback(operator.kill)
        await until(lambda: proxy.watching, "the operator watches")
        yield Site(here, proxy, blanks)


def _times(now: datetime) -> dict[str, str]:
    hours = {f"hour{by:+d}": f"{now + timedelta(hours=by):%H}:00" for by in (-6, -3, 3, 6)}
    # a window that began yesterday is yesterday's
    return hours | {"another day": _DAYS[(now.weekday() + 3) % 7]}


def _pairs(folder: Path) -> dict[str, str]:
    certificate, key = server_pair("localhost", folder)
    return {"certificate": certificate, "key": key}


def _registry(cluster: Cluster) -> dict[str, str]:
    registry = Registry(cluster)
    model = "llama3.2:1b"
    return {
        "registry": registry.url.partition("//")[2],
        f"digest {model}": registry.digest(model),
    }


async def _boxes(stack: AsyncExitStack, cluster: Cluster, folder: Path) -> dict[str, str]:
    """Two servers elsewhere, and one of them by TLS too."""
    environment = registry_environment(cluster)
    ports = free_ports(3)
    for name, port in zip(("one", "two"), ports, strict=False):
        box = emulator(port, folder / f"box-{name}", **environment)
        await asyncio.to_thread(stack.enter_context, box)
    context = server_context("localhost", folder)
    server = await asyncio.start_server(
        lambda reader, writer: _relay(reader, writer, ports[0]),
        "127.0.0.1",
        ports[2],
        ssl=context,
    )
    stack.callback(server.close)
    return {
        "box one": str(ports[0]),
        "box two": str(ports[1]),
        "box TLS": str(ports[2]),
        "authority": (folder / "ca.pem").read_text(),
    }


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    there, back = await asyncio.open_connection("127.0.0.1", port)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError, ssl.SSLError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, back), pump(there, writer))
