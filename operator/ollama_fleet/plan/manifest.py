"""The audit manifest: which model, with which digest, lies on which server, in ConfigMaps.

They have no owner, so that they outlive the distribution, its definition and the operator.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from ollama_fleet.api.servers import MODELDISTRIBUTION_LABEL, labels
from ollama_fleet.plan.result import Object
from ollama_fleet.plan.servers import Server
from ollama_fleet.plan.tasks import Task
from ollama_fleet.plan.times import elapsed, parsed, rfc3339

KEY = "manifest.json"
PART_BYTES = 800_000
"""Of one ConfigMap, which may hold 1 MiB."""
MODELS_PER_SERVER = 2000
PAUSE = timedelta(seconds=30)
"""Between two writings while models arrive, so that each arrival is not one."""

ABSENT = timedelta(hours=1)
"""For how long a server that is gone is remembered: most come back."""

Entry = dict[str, Any]


def name_of(distribution: str, part: int = 1) -> str:
    """The name of a part's ConfigMap."""
    return f"{distribution}-manifest" + ("" if part == 1 else f"-{part}")


def entries_in(manifests: Iterable[Object]) -> dict[str, Entry]:
    """What was written before, by server; what is not legible counts as not written."""
    found: dict[str, Entry] = {}
    for one in manifests:
        try:
            servers = json.loads((one.get("data") or {}).get(KEY, "{}"))["servers"]
            found |= {entry["server"]: entry for entry in servers}
        except (ValueError, KeyError, TypeError):
            continue
    return found


def written_at(manifest: Object) -> datetime | None:
    """When anything in a ConfigMap last changed, by its first line: the rest is long."""
    line = (manifest.get("data") or {}).get(KEY, "").partition("\n")[0]
    try:
        return parsed(json.loads(f"{line}]}}").get("time"))
    except (ValueError, AttributeError):
        return None


def manifest(
    distribution: Object,
    servers: Iterable[Server],
    tasks: Iterable[Task],
    before: Sequence[Object],
    now: datetime,
) -> tuple[Object, ...]:
    """The ConfigMaps as they should be, in order; none while it is too early to write again."""
    wanted: dict[str, list[Task]] = defaultdict(list)
    moving = False
    for task in tasks:
        wanted[task.server.name].append(task)
        moving = moving or task.arriving
    if moving and any(_recent(one, now) for one in before):
        return ()
    written = entries_in(before)
    entries = {
        server.name: _entry(server, wanted[server.name], written.get(server.name, {}), now)
        for server in servers
    }
    for name, entry in written.items():
        if name not in entries and (kept := _absent(entry, now)):
            entries[name] = kept
    parts = _parts(entry for _, entry in sorted(entries.items()))
    left = max(0, len(before) - len(parts))
    name = distribution["metadata"]["name"]
    return tuple(
        _config_map(distribution, name, number, len(parts), texts)
        for number, texts in enumerate([*parts, *([{}] * left)], start=1)
    )


def _recent(part: Object, now: datetime) -> bool:
    time = written_at(part)
    return time is not None and elapsed(time, now) < PAUSE


def _absent(entry: Entry, now: datetime) -> Entry | None:
    since = entry.get("absentSince") or rfc3339(now)
    time = parsed(since)
    if time is None or now - time >= ABSENT:
        return None
    return {**entry, "absentSince": since}


def _entry(server: Server, tasks: Sequence[Task], before: Entry, now: datetime) -> Entry:
    """What is on one server. Of one that has said nothing yet the last word stands."""
    if server.probe.version is None and before:
        return {key: value for key, value in before.items() if key != "absentSince"}
    at = urlsplit(server.url or "")
    required = sorted(task.model for task in tasks)
    present = {task.model for task in tasks if task.state == "Installed"}
    failed = {task.model for task in tasks if task.state in ("Failed", "Misfit")}
    known = {one.get("name"): one for one in before.get("models") or ()}
    models = [
        _model(server, model, model in present, known.get(model, {}), now)
        for model in sorted(server.probe.installed)
    ]
    made: Entry = {
        "server": server.name,
        "ollamaNode": server.ollamanode,
        "kubernetesNode": server.kubernetes_node,
        "host": at.hostname,
        "port": at.port or {"http": 80, "https": 443}.get(at.scheme),
        "required": required,
        "present": sorted(present),
        "missing": [model for model in required if model not in present | failed],
        "failed": sorted(failed),
        "models": models[:MODELS_PER_SERVER],
    }
    if len(models) > MODELS_PER_SERVER:
        made["modelsOmitted"] = len(models) - MODELS_PER_SERVER
    if {**made, "time": before.get("time")} == before:
        return before
    return {**made, "time": rfc3339(now)}


def _model(server: Server, name: str, good: bool, before: Entry, now: datetime) -> Entry:
    """A model; ``verifiedAt`` is when it was first seen with the digest that is wanted."""
    installed = server.probe.installed[name]
    made: Entry = {
        "name": name,
        "digest": installed.digest,
        "size": installed.size,
        "modified": installed.modified,
    }
    same = before.get("digest") == installed.digest
    if good:
        made["verifiedAt"] = (same and before.get("verifiedAt")) or rfc3339(now)
    return made


def _parts(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """The times of entries by their JSON, in order, as many to a part as fit."""
    parts: list[dict[str, str]] = [{}]
    size = 0
    for entry in entries:
        text = json.dumps(entry, separators=(",", ":"))
        if parts[-1] and size + len(text) > PART_BYTES:
            parts.append({})
            size = 0
        parts[-1][text] = str(entry.get("time") or "")
        size += len(text) + 2
    return parts


def _config_map(
    distribution: Object, name: str, number: int, parts: int, texts: Mapping[str, str]
) -> Object:
    meta = distribution["metadata"]
    of = {"distribution": f"{meta['namespace']}/{name}", "part": number, "parts": parts}
    head = json.dumps(of | {"time": max(texts.values(), default="")})
    lines = ",\n".join(texts)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name_of(name, number),
            "namespace": meta["namespace"],
            "labels": labels(MODELDISTRIBUTION_LABEL, name, "ollama-fleet-manifest"),
        },
        "data": {KEY: f'{head[:-1]}, "servers": [\n{lines}\n]}}\n'},
    }
