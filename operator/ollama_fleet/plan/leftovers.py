"""Names of the mirror's that an operator which was stopped in between left on servers."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.names import InvalidModelName, ModelName
from ollama_fleet.plan.servers import Server


@dataclass(frozen=True)
class Leftover:
    """A second name of an installed model, to be removed."""

    server: str
    ollamanode: str
    url: str
    name: str


def leftovers(
    servers: Iterable[Server], mirror: Mirror | None, pulling: Collection[str]
) -> tuple[Leftover, ...]:
    """The mirror's names for models that servers have under their own names too.

    Servers in ``pulling`` are left alone: there the mirror's name is of use still.
    """
    if mirror is None:
        return ()
    return tuple(
        Leftover(server.name, server.ollamanode, server.url, name)
        for server in servers
        if server.reachable and server.url and server.name not in pulling
        for name in _seconds(server, mirror)
    )


def _seconds(server: Server, mirror: Mirror) -> Iterator[str]:
    models = [
        (text, name, (name.model, name.tag, installed.digest))
        for text, installed in server.probe.installed.items()
        if (name := _parsed(text))
    ]
    own = {model for _, name, model in models if name.host != mirror.address}
    for text, name, model in models:
        if name.host == mirror.address and model in own:
            yield text


def _parsed(text: str) -> ModelName | None:
    try:
        return ModelName.parse(text)
    except InvalidModelName:
        return None
