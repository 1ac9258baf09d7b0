"""A namespace as it is: what its changes show in, and what is compared."""

from __future__ import annotations

import re
from typing import Any

import httpx2

from ollama_fleet.kube.kinds import POD, Object
from tests.faults.ledger import Ledger, difference, plain

_TOLD = ("name", "weight", "parallel", "headers", "ownAuthority", "tls", "host", "port", "state")
"""What of a server a router knows from the specs."""
_NO_SIGN = re.compile(r"observedGeneration|ollamafleet.dev/applied|ollamafleet.dev/revision")


async def picture(ledger: Ledger, namespace: str) -> dict[str, Any]:
    """All objects as they are, what routers have in force, and the models that servers have."""
    async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
        found: dict[str, Any] = dict(ledger.raw(namespace))
        found["routers"] = [
            _router((await client.get(f"http://{_address(pod)}:9090/debug/state")).json())
            for pod in _pods(ledger, namespace, "ollamafleet.dev/router")
        ]
        found["models"] = {
            _server(pod): {
                one["name"]: one["digest"]
                for one in (await client.get(f"http://{_address(pod)}:11434/api/tags")).json()[
                    "models"
                ]
            }
            for pod in _pods(ledger, namespace, "ollamafleet.dev/ollamanode")
        }
    return found


def same(picture: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Of a picture what must be the same in every namespace and at all times."""
    made: dict[str, Any] = plain(picture, namespace)
    return made


def unlike(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Where two pictures differ, a line each; entries of lists by their names."""
    return difference(_named(before), _named(after))


def signs(lines: list[str], kind: str, name: str) -> list[str]:
    """Those that tell more than that a spec was written."""
    own = tuple(f"/{kind} {name}[0]/{part}" for part in ("spec", "labels", "annotations"))
    return [
        line
        for line in lines
        if not line.startswith(own) and not _NO_SIGN.search(line.partition(": ")[0])
    ]


def _pods(ledger: Ledger, namespace: str, label: str) -> list[Object]:
    return sorted(
        (
            pod
            for pod in ledger.objects(namespace, POD)
            if label in pod["metadata"].get("labels", {})
            and "deletionTimestamp" not in pod["metadata"]
            and any(
                one["type"] == "Ready" and one["status"] == "True"
                for one in pod["status"].get("conditions") or ()
            )
        ),
        key=lambda pod: str(pod["metadata"]["name"]),
    )


def _server(pod: Object) -> str:
    """A DaemonSet's pods are told apart by their machines, as their names are made up."""
    numbered = "statefulset.kubernetes.io/pod-name" in pod["metadata"]["labels"]
    return str(pod["metadata"]["name"] if numbered else pod["spec"]["nodeName"])


def _address(pod: Object) -> str:
    return str(pod["status"]["podIP"])


def _router(state: Any) -> Any:
    return {
        "settings": state["settings"],
        "waitingFor": state["waitingFor"],
        "servers": [{key: one.get(key) for key in _TOLD} for one in state["servers"]],
    }


def _named(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _named(one) for key, one in value.items()}
    if isinstance(value, list):
        names = [one.get("name") if isinstance(one, dict) else None for one in value]
        if names and None not in names and len(set(names)) == len(names):
            return {name: _named(one) for name, one in zip(names, value, strict=True)}
        return [_named(one) for one in value]
    return value
