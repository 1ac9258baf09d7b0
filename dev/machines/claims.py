"""The storage class `local`: claims become folders of this machine, reachable from all machines."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path

import httpx2

from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.quantity import parse

CLASS = "local"
_PROVISIONER = "ollamafleet.dev/folders"
_PROVISIONED = "pv.kubernetes.io/provisioned-by"
_SELECTED = "volume.kubernetes.io/selected-node"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_VOLUMES = "/api/v1/persistentvolumes"


async def serve(api: ApiServer, directory: Path) -> None:
    """Make the storage class and serve claims of it, for ever; folders lie in `directory`."""
    await _make_class(api)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_provision(api, directory))
        tasks.create_task(_reclaim(api, directory))


async def _make_class(api: ApiServer) -> None:
    body: Object = {
        "metadata": {
            "name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": _PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": True,
    }
    try:
        await api.create(_CLASSES, body)
    except ApiError as error:
        if error.status != 409:
            raise


async def _provision(api: ApiServer, directory: Path) -> None:
    async for event in api.watch("/api/v1/persistentvolumeclaims"):
        if event.kind == "DELETED":
            continue
        with suppress(ApiError, httpx2.HTTPError):
            await _serve_claim(api, directory, event.object)


async def _serve_claim(api: ApiServer, directory: Path, claim: Object) -> None:
    """Make the volume of a new claim, or enlarge that of a bound one."""
    meta, spec = claim["metadata"], claim["spec"]
    if not spec.get("storageClassName") or meta.get("deletionTimestamp"):
        return
    chosen = await api.get(f"{_CLASSES}/{spec['storageClassName']}")
    if chosen["provisioner"] != _PROVISIONER:
        return
    wanted = spec["resources"]["requests"]["storage"]
    if spec.get("volumeName"):
        await _expand(api, claim, wanted)
        return
    waits = chosen.get("volumeBindingMode") == "WaitForFirstConsumer"
    if waits and _SELECTED not in (meta.get("annotations") or {}):
        return
    name = f"pvc-{meta['uid']}"
    folder = directory / name
    folder.mkdir(parents=True, exist_ok=True)
    body: Object = {
        "metadata": {"name": name, "annotations": {_PROVISIONED: _PROVISIONER}},
        "spec": {
            "capacity": {"storage": wanted},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": chosen.get("reclaimPolicy", "Delete"),
            "storageClassName": spec["storageClassName"],
            "volumeMode": "Filesystem",
            "hostPath": {"path": str(folder)},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        },
    }
    try:
        await api.create(_VOLUMES, body)
    except ApiError as error:
        if error.status != 409:
            raise


async def _expand(api: ApiServer, claim: Object, wanted: str) -> None:
    """Grant a claim that has grown; folders have no size of their own."""
    given = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    if given is None or parse(wanted) <= parse(given):
        return
    capacity = {"capacity": {"storage": wanted}}
    meta = claim["metadata"]
    await api.merge(f"{_VOLUMES}/{claim['spec']['volumeName']}", {"spec": capacity})
    path = f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{meta['name']}/status"
    await api.merge(path, {"status": {**capacity, "conditions": None}})


async def _reclaim(api: ApiServer, directory: Path) -> None:
    """Delete the folders of released volumes, and then the volumes."""
    async for event in api.watch(_VOLUMES):
        volume = event.object
        meta, spec = volume["metadata"], volume["spec"]
        ours = (meta.get("annotations") or {}).get(_PROVISIONED) == _PROVISIONER
        released = (volume.get("status") or {}).get("phase") == "Released"
        deleted = spec.get("persistentVolumeReclaimPolicy") == "Delete"
        if ours and deleted and (released or event.kind == "DELETED"):
            shutil.rmtree(directory / meta["name"], ignore_errors=True)
            with suppress(ApiError, httpx2.HTTPError):
                await api.delete(f"{_VOLUMES}/{meta['name']}")
