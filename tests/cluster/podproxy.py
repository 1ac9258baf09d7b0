"""An API server that reaches pods, which the real one does not: it refuses addresses of its own
machine, and here all pods have such."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx2
import yaml

from dev.cluster import Cluster
from ollama_fleet.kube.kinds import POD
from tests.cluster.fleet import Api

_POD = re.compile(r"/api/v1/namespaces/([^/]+)/pods/([^/:]+):(\d+)/proxy/(.*)")
_REFUSED = (401, 403)
_HEADERS = ("authorization", "accept", "content-type")


@contextmanager
def reaching_pods(cluster: Cluster, api: Api, kubeconfig: Path) -> Iterator[Path]:
    """A kubeconfig for an API server that answers as the real one does, and for pods of whom it may
    be asked with what these answer; `kubeconfig` has a token."""
    authority = ssl.create_default_context(cafile=cluster.directory / "certificates" / "ca.crt")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = {name: self.headers[name] for name in _HEADERS if name in self.headers}
            answer = upstream.get(self.path, headers=given)
            found = _POD.fullmatch(self.path)
            if found and answer.status_code not in _REFUSED:
                pod = api.get(POD, found[2], found[1]) or {}
                address = f"http://{pod['status']['podIP']}:{found[3]}/{found[4]}"
                answer = httpx2.get(address, trust_env=False)
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with (
        httpx2.Client(base_url=cluster.url, verify=authority, trust_env=False) as upstream,
        ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server,
    ):
        thread = Thread(target=server.serve_forever)
        thread.start()
        config = yaml.safe_load(kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{server.server_port}"}
        other = kubeconfig.with_name(f"{kubeconfig.name}-reaching-pods")
        other.write_text(yaml.safe_dump(config))
        try:
            yield other
        finally:
            server.shutdown()
            thread.join()
