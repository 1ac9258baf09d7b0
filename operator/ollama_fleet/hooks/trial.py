"""`helm test`: a fleet of one server, a model, a chat through a router, and nothing left of it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from ollama_fleet.hooks.waiting import HookFailed, until
from ollama_fleet.kube import Kind, Kube, Object
from ollama_fleet.kube.kinds import CONFIG_MAP, MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER

NAME = "ollama-fleet-test"
_KINDS = (OLLAMA_NODE, MODEL_DISTRIBUTION, ROUTER)
_QUESTION = "Why is the sky blue?"
_ANSWER_WITHIN = 300.0


@dataclass(frozen=True)
class Trial:
    """Where the fleet is made, and of what."""

    namespace: str
    model: str
    ollamanode: Mapping[str, Any]
    """The spec of its OllamaNode."""
    router: Mapping[str, Any]
    """The spec of its Router; `select` is given."""

    def objects(self) -> list[Object]:
        """The three resources of the fleet."""
        only = {"ollamaNodes": [NAME]}
        specs: dict[Kind, Mapping[str, Any]] = {
            OLLAMA_NODE: self.ollamanode,
            MODEL_DISTRIBUTION: {"models": [{"name": self.model}], "target": only},
            ROUTER: {"replicas": 1, **self.router, "select": only},
        }
        return [
            {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": {"name": NAME, "namespace": self.namespace},
                "spec": dict(specs[kind]),
            }
            for kind in _KINDS
        ]


async def attempt(kube: Kube, trial: Trial, within: float) -> str:
    """Make the fleet, chat, and delete it, whatever came of it; the answer.

    HookFailed, with what the resources say, where it is not ready after `within` seconds.
    """
    try:
        for obj in trial.objects():
            await kube.apply(obj, field_manager=NAME)
        await until(lambda: _unready(kube, trial.namespace), within)
        router = await kube.get(ROUTER, NAME, trial.namespace) or {}
        answer = await chat(str(router["status"]["url"]), trial.model)
    finally:
        for kind in reversed(_KINDS):
            await kube.delete(kind, NAME, trial.namespace, propagation="Foreground")
    await until(lambda: _left(kube, trial.namespace), within)
    # The audit manifest, which outlives its ModelDistribution: of this one nobody wants to know.
    await kube.delete(CONFIG_MAP, f"{NAME}-manifest", trial.namespace)
    return answer


async def _unready(kube: Kube, namespace: str) -> str:
    for kind in _KINDS:
        obj = await kube.get(kind, NAME, namespace) or {}
        conditions = (obj.get("status") or {}).get("conditions") or ()
        ready: Mapping[str, str] = next((one for one in conditions if one["type"] == "Ready"), {})
        if ready.get("status") != "True":
            return f"{kind} {NAME}: {ready.get('message') or 'the operator has not answered yet'}"
    return ""


async def _left(kube: Kube, namespace: str) -> str:
    left = [str(kind) for kind in _KINDS if await kube.get(kind, NAME, namespace)]
    return f"waiting for the end of {', '.join(left)} {NAME}" if left else ""


async def chat(url: str, model: str) -> str:
    """A streamed answer; HookFailed where there is none, or it ends early."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "options": {"num_predict": 32},
    }
    pieces: list[str] = []
    done: Mapping[str, Any] = {}
    try:
        async with (
            httpx2.AsyncClient(timeout=_ANSWER_WITHIN) as client,
            client.stream("POST", f"{url}/api/chat", json=body) as answer,
        ):
            if answer.status_code != 200:
                told = (await answer.aread()).decode(errors="replace")[:500]
                raise HookFailed(f"{url}/api/chat answers {answer.status_code}: {told}")
            async for line in answer.aiter_lines():
                done = json.loads(line) if line else done
                pieces.append(str((done.get("message") or {}).get("content") or ""))
    except httpx2.HTTPError as error:
        raise HookFailed(f"{url}/api/chat: {error or type(error).__name__}") from None
    if not done.get("done") or not done.get("eval_count"):
        raise HookFailed(f"{url}/api/chat: the answer ended early, after {''.join(pieces)!r}")
    return "".join(pieces)
