"""A pod's volumes as folders: emptyDir, configMap, secret, projected, hostPath and claims."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.environment import Mounts, WaitingError, expand, field, keys

SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS = 3607
_RENEW_AFTER = 0.8  # of a token's life, as the kubelet does


class Volumes:
    """The volumes of one pod; `disk` holds the host paths of its machine."""

    def __init__(self, api: ApiServer, folder: Path, disk: Path) -> None:
        self._api = api
        self._folder = folder
        self._disk = disk
        self._places: dict[str, Path] = {}
        self._renewals: dict[Path, float] = {}
        self._tokens: dict[Path, bytes] = {}

    async def fill(self, pod: Object) -> None:
        """Make all volumes, or bring those up to date that change: config maps, secrets, tokens.

        Raises WaitingError while something they need is missing.
        """
        for volume in pod["spec"].get("volumes") or []:
            self._places[volume["name"]] = await self._place(pod, volume)

    def mounts(self, container: Object, variables: Mapping[str, str]) -> Mounts:
        """The folders by mount path, for one container with its environment."""
        folders: dict[str, Path] = {}
        for mount in container.get("volumeMounts") or []:
            folder: Path = self._places[mount["name"]]
            below = mount.get("subPath") or expand(mount.get("subPathExpr") or "", variables)
            if below:
                folder = folder / below
                if not folder.exists():
                    folder.mkdir(parents=True)
            folders[mount["mountPath"].rstrip("/") or "/"] = folder
        return Mounts(folders)

    async def _place(self, pod: Object, volume: Object) -> Path:
        name = str(volume["name"])
        own = self._folder / name
        if "emptyDir" in volume:
            own.mkdir(parents=True, exist_ok=True)
            return own
        if "hostPath" in volume:
            return self._host_path(volume["hostPath"])
        if "persistentVolumeClaim" in volume:
            return await self._claim(pod, volume["persistentVolumeClaim"]["claimName"])
        if "ephemeral" in volume:
            return await self._claim(pod, f"{pod['metadata']['name']}-{name}")
        files: dict[str, bytes] = {}
        for source in (volume.get("projected") or {}).get("sources") or [volume]:
            files |= await self._source(pod, own, source)
        _write(own, files)
        return own

    async def _source(self, pod: Object, own: Path, source: Object) -> dict[str, bytes]:
        """Files by their path in the volume."""
        namespace = pod["metadata"]["namespace"]
        if "configMap" in source:
            reference = source["configMap"]
            return _items(reference, await keys(self._api, namespace, "configmaps", reference))
        if "secret" in source:
            reference = source["secret"]
            name_key = "secretName" if "secretName" in reference else "name"
            values = await keys(self._api, namespace, "secrets", reference, name_key)
            return _items(reference, values)
        if "downwardAPI" in source:
            entries = source["downwardAPI"].get("items") or []
            return {e["path"]: field(pod, e["fieldRef"]["fieldPath"]).encode() for e in entries}
        if "serviceAccountToken" in source:
            reference = source["serviceAccountToken"]
            return {reference["path"]: await self._token(pod, own / reference["path"], reference)}
        kind = ", ".join(key for key in source if key != "name")
        raise WaitingError("ContainerCreating", f"no volumes of kind {kind} here")

    def _host_path(self, source: Object) -> Path:
        """A path on the simulated machine's own disk."""
        place: Path = self._disk / source["path"].lstrip("/")
        if source.get("type") in ("Directory", "File", "Socket") and not place.exists():
            raise WaitingError(
                "ContainerCreating", f"hostPath type check failed: {source['path']} is not there"
            )
        if source.get("type") == "FileOrCreate":
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        elif not place.exists():
            place.mkdir(parents=True)
        return place

    async def _claim(self, pod: Object, name: str) -> Path:
        path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/persistentvolumeclaims/{name}"
        try:
            claim = await self._api.get(path)
        except ApiError as error:
            raise WaitingError("ContainerCreating", str(error)) from error
        if (claim.get("status") or {}).get("phase") != "Bound":
            raise WaitingError("ContainerCreating", f"persistentvolumeclaim {name} is not bound")
        volume = await self._api.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")
        source = volume["spec"].get("hostPath")
        if source is None:
            raise WaitingError("ContainerCreating", f"claim {name}: its volume is no local folder")
        return Path(source["path"])

    async def _token(self, pod: Object, place: Path, reference: Object) -> bytes:
        """A token bound to the pod, renewed when most of its life is over."""
        if time.time() < self._renewals.get(place, 0.0):
            return self._tokens[place]
        meta = pod["metadata"]
        account = pod["spec"].get("serviceAccountName") or "default"
        seconds = int(reference.get("expirationSeconds") or _TOKEN_SECONDS)
        spec: Object = {
            "expirationSeconds": seconds,
            "boundObjectRef": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": meta["name"],
                "uid": meta["uid"],
            },
        }
        if reference.get("audience"):
            spec["audiences"] = [reference["audience"]]
        path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
        try:
            answer = await self._api.create(path, {"spec": spec})
        except ApiError as error:
            raise WaitingError("ContainerCreating", f"no token: {error}") from error
        self._renewals[place] = time.time() + _RENEW_AFTER * seconds
        self._tokens[place] = str(answer["status"]["token"]).encode()
        return self._tokens[place]


def _items(reference: Object, values: Mapping[str, bytes]) -> dict[str, bytes]:
    """All keys as files, or only those listed, under the paths given for them."""
    wanted = reference.get("items")
    if not wanted:
        return dict(values)
    missing = [item["key"] for item in wanted if item["key"] not in values]
    if missing and not reference.get("optional"):
        raise WaitingError("ContainerCreating", f"references non-existent config key: {missing[0]}")
    return {item["path"]: values[item["key"]] for item in wanted if item["key"] in values}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make the folder hold these files and no others; a reader never sees half a file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        if path.exists() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        draft.rename(path)
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in files:
            path.unlink()
