"""Programs started so that none outlives the one that started it (Linux)."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(death_signal: signal.Signals) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that it can be found."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Process:
    """One program in a session of its own; start it from the event loop's thread.

    `returncode` is None while it runs, else the exit status or minus the signal's number.
    Raises OSError where the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        log: Path,
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                list(command),
                env=None if environment is None else dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(death_signal),
            )
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._reap)

    @property
    def pid(self) -> int:
        """The process's id, which is also that of its group."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._ended.result() if self._ended.done() else None

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        if not self._ended.done():
            self._ended.set_result(self._popen.wait())

    async def wait(self) -> int:
        """Wait until it ends and return its `returncode`."""
        return await asyncio.shield(self._ended)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone, not to what it started."""
        if self.returncode is None:
            self._popen.send_signal(number)

    def kill_group(self) -> None:
        """Kill the program and everything in its group, also after the program has ended."""
        kill_group(self.pid)

    async def stop(self, grace: float) -> int:
        """Ask it to end, kill the group after `grace` seconds, return its `returncode`."""
        self.send(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.wait(), grace)
        self.kill_group()
        return await self.wait()


def kill_group(group: int) -> None:
    """Send SIGKILL to a process group; one that is gone already is no error."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _children() -> dict[int, list[int]]:
    """The ids of all processes, by their parent's."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name in parentheses may hold anything; the parent follows the last one.
                ppid = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(ppid, []).append(int(entry.name))
    return children


def descendants(parent: int) -> list[int]:
    """The ids of all processes below one, found in /proc."""
    children = _children()
    found: list[int] = []
    queue = [parent]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def kill_and_reap(pids: Sequence[int]) -> None:
    """Send SIGKILL to each, and reap those that have ended and are ours."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def reap_orphans(own: Collection[int]) -> None:
    """Reap the adopted processes that have ended; `own` are left to those who started them."""
    for pid in _children().get(os.getpid(), []):
        if pid not in own:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def alive(pid: int) -> bool:
    """Whether a process exists and is not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
