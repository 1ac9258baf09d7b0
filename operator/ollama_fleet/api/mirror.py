"""Models by way of the fleet's mirror: how their names tell it which registry is meant.

Ollama lets a model's name carry one host, which is then the mirror's, and no dot or colon in its
namespace. So the registry stands before the namespace, its dots written `_` and its colon `__`:
hf.co/team/model is asked of a mirror as mirror:5000/hf_co___team/model. What comes from the
default registry is written as there: mirror:5000/library/llama3.2:1b.
"""

import re
from dataclasses import dataclass

from ollama_fleet.api.names import DEFAULT_HOST, InvalidModelName, ModelName

_AFTER_REGISTRY = "___"
_REGISTRY = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class Mirror:
    """A mirror: where it answers in plain HTTP (`host[:port]`), and the registries it serves."""

    address: str
    registries: frozenset[str]

    def name(self, model: ModelName) -> ModelName | None:
        """The name to ask the mirror by; None where a model comes only from its registry itself."""
        if model.host.lower() not in self.registries:
            return None
        try:
            return at_mirror(model, self.address)
        except InvalidModelName:
            return None


def at_mirror(name: ModelName, mirror: str) -> ModelName:
    """The name to ask a mirror (`host[:port]`) by; raises InvalidModelName where none can be
    written."""
    namespace = name.namespace
    if name.host.lower() != DEFAULT_HOST or _AFTER_REGISTRY in namespace:
        if not _REGISTRY.fullmatch(name.host):
            raise InvalidModelName(
                f"{name.host!r} cannot be asked through a mirror: it may hold letters, digits, "
                "- and ., and a port"
            )
        registry = name.host.replace(".", "_").replace(":", "__")
        namespace = f"{registry}{_AFTER_REGISTRY}{namespace}"
    return ModelName.parse(f"{mirror}/{namespace}/{name.model}:{name.tag}")


def asked_of_mirror(namespace: str, model: str, tag: str) -> ModelName:
    """What a mirror is asked for, of the registry meant; raises InvalidModelName."""
    registry, found, rest = namespace.partition(_AFTER_REGISTRY)
    if not found:
        return ModelName.parse(f"{DEFAULT_HOST}/{namespace}/{model}:{tag}")
    host = registry.replace("__", ":").replace("_", ".")
    return ModelName.parse(f"{host}/{rest}/{model}:{tag}")
