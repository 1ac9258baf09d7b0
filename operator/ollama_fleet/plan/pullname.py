"""The name that a server pulls a model by."""

from ollama_fleet.api.mirror import Mirror
from ollama_fleet.api.modeldistribution import ModelDistributionSpec
from ollama_fleet.api.names import DEFAULT_HOST, ModelName


def pull_name(
    spec: ModelDistributionSpec, model: str, mirror: Mirror | None = None
) -> tuple[str, bool]:
    """The name to pull by, and whether that is in plain HTTP.

    From another registry, and from a mirror, the name carries the host.
    """
    name = ModelName.parse(model)
    own = name.host == DEFAULT_HOST
    if own:
        name = name.with_registry(spec.source.registry)
    asked = mirror.name(name) if mirror and spec.source.mirror else None
    if asked:
        return asked.qualified, True
    given = model if not own or spec.source.registry == DEFAULT_HOST else name.qualified
    return given, spec.source.insecure
