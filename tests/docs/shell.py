"""A shell in which a page's commands are typed one after the other, as a reader would."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Self

_STOP_SECONDS = 10.0


class TooLongError(AssertionError):
    """A command that does not end."""


class Shell:
    """One bash: variables and folders that a command sets are there for the next."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._count = 0
        self._told, told = os.pipe()
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={**environment, "HOME": str(folder), "TOLD": str(told)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[told],
            start_new_session=True,
            text=True,
        )
        os.close(told)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it with all it started."""
        assert self._bash.stdin
        self._bash.stdin.close()
        try:
            os.killpg(self._bash.pid, signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while time.monotonic() < deadline:
                self._bash.poll()
                os.killpg(self._bash.pid, 0)
                time.sleep(0.02)
            os.killpg(self._bash.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._bash.wait()
        os.close(self._told)

    def type(self, command: str, within: float) -> tuple[int, str]:
        """The exit status and what was printed. Raises TooLongError."""
        output = self._output()
        self._write(f"{{ {command}\n}} </dev/null >{output} 2>&1; echo $? >&$TOLD\n")
        if not select.select([self._told], [], [], within)[0]:
            raise TooLongError(
                f"not done within {within:g} s; so far it says: {output.read_text()}"
            )
        told = os.read(self._told, 16)
        return int(told) if told.strip() else 2, output.read_text()

    def begin(self, command: str) -> Path:
        """Start what goes on; returns the file that gets what it prints."""
        output = self._output()
        output.touch()
        self._write(f"{{ {command}\n}} </dev/null >{output} 2>&1 &\n")
        return output

    def _output(self) -> Path:
        self._count += 1
        return self.folder / f".output-{self._count}"

    def _write(self, text: str) -> None:
        assert self._bash.stdin
        self._bash.stdin.write(text)
        self._bash.stdin.flush()
