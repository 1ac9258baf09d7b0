"""Faults on demand: what a real server does on a bad day."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

KINDS = {
    "slow_first_byte": "wait `seconds` before the answer begins",
    "busy": "503, as with a full queue",
    "error": "answer `status` with `message`",
    "hang": "never answer",
    "cut_stream": "drop the connection after `chunks` chunks",
    "end_stream": "end the stream cleanly after `chunks` chunks, without done",
    "stream_error": "after `chunks` chunks, a line with `message` as error",
    "wedge": "completions on `model` never answer until it is unloaded, all else does",
    "stuck": "the same, and it cannot be unloaded",
    "stuck_pull": "a pull stands still at `fraction`",
    "disk_full": "a pull fails at `fraction`: no space left on device",
    "digest_mismatch": "a pull's download turns out to be wrong",
    "crash": "the process exits: at once, or at the first request for `path` or `model`",
}


@dataclass(slots=True)
class Fault:
    """One fault. Empty `path` and `model` match all; `count` is how many requests it still
    strikes, None for all."""

    id: int
    kind: str
    path: str = ""
    model: str = ""
    count: int | None = None
    seconds: float = 5.0
    status: int = 500
    message: str = "an error was encountered while running the model"
    chunks: int = 1
    fraction: float = 0.99


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._next = 1

    def __bool__(self) -> bool:
        return bool(self._faults)

    def add(self, values: dict[str, Any]) -> Fault:
        """Put a fault in force; raises ValueError with a sentence."""
        known = {f.name for f in fields(Fault)} - {"id"}
        unknown = set(values) - known
        if unknown:
            raise ValueError(f"no such field: {', '.join(sorted(unknown))}; there are {known}")
        if values.get("kind") not in KINDS:
            raise ValueError(f"no fault {values.get('kind')!r}; there are {', '.join(KINDS)}")
        fault = Fault(id=self._next, **values)
        self._next += 1
        self._faults[fault.id] = fault
        return fault

    def clear(self, fault_id: int | None = None) -> None:
        """Lift one fault, or all."""
        if fault_id is None:
            self._faults.clear()
        else:
            self._faults.pop(fault_id, None)

    def strike(self, kind: str, path: str = "", model: str = "") -> Fault | None:
        """The fault of that kind that hits this request, if any; it is counted."""
        for fault in self._faults.values():
            if (
                fault.kind == kind
                and (not fault.path or path.startswith(fault.path))
                and (not fault.model or fault.model == model)
            ):
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count <= 0:
                        del self._faults[fault.id]
                return fault
        return None

    def as_json(self) -> list[dict[str, Any]]:
        """All faults in force."""
        return [asdict(fault) for fault in self._faults.values()]
