"""A container's environment and command line, with its mounts turned into folders.

Pods here are processes that share this machine's files: nothing is mounted. Wherever a mount path
appears in a container's command, arguments or environment, it is replaced by the folder that
holds the volume. Paths inside files (a config map that names another mount) are left alone, and
so are user ids, capabilities and read-only root file systems.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.quantity import parse

_REFERENCE = re.compile(r"\$\$|\$\(([^()\s]+)\)")
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class WaitingError(Exception):
    """Why a container cannot start yet: `reason` as Kubernetes words it, and a message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Mounts:
    """Folders by mount path."""

    folders: Mapping[str, Path]

    def translate(self, text: str) -> str:
        """Replace every mount path in a text by its folder, the longest path first."""
        if not self.folders:
            return text
        paths = sorted(self.folders, key=len, reverse=True)
        pattern = "|".join(re.escape(path) for path in paths)
        whole = re.compile(rf"(?<![\w./-])({pattern})(?![\w.-])")
        return whole.sub(lambda found: str(self.folders[found[1]]), text)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace $(NAME) where NAME is known, and $$ by $."""

    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1], found[0])

    return _REFERENCE.sub(value, text)


async def variables(
    api: ApiServer, pod: Object, container: Object, capacity: Mapping[str, str]
) -> dict[str, str]:
    """The container's `envFrom` and `env`, expanded; WaitingError where something is missing."""
    found: dict[str, str] = {}
    namespace = pod["metadata"]["namespace"]
    for source in container.get("envFrom") or []:
        prefix = source.get("prefix") or ""
        for kind, plural in (("configMapRef", "configmaps"), ("secretRef", "secrets")):
            if kind in source:
                values = await keys(api, namespace, plural, source[kind])
                found |= {prefix + key: value.decode() for key, value in values.items()}
    for entry in container.get("env") or []:
        if "valueFrom" in entry:
            value = await _value(api, pod, container, entry["valueFrom"], capacity)
            if value is not None:
                found[entry["name"]] = value
        else:
            found[entry["name"]] = expand(entry.get("value") or "", found)
    return found


async def keys(
    api: ApiServer, namespace: str, plural: str, reference: Object, name_key: str = "name"
) -> dict[str, bytes]:
    """The data of a config map or secret; empty where it is optional and absent."""
    name = reference[name_key]
    try:
        document = await api.get(f"/api/v1/namespaces/{namespace}/{plural}/{name}")
    except ApiError as error:
        if error.status == 404 and reference.get("optional"):
            return {}
        kind = plural.removesuffix("s")
        message = f'{kind} "{name}" not found' if error.status == 404 else str(error)
        raise WaitingError("CreateContainerConfigError", message) from error
    data: dict[str, str] = document.get("data") or {}
    if plural == "secrets":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary: dict[str, str] = document.get("binaryData") or {}
    return {key: value.encode() for key, value in data.items()} | {
        key: base64.b64decode(value) for key, value in binary.items()
    }


async def _value(
    api: ApiServer, pod: Object, container: Object, source: Object, capacity: Mapping[str, str]
) -> str | None:
    if "fieldRef" in source:
        return field(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return _resource(container, source["resourceFieldRef"], capacity)
    for kind, plural in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        if kind in source:
            reference = source[kind]
            values = await keys(api, pod["metadata"]["namespace"], plural, reference)
            if reference["key"] in values:
                return values[reference["key"]].decode()
            if reference.get("optional"):
                return None
            raise WaitingError(
                "CreateContainerConfigError",
                f"couldn't find key {reference['key']} in"
                f" {plural.removesuffix('s')} {reference['name']}",
            )
    raise WaitingError("CreateContainerConfigError", f"unsupported source: {', '.join(source)}")


def field(pod: Object, path: str) -> str:
    """A field of the pod by the downward API's path."""
    if found := _SUBSCRIPT.fullmatch(path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    if path in ("metadata.labels", "metadata.annotations"):
        pairs = pod["metadata"].get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{value}"' for key, value in sorted(pairs.items()))
    if path in ("status.podIPs", "status.hostIPs"):
        path = path.removesuffix("s")
    value: Any = pod
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _resource(container: Object, reference: Object, capacity: Mapping[str, str]) -> str:
    """`limits.memory` and its like, in units of the divisor, rounded up as the kubelet does."""
    bound, _, name = reference["resource"].partition(".")
    declared = (container.get("resources") or {}).get(bound) or {}
    amount = parse(str(declared.get(name) or (capacity.get(name) if bound == "limits" else "0")))
    divisor = parse(str(reference.get("divisor") or "1"))
    return str(-int(-amount // (divisor or 1)))
