"""Who can describe a model that is installed."""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ollama_fleet.plan.demands import key
from ollama_fleet.plan.servers import Server


class Holder(NamedTuple):
    """A server, of an OllamaNode, that has a model under that name."""

    ollamanode: str
    url: str
    model: str


def holders(servers: Iterable[Server], models: Collection[str]) -> dict[str, list[Holder]]:
    """Who has those models and would answer, by the digest of what it has: one name may stand for
    different models on different servers."""
    wanted = {key(model) for model in models}
    found: dict[str, list[Holder]] = {}
    for server in servers:
        if not server.answers or server.url is None:
            continue
        for model, installed in server.probe.installed.items():
            if key(model) in wanted and installed.digest:
                holder = Holder(server.ollamanode, server.url, model)
                found.setdefault(installed.digest, []).append(holder)
    return found
