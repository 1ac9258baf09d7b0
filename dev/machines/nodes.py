"""Registers machines as Kubernetes nodes and keeps them alive there, as kubelets do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx2

from dev.machines import devices
from dev.machines.apiserver import ApiError, ApiServer, Object
from dev.machines.containers import now
from dev.machines.machine import ARCHITECTURE, Machine

_LEASE_SECONDS = 40
_RENEW_SECONDS = 5.0
_STATUS_EVERY = 12  # renewals
_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


async def keep(api: ApiServer, machine: Machine, address: str, port: int) -> None:
    """Register a machine, whose kubelet answers on address:port, and renew it until cancelled."""
    since = now()
    while True:
        try:
            version = str((await api.get("/version"))["gitVersion"])
            await _register(api, machine)
            await devices.publish(api, machine)
            for beat in range(_STATUS_EVERY):
                await _renew(api, machine.name)
                if beat == 0:
                    status = _status(machine, address, port, version, since)
                    await api.patch(f"/api/v1/nodes/{machine.name}/status", {"status": status})
                await asyncio.sleep(_RENEW_SECONDS)
        except (ApiError, httpx2.HTTPError):
            await asyncio.sleep(1)


async def remove(api: ApiServer, machine: Machine) -> None:
    """Take a machine out of the cluster."""
    await devices.withdraw(api, machine)
    await api.delete(f"{_LEASES}/{machine.name}")
    await api.delete(f"/api/v1/nodes/{machine.name}")


async def _register(api: ApiServer, machine: Machine) -> None:
    body: Object = {
        "metadata": {"name": machine.name, "labels": machine.node_labels()},
        "spec": {"providerID": f"simulated://{machine.name}"},
    }
    try:
        await api.create("/api/v1/nodes", body)
    except ApiError as error:
        if error.status != 409:
            raise


async def _renew(api: ApiServer, name: str) -> None:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {
        "holderIdentity": name,
        "leaseDurationSeconds": _LEASE_SECONDS,
        "renewTime": moment,
    }
    try:
        await api.merge(f"{_LEASES}/{name}", {"spec": spec})
    except ApiError as error:
        if error.status != 404:
            raise
        body: Object = {"metadata": {"name": name}, "spec": spec}
        await api.create(_LEASES, body)


def _status(machine: Machine, address: str, port: int, version: str, since: str) -> Object:
    def condition(kind: str, status: str, reason: str, message: str) -> Object:
        return {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": now(),
            "lastTransitionTime": since,
        }

    enough = [
        ("MemoryPressure", "KubeletHasSufficientMemory"),
        ("DiskPressure", "KubeletHasNoDiskPressure"),
        ("PIDPressure", "KubeletHasSufficientPID"),
    ]
    return {
        "capacity": machine.capacity(),
        "allocatable": machine.capacity(),
        "conditions": [
            *(condition(kind, "False", reason, "simulated") for kind, reason in enough),
            condition("Ready", "True", "KubeletReady", "simulated machine runs pods as processes"),
        ],
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": machine.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": machine.name,
            "systemUUID": machine.name,
            "bootID": machine.name,
            "kernelVersion": "simulated",
            "osImage": "processes of one machine",
            "containerRuntimeVersion": "process://1",
            "kubeletVersion": version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": ARCHITECTURE,
        },
    }
