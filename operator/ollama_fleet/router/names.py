"""Model names as Ollama reads them: `[host/][namespace/]model[:tag]`, without regard to case."""

from functools import lru_cache

_DEFAULT_HOST = "registry.ollama.ai/"
_DEFAULT_NAMESPACE = "library/"


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The one spelling under which servers and requests are compared.

    `Llama3.1`, `library/llama3.1` and `llama3.1:latest` are the same model.
    """
    name = name.strip().lower().removeprefix(_DEFAULT_HOST).removeprefix(_DEFAULT_NAMESPACE)
    if name and ":" not in name.rpartition("/")[2]:
        name += ":latest"
    return name


def is_cloud(name: str) -> bool:
    """Whether a server would answer for this name by asking somebody else's computer."""
    model, _, tag = name.lower().rpartition("/")[2].partition(":")
    return tag == "cloud" or tag.endswith("-cloud") or model.endswith("-cloud")


def is_host_qualified(name: str) -> bool:
    """Whether the name says which registry it comes from."""
    first, slash, rest = canonical(name).partition("/")
    return bool(slash) and ("/" in rest or "." in first or ":" in first or first == "localhost")
