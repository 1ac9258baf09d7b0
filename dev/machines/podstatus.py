"""A pod's status from the states of its containers, as a kubelet works it out."""

from __future__ import annotations

from collections.abc import Sequence

from dev.machines.apiserver import Object
from dev.machines.containers import Container, now


def phase(policy: str, initial: Sequence[Container], main: Sequence[Container]) -> str:
    """Pending, Running, Succeeded or Failed."""
    if any(c.kind == "init" and c.exit_code not in (0, None) for c in initial):
        failed = [c for c in initial if c.kind == "init" and c.exit_code not in (0, None)]
        if policy == "Never" and failed:
            return "Failed"
    if any("waiting" in c.state and not c.last_state for c in main):
        return "Pending"
    codes = [c.exit_code for c in main]
    if any(code is None for code in codes) or policy == "Always":
        return "Running"
    if all(code == 0 for code in codes):
        return "Succeeded"
    return "Failed" if policy == "Never" else "Running"


def conditions(
    pod: Object, reached: str, initial: Sequence[Container], main: Sequence[Container]
) -> list[Object]:
    """The conditions a kubelet owns; PodScheduled is left to the scheduler."""
    ended = reached in ("Succeeded", "Failed")
    waiting = [c.name for c in initial if c.kind == "init" and c.exit_code != 0]
    waiting += [c.name for c in initial if c.kind == "sidecar" and not c.has_started.is_set()]
    unready = [c.name for c in [*main, *initial] if not c.ready and c.kind != "init"]
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or []]
    known = {each["type"]: each for each in pod.get("status", {}).get("conditions") or []}
    closed = [gate for gate in gates if known.get(gate, {}).get("status") != "True"]

    def made(kind: str, holds: bool, reason: str, message: str) -> Object:
        status = "True" if holds else "False"
        before = known.get(kind, {})
        since = before.get("lastTransitionTime") if before.get("status") == status else None
        condition: Object = {"type": kind, "status": status, "lastTransitionTime": since or now()}
        # A strategic merge keeps what is not named, so an old reason has to be removed by name.
        condition["reason"] = None if holds and not ended else reason
        condition["message"] = None if holds or not message else message
        return condition

    completed = "PodCompleted" if reached == "Succeeded" else "PodFailed"
    unready_text = f"containers with unready status: [{' '.join(unready)}]"
    not_ready = completed if ended else "ContainersNotReady"
    containers_ready = not unready and not ended
    ready = containers_ready and not closed
    gate_text = (
        f"corresponding condition of pod readiness gate {closed[0]!r} is not True"
        if (closed)
        else ""
    )
    return [
        made("PodReadyToStartContainers", not ended, "PodStopped", ""),
        made(
            "Initialized",
            not waiting or ended,
            completed if ended else "ContainersNotInitialized",
            f"containers with incomplete status: [{' '.join(waiting)}]",
        ),
        made("ContainersReady", containers_ready, not_ready, "" if ended else unready_text),
        made(
            "Ready",
            ready,
            "ReadinessGatesNotReady" if containers_ready else not_ready,
            "" if ended else (gate_text if containers_ready else unready_text),
        ),
    ]
