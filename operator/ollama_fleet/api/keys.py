"""Who may call a Router and how much: the entries of its keys Secret, one for each client."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ollama_fleet.api.modeldistribution import ModelName

ENTRY = "{sha256: …}"
EXAMPLE = f"{ENTRY}, with what this prints: printf %s KEY | sha256sum"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NO_DIGEST = f"not the SHA-256 of a key, 64 hexadecimal digits: write {EXAMPLE}"


def _digest(value: object) -> str:
    # Never shown: it may be the key itself.
    if not isinstance(value, str) or _DIGEST.fullmatch(value.lower()) is None:
        raise ValueError(_NO_DIGEST)
    return value.lower()


class Client(BaseModel):
    """One client; what is absent has no limit. A misspelt limit would be none: it is refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    sha256: Annotated[str, BeforeValidator(_digest)] = Field(repr=False)
    models: Annotated[list[ModelName], Field(min_length=1, max_length=1024)] | None = None
    requests_per_minute: Annotated[int, Field(ge=1, le=10**9)] | None = None
    tokens_per_minute: Annotated[int, Field(ge=1, le=10**12)] | None = None
    max_concurrent: Annotated[int, Field(ge=1, le=10**6)] | None = None
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an entry, and its text."""

    message: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Clients:
    """The entries of a Secret by their names: those to go by, and those that cannot be read."""

    good: Mapping[str, Client]
    faults: Mapping[str, Fault] = field(default_factory=dict)


def clients_in(entries: Mapping[str, str], read: Callable[[str], object]) -> Clients:
    """Clients out of texts; `read` makes a value of a YAML text, or raises ValueError."""
    good: dict[str, Client] = {}
    faults: dict[str, Fault] = {}
    owners: dict[str, str] = {}
    for name, text in sorted(entries.items()):
        try:
            client = _client(text, read)
        except ValueError as error:
            faults[name] = Fault(f"entry {name}: {error}", text)
            continue
        owner = owners.setdefault(client.sha256, name)
        if owner == name:
            good[name] = client
        else:
            same = f"entry {name}: it has the same key as {owner}: give each client one of its own"
            faults[name] = Fault(same, text)
    return Clients(good, faults)


def _client(text: str, read: Callable[[str], object]) -> Client:
    try:
        value = read(text)
    except ValueError:
        raise ValueError(f"not YAML: write {EXAMPLE}") from None
    if not isinstance(value, Mapping):
        raise ValueError(f"not a mapping: write {EXAMPLE}")
    try:
        return Client.model_validate(value)
    except ValidationError as error:
        raise ValueError(_told(error)) from None


def _told(error: ValidationError) -> str:
    """The first mistake, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        fields = ", ".join(str(one.alias) for one in Client.model_fields.values())
        return f"{where}: there is no such field; there are {fields}"
    if first["type"] == "missing":
        return f"{where} is missing: write {EXAMPLE}"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
