"""The data plane: one endpoint in front of many Ollama servers.

The modules of the hot path may be there twice: as Python, and compiled from it (see `build`).
`OLLAMA_FLEET_COMPILED` says which run: 0 is Python, 1 is compiled or nothing, and without it the
compiled ones run where they are from the very sources beside them.
"""

import hashlib
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path


def _fresh(compiled: Path) -> bool:
    """Whether `compiled` is for this Python, and from the present sources."""
    try:
        suffix, *lines = (compiled / "sources").read_text().splitlines()
        return suffix == EXTENSION_SUFFIXES[0] and all(
            hashlib.sha256((compiled.parent / name).read_bytes()).hexdigest() == digest
            for digest, name in (line.split("  ") for line in lines)
        )
    except FileNotFoundError:
        return False


def _choose() -> bool:
    wish = os.environ.get("OLLAMA_FLEET_COMPILED", "")
    if wish == "0":
        return False
    compiled = Path(__file__).with_name("compiled")
    fresh = _fresh(compiled)
    if wish == "1" and not fresh:
        raise ImportError(
            "OLLAMA_FLEET_COMPILED is 1, but the router is not compiled from its present sources: "
            "run `make compiled`, or unset it"
        )
    if fresh:
        __path__.insert(0, str(compiled))
    return fresh


COMPILED = _choose()
"""Whether the hot path runs compiled."""
