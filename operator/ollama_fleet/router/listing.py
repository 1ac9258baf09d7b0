"""What the fleet answers as if it were one Ollama: its version, and the names of its models."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from ollama_fleet.router.aliases import Alias
from ollama_fleet.router.errors import Refusal
from ollama_fleet.router.names import lookup_key
from ollama_fleet.router.snapshot import Model, Snapshot


class Listing:
    """Answers for one snapshot, each rendered once: the models on ready servers, and aliases."""

    def __init__(self, snapshot: Snapshot, aliases: Mapping[str, Alias]) -> None:
        self.snapshot = snapshot
        self.aliases = aliases
        self._known: dict[str, Model] | None = None
        self._tags = b""
        self._models = b""

    def version(self) -> bytes:
        """`/api/version`: the oldest, as that is what every request may meet."""
        versions = [server.version for server in self.snapshot.ready if server.version]
        if not versions:
            raise _none_ready()
        return orjson.dumps({"version": min(versions, key=_release)})

    def tags(self) -> bytes:
        """`/api/tags`: newest first, as Ollama lists them."""
        if not self._tags:
            entries = [_public(model) for model in self._models_by_key().values()]
            entries.sort(key=lambda entry: str(entry.get("modified_at", "")), reverse=True)
            self._tags = orjson.dumps({"models": entries})
        return self._tags

    def models(self) -> bytes:
        """`/v1/models`."""
        if not self._models:
            data = [_openai(model) for model in self._models_by_key().values()]
            self._models = orjson.dumps({"object": "list", "data": data})
        return self._models

    def model(self, name: str) -> bytes:
        """`/v1/models/{name}`; raises `Refusal` (404)."""
        model = self._models_by_key().get(lookup_key(name))
        if model is None:
            raise Refusal(404, f"model '{name}' not found", reason="NoModel")
        return orjson.dumps(_openai(model))

    def _models_by_key(self) -> dict[str, Model]:
        if self._known is None:
            ready = self.snapshot.ready
            if not ready:
                raise _none_ready()
            found: dict[str, Model] = {}
            for server in ready:
                for key, model in server.offered.items():
                    found.setdefault(key, model)
            self._known = _named(found, self.aliases)
        return self._known


def _named(installed: dict[str, Model], aliases: Mapping[str, Alias]) -> dict[str, Model]:
    """What clients may write: an alias is listed as what it stands for, and hides its namesake."""
    known = {key: model for key, model in installed.items() if key not in aliases}
    for key, alias in aliases.items():
        target = alias.stands_for(installed)
        if target is not None:
            model = installed[target.key]
            entry = {**model.entry, "name": alias.name, "model": alias.name}
            known[key] = replace(model, name=alias.name, entry=entry)
    return known


def _none_ready() -> Refusal:
    return Refusal(
        503, "no server is ready; try again in a few seconds", reason="NotReady", retry_after=5
    )


def _public(model: Model) -> dict[str, Any]:
    """The entry without the path on the server's disk that `parent_model` may hold."""
    entry = dict(model.entry)
    details = entry.get("details")
    if isinstance(details, dict) and details.get("parent_model"):
        entry["details"] = details | {"parent_model": ""}
    return entry


def _openai(model: Model) -> dict[str, Any]:
    namespace = model.name.rpartition("/")[0]
    return {
        "id": model.name,
        "object": "model",
        "created": _seconds(str(model.entry.get("modified_at", ""))),
        "owned_by": namespace or "library",
    }


def _seconds(moment: str) -> int:
    try:
        return int(datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return 0


def _release(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(number) if number.isdigit() else 0 for number in numbers)
