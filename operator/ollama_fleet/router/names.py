"""Model names as requests spell them, brought to the one spelling they are looked up by."""

from functools import lru_cache

from ollama_fleet.api.names import DEFAULT_HOST, InvalidModelName, ModelName


@lru_cache(maxsize=4096)
def lookup_key(name: str) -> str:
    """`Llama3.1`, `library/llama3.1` and `llama3.1:latest` are the same model."""
    try:
        return ModelName.parse(name).canonical.lower()
    except InvalidModelName:
        return name.lower()


@lru_cache(maxsize=4096)
def is_cloud(name: str) -> bool:
    """Whether a server would answer for this name by asking somebody else's computer."""
    model, _, tag = name.lower().rpartition("/")[2].partition(":")
    return tag == "cloud" or tag.endswith("-cloud") or model.endswith("-cloud")


def is_host_qualified(name: str) -> bool:
    """Whether the name says which registry it comes from."""
    try:
        return ModelName.parse(name).host.lower() != DEFAULT_HOST
    except InvalidModelName:
        return "/" in name
