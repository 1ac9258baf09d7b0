"""The time of day of the operator's machine jumps by an hour, and is put right later."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from ollama_fleet.kube.kinds import Object
from tests.cluster.fleet import OPERATOR, Emulator
from tests.cluster.waiting import eventually
from tests.world.ground import World
from tests.world.measure import Fault

_SOURCE = Path(__file__).with_name("clock.c")
HOUR = 3600


def _shim(folder: Path) -> Path:
    """What is loaded into the operator before all else."""
    made = folder / "clock.so"
    if not made.exists():
        compiler = shutil.which("cc")
        assert compiler is not None, "a C compiler is needed to set the operator's clock"
        command = [compiler, "-O1", "-shared", "-fPIC", "-o", str(made), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)
    return made


@contextmanager
def set_by(world: World) -> Iterator[Callable[[int], None]]:
    """The operator by a clock of its own: what is called with the seconds that it is off by."""
    offset = world.folder / "clock"

    def jump(seconds: int) -> None:
        draft = offset.with_suffix(".new")
        draft.write_text(str(seconds))
        draft.rename(offset)

    jump(0)
    shim = _shim(world.folder)
    if not _loaded(world, shim):
        # what a container is given by its cluster alone, so that no path in it is taken for a mount
        environment = world.cluster.directory / "environment.json"
        given = environment.read_text()
        own = {"LD_PRELOAD": str(shim), "WORLD_CLOCK": str(offset)}
        environment.write_text(json.dumps({**json.loads(given), **own}))
        try:
            world.cluster.kill_pod_process(OPERATOR, world.operator_pod()["metadata"]["name"])
            eventually("the operator has that clock", partial(_loaded, world, shim))
        finally:
            environment.write_text(given)
    try:
        yield jump
    finally:
        jump(0)


def _loaded(world: World, shim: Path) -> bool:
    name = world.operator_pod()["metadata"]["name"]
    try:
        (noted,) = (world.cluster.directory / "pods" / f"{OPERATOR}_{name}").glob("*.pid")
        return str(shim) in Path(f"/proc/{noted.read_text()}/maps").read_text()
    except (OSError, ValueError):
        return False


def _window(begins: int, ends: int) -> Object:
    """From so many minutes from now until so many."""
    start, end = (
        (datetime.now(UTC) + timedelta(minutes=one)).strftime("%H:%M") for one in (begins, ends)
    )
    return {"window": {"start": start, "end": end, "timeZone": "Etc/UTC"}}


def _pulls(world: World) -> bool:
    return any(one["state"] == "Pulling" for one in world.fleet.tasks("mid"))


@contextmanager
def ahead(world: World) -> Iterator[None]:
    """A window opens before its time; what fails then is tried again, and when the clock is put
    right too."""
    with set_by(world) as jump:
        world.begin_pull(rollout={"retry": {"backoff": "10s"}, **_window(30, 90)}, waits=True)
        server = Emulator(world.servers()["a-0"])
        server.fault("error", path="/api/pull", message="no route to host", count=1)
        jump(HOUR)
        eventually("pulls begin", partial(_pulls, world))
        yield
        jump(0)
        eventually("pulls end", lambda: not _pulls(world))
        world.begin_pull(rollout={"retry": {"backoff": "10s"}})


@contextmanager
def behind(world: World) -> Iterator[None]:
    """A window shuts before its time, and opens again."""
    with set_by(world) as jump:
        world.begin_pull(rollout=_window(-30, 30))
        jump(-HOUR)
        eventually("pulls end", lambda: not _pulls(world))
        yield
        jump(0)
        eventually("pulls begin", partial(_pulls, world))


FAULTS = (
    Fault("clock an hour ahead", ahead, says="no route to host", pulling=False),
    Fault("clock an hour back", behind, seconds=10, pulling=False),
)
