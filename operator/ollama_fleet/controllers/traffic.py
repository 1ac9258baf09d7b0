"""What routers say of the servers they send requests to, asked only while a server is to stop."""

import asyncio
from collections.abc import Iterable

import httpx

from ollama_fleet.kube import Object
from ollama_fleet.plan.drain import Report, Use
from ollama_fleet.plan.router import ADMIN_PORT

TIMEOUT = 2.0
"""Seconds that a router has to answer."""


async def reports_of(router_pods: Iterable[Object]) -> tuple[Report | None, ...]:
    """The report of each router, None where it does not answer.

    One that listens no longer, or has no address yet, sends nothing anywhere.
    """
    hosts = [pod.get("status", {}).get("podIP") for pod in router_pods]
    # without TLS there is nothing to verify, and reading the authorities takes time
    async with httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, verify=False) as client:  # noqa: S501
        return tuple(await asyncio.gather(*(_report(client, host) for host in hosts if host)))


async def _report(client: httpx.AsyncClient, host: str) -> Report | None:
    address = f"[{host}]" if ":" in host else host
    try:
        answer = await client.get(f"http://{address}:{ADMIN_PORT}/servers")
        answer.raise_for_status()
        return {
            str(one["url"]): Use(taking=one["state"] == "Ready", in_flight=int(one["inFlight"]))
            for one in answer.json()["servers"]
        }
    except httpx.ConnectError:
        return {}
    except (httpx.HTTPError, KeyError, TypeError, ValueError):
        return None
