"""What a server must have before models go there."""

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.ollamanode import Requirements
from ollama_fleet.api.quantity import bytes_of, gib
from ollama_fleet.plan.disk import Store
from ollama_fleet.plan.memory import Memory, enough
from ollama_fleet.plan.troubles import Trouble

_STAYS = "What is installed there stays, and is served."


def unmet(server: str, wanted: Requirements, memory: Memory, store: Store) -> Trouble | None:
    """The first requirement that a server does not meet; None if it meets them all.

    What is unknown is not met. Of the disk it is all that the store can hold: by what is free
    now, every pull would bring its server nearer to being unfit.
    """
    if wanted.memory is not None:
        needed, has = bytes_of(wanted.memory), memory.size
        if has is None or not enough(has, needed):
            return Trouble(
                Reason.REQUIREMENTS_UNMET,
                f"{server} needs {gib(needed)} of memory for models, {_told(has, memory.source)}. "
                f"Lower spec.requirements.memory, or use a machine with more. {_STAYS}",
            )
    if wanted.disk is not None:
        needed, has = bytes_of(wanted.disk), store.size
        if has is None or has < needed:
            return Trouble(
                Reason.REQUIREMENTS_UNMET,
                f"{server} needs {gib(needed)} of disk for models, {_told(has, store.source)}. "
                f"{store.remedy}, or lower spec.requirements.disk. {_STAYS}",
            )
    return None


def _told(size: int | None, source: str) -> str:
    """Where nobody tells the size, the source says why."""
    return f"and what it has is {source}" if size is None else f"has {gib(size)} ({source})"
