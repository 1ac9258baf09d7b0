"""Pods of Python scripts in a namespace of their own, made and looked at by kubectl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dev.cluster import Cluster
from dev.cluster.processes import alive
from dev.cluster.programs import free_ports
from tests.cluster.conftest import Kubectl

Object = dict[str, Any]

SERVER = """
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        closed = self.path == "/ready" and not pathlib.Path("/gate/open").exists()
        self.send_response(503 if closed else 200)
        self.end_headers()
        self.wfile.write(os.environ["HOSTNAME"].encode())
    def log_message(self, *arguments):
        pass
here = (os.environ["POD_IP"], int(os.environ["PORT"]))
http.server.ThreadingHTTPServer(here, Handler).serve_forever()
"""

POD_IP = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}

# Pods have addresses of their own, but a stranger on 0.0.0.0 takes a port from all of them.
(PORT,) = free_ports(1)

WAIT_FOREVER = "import signal; signal.pause()"


def pod(name: str, script: str, container: Object | None = None, **spec: object) -> Object:
    main = {"name": "main", "image": "local/python", "args": ["-c", script], **(container or {})}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 5, **spec, "containers": [main]},
    }


class Namespace:
    """What a test does in its namespace."""

    def __init__(self, cluster: Cluster, kubectl: Kubectl, name: str) -> None:
        self.cluster = cluster
        self.kubectl = kubectl
        self.name = name

    def apply(self, *documents: Object) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        self.kubectl("apply", "-n", self.name, "-f", "-", input=text)

    def get(self, kind: str, name: str) -> Object:
        found = self.kubectl("get", kind, name, "-n", self.name, "-o", "json", "--ignore-not-found")
        document: Object = json.loads(found or "{}")
        return document

    def wait(self, what: str, condition: str, seconds: int = 60) -> None:
        self.kubectl("wait", "-n", self.name, what, f"--for={condition}", f"--timeout={seconds}s")

    def logs(self, name: str) -> str:
        return self.kubectl("logs", "-n", self.name, name)

    def delete(self, name: str, *options: str) -> None:
        self.kubectl("delete", "pod", "-n", self.name, name, *options)

    def folder(self, name: str) -> Path:
        return self.cluster.directory / "pods" / f"{self.name}_{name}"

    def pid(self, name: str) -> int:
        return int((self.folder(name) / "main.pid").read_text())

    def runs(self, name: str) -> bool:
        return (self.folder(name) / "main.pid").exists() and alive(self.pid(name))

    def container(self, name: str) -> Object:
        statuses = self.get("pod", name).get("status", {}).get("containerStatuses") or [{}]
        status: Object = statuses[0]
        return status
