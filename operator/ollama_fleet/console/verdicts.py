"""Whether a model fits, server by server, before a byte of it is pulled."""

from collections.abc import Collection
from dataclasses import replace

from ollama_fleet.console.agents import Server
from ollama_fleet.console.models import Known
from ollama_fleet.console.refusal import Refusal
from ollama_fleet.console.wire import Agent, Verdict
from ollama_fleet.plan.sizing import CacheType, Load, fit


def verdict(
    server: Server,
    shown: Agent,
    model: Known,
    installed: Collection[str],
    all_known: bool,
    context: int | None = None,
    parallel: int | None = None,
    cache_type: CacheType | None = None,
) -> Verdict:
    """The verdict for one server, as it is set but for what is given; ``installed`` are models
    known to be there, ``all_known`` whether there are no others."""
    load = Load.of(server.spec)
    load = replace(
        load,
        context=context or load.context,
        parallel=parallel or load.parallel,
        cache_type=cache_type or load.cache_type,
    )
    found = fit(model.weights, model.architecture, load, shown.memory_bytes)
    there = True if model.name in installed else False if all_known else None
    needed = 0 if there else model.size
    message = f"{model.name} {found}"
    if (lacking := lacks_disk(shown, needed)) is not None:
        message += f"; {lacking}"
    return Verdict(
        agent_id=shown.id,
        machine_name=shown.machine_name,
        fits=_fits(found.fits, shown, needed),
        installed=there,
        need_bytes=found.need,
        has_bytes=found.has,
        estimated=found.estimated,
        needs_disk_bytes=needed,
        disk_free_bytes=shown.disk_free_bytes,
        context_length=found.load.context,
        parallel=found.load.parallel,
        kv_cache_type=found.load.cache_type,
        message=message,
    )


def _fits(in_memory: bool, shown: Agent, needed: int) -> bool | None:
    if not in_memory or lacks_disk(shown, needed) is not None:
        return False
    return None if shown.memory_bytes is None else True


def lacks_disk(shown: Agent, needed: int) -> str | None:
    """What is told of a store that surely has no room; None where it may have."""
    free = shown.disk_free_bytes
    if free is None or needed <= free:
        return None
    unit, size = ("GB", 1e9) if needed >= 1e8 else ("MB", 1e6)
    return f"storage too small (needs {needed / size:.1f} {unit}, free {free / size:.1f} {unit})"


def too_small(shown: Agent, model: Known) -> Refusal | None:
    """507 for a server whose store surely has no room for a model."""
    lacking = lacks_disk(shown, model.size)
    if lacking is None:
        return None
    more = {"agent_id": shown.id, "needed_bytes": model.size, "free_bytes": shown.disk_free_bytes}
    return Refusal(507, f"{lacking} on {shown.id}: free some, or choose another server", more)
