"""Finding GPUs: asks nvidia-smi, then rocm-smi, whichever is there."""

import asyncio
import logging
import os
import shutil
from contextlib import suppress

from ollama_fleet.agent.gpus import Gpu, Unreadable, mig, nvidia, rocm

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds for one of the programs: a driver that hangs hangs them too."""

ELSEWHERE = "/usr/lib/wsl/lib:/opt/rocm/bin"
"""Where they are when they are not on PATH."""

_NVIDIA = ("--query-gpu=name,memory.total,mig.mode.current", "--format=csv,noheader,nounits")
_NVIDIA_OLD = ("--query-gpu=name,memory.total", _NVIDIA[1])
_ROCM = ("--showproductname", "--showmeminfo", "vram", "--json")


class NoAnswer(Exception):  # noqa: N818
    """A program told of no GPU; why, in a sentence."""


async def gpus(patience: float = PATIENCE) -> tuple[list[Gpu], list[str]]:
    """The GPUs there are, and what is wrong with the programs that should tell of them."""
    troubles = []
    for program, ask in (("nvidia-smi", _nvidia), ("rocm-smi", _rocm)):
        path = shutil.which(program) or shutil.which(program, path=ELSEWHERE)
        if path is None:
            continue
        try:
            found = await ask(path, patience)
        except (NoAnswer, Unreadable) as error:
            troubles.append(f"{program} tells of no GPU: {error}")
            continue
        if found:
            return found, troubles
        troubles.append(f"{program} tells of no GPU")
    return [], troubles


async def _nvidia(path: str, patience: float) -> list[Gpu]:
    try:
        found, divided = nvidia(await _output(path, *_NVIDIA, patience=patience))
    except NoAnswer as error:
        if "not a valid field" not in str(error):
            raise
        # drivers from before MIG
        found, divided = nvidia(await _output(path, *_NVIDIA_OLD, patience=patience))
    return mig(await _output(path, "-q", "-x", patience=patience)) if divided else found


async def _rocm(path: str, patience: float) -> list[Gpu]:
    return rocm(await _output(path, *_ROCM, patience=patience))


async def _output(path: str, *arguments: str, patience: float) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise NoAnswer(f"it cannot be started ({error.strerror})") from None
    try:
        async with asyncio.timeout(patience):
            out, problem = await process.communicate()
    except TimeoutError:
        raise NoAnswer(f"no answer within {patience:g} s; is its driver stuck?") from None
    finally:
        await _end(process)
    text = out.decode(errors="replace")
    if process.returncode:
        told = " ".join((problem.decode(errors="replace") + " " + text).split())[:200]
        raise NoAnswer(told or f"it ended with {process.returncode}")
    return text


async def _end(process: asyncio.subprocess.Process) -> None:
    """One that waits for a broken driver cannot be killed, and is left to itself."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await process.wait()
