"""Ollama for development and tests: the real binary where there is one, else the emulator."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_EMULATOR = Path(__file__).parent / "emulator" / "__main__.py"


def server_command(env: Mapping[str, str] | None = None) -> list[str]:
    """The command that starts a server: the real `ollama serve` if it is found and
    OLLAMA_FLEET_SERVER is not `emulator`, else the emulator. It runs from any directory."""
    from dev.ollama.binary import find  # late: `python -m dev.ollama.binary` imports this first

    env = os.environ if env is None else env
    binary = None if env.get("OLLAMA_FLEET_SERVER") == "emulator" else find(env)
    return [str(binary), "serve"] if binary else [sys.executable, str(_EMULATOR)]
