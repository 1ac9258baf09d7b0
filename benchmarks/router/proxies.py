"""The proxies that are compared: how each is installed, configured and started."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_HERE = Path(__file__).parent
_CACHE = Path.home() / ".cache" / "ollama-fleet" / "benchmarks"

_NGINX = """
worker_processes 1; daemon off; master_process off; pid {directory}/pid; error_log /dev/null;
worker_rlimit_nofile {files};
events {{ worker_connections {files}; }}
http {{
  access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
  fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
  client_body_buffer_size 64k; keepalive_requests 1000000000; proxy_read_timeout 600s;
  upstream servers {{ least_conn; {servers} keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://servers; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
_HAPROXY = """
global
  nbthread 1
  maxconn {connections}
defaults
  mode http
  option http-no-delay
  http-reuse always
  timeout connect 5s
  timeout client 600s
  timeout server 600s
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  default_backend servers
backend servers
  balance leastconn
{servers}
"""


@dataclass(frozen=True)
class Place:
    """Where a proxy is to listen (and on a `spare` port), its servers, and a folder of its own."""

    directory: Path
    port: int
    spare: int
    servers: Sequence[int]
    files: int


@dataclass(frozen=True)
class Proxy:
    """`command` writes the configuration. `streams` is how many it is asked to hold open."""

    name: str
    command: Callable[[Place], list[str]]
    ready: str
    streams: int | None = None
    slow: bool = False


def router(place: Place) -> list[str]:
    config = place.directory / "router.yaml"
    backends = [{"url": f"http://127.0.0.1:{port}"} for port in place.servers]
    limits = {"connections": place.files}
    # as many at a time as the others let through
    queue = {"perServer": 512}
    config.write_text(json.dumps({"backends": backends, "limits": limits, "queue": queue}))
    return [
        sys.executable, "-m", "ollama_fleet.router.main", "--config", str(config),
        "--host", "127.0.0.1", "--port", str(place.port), "--metrics-port", "0",
    ]  # fmt: skip


def nginx(place: Place) -> list[str]:
    config = place.directory / "nginx.conf"
    servers = " ".join(f"server 127.0.0.1:{port};" for port in place.servers)
    config.write_text(
        _NGINX.format(
            directory=place.directory, port=place.port, servers=servers, files=place.files
        )
    )
    return ["nginx", "-c", str(config), "-p", str(place.directory)]


def haproxy(place: Place) -> list[str]:
    config = place.directory / "haproxy.cfg"
    servers = "\n".join(
        f"  server s{index} 127.0.0.1:{port}" for index, port in enumerate(place.servers)
    )
    connections = place.files // 2 - 50
    config.write_text(_HAPROXY.format(port=place.port, servers=servers, connections=connections))
    return ["haproxy", "-db", "-f", str(config)]


def vllm_router(place: Place) -> list[str]:
    urls = [f"http://127.0.0.1:{port}" for port in place.servers]
    return [
        str(installed("vllm-router") / "bin" / "vllm-router"), "--host", "127.0.0.1",
        "--port", str(place.port), "--policy", "power_of_two", "--log-level", "error",
        "--prometheus-port", str(place.spare), "--worker-urls", *urls,
    ]  # fmt: skip


def litellm(place: Place) -> list[str]:
    config = place.directory / "litellm.yaml"
    models = [
        {
            "model_name": "m",
            "litellm_params": {
                "model": "openai/m",
                "api_base": f"http://127.0.0.1:{port}/v1",
                "api_key": "none",
            },
        }
        for port in place.servers
    ]
    open_to_all = {"dangerously_permit_weak_or_unset_master_key": True}
    config.write_text(json.dumps({"model_list": models, "general_settings": open_to_all}))
    return [
        str(installed("litellm") / "bin" / "litellm"), "--config", str(config),
        "--host", "127.0.0.1", "--port", str(place.port), "--num_workers", "1",
    ]  # fmt: skip


def installed(name: str) -> Path:
    """The environment of a peer from PyPI, made on first use; raises CalledProcessError."""
    pinned = _HERE / f"requirements-{name}.txt"
    place = _CACHE / f"{name}-{hashlib.sha256(pinned.read_bytes()).hexdigest()[:12]}"
    if not (place / "ready").is_file():
        print(f"installing {name}, once", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run(
            [
                str(place / "bin" / "python"), "-m", "pip", "install", "--quiet",
                "--disable-pip-version-check", "--require-hashes", "-r", str(pinned),
            ],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        (place / "ready").touch()
    return place


def available() -> list[Proxy]:
    """The proxies that can run here; says which cannot."""
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"{' and '.join(missing)} not found: apt-get install nginx-light wrk")
    proxies = [
        Proxy("nginx", nginx, "/api/version"),
        Proxy("router", router, "/readyz"),
    ]
    if shutil.which("haproxy") is None:
        print("without HAProxy: apt-get install haproxy")
    else:
        proxies.append(Proxy("haproxy", haproxy, "/api/version"))
    for peer in (
        Proxy("vllm-router", vllm_router, "/health"),
        Proxy("litellm", litellm, "/health/liveliness", streams=500, slow=True),
    ):
        try:
            installed(peer.name)
            proxies.append(peer)
        except (subprocess.CalledProcessError, OSError) as error:
            told = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
            print(f"without {peer.name}, which could not be installed: {told}")
    return proxies
