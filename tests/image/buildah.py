"""Builds images with buildah, in folders of their own and without a registry or a daemon."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ollama_fleet.kube.kinds import Object

NEEDS = ("buildah", "debootstrap")
STAND_IN = "localhost/python-stand-in"
_DEBIAN = "bookworm"
_PACKAGES = "ca-certificates,libpython3-dev,python3-minimal,python3-venv"
_BASE = "FROM scratch\nCOPY debian /\nRUN ln -s python3 /usr/bin/python\n"
_TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
_WITHIN = 1200


def missing() -> str:
    """What this machine lacks to build; empty if nothing."""
    lacking = [program for program in NEEDS if shutil.which(program) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    return ", ".join(lacking)


class BuildError(Exception):
    """A step failed; its last lines."""


@dataclass(frozen=True)
class Buildah:
    """Images and containers, all below one folder."""

    folder: Path

    def make_stand_in(self) -> None:
        """A Debian with Python in the place of python:slim, which no registry gives here."""
        context = self.folder / "base"
        context.mkdir()
        debian = str(context / "debian")
        _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _DEBIAN, debian)
        # a proxy may stand before the package indexes, which this machine trusts
        if _TRUSTED.exists():
            shutil.copy(_TRUSTED, f"{debian}{_TRUSTED}")
        (context / "Dockerfile").write_text(_BASE)
        self.build(context, STAND_IN)
        shutil.rmtree(context)

    def build(self, context: Path, tag: str, **arguments: str) -> None:
        """What `docker build` does; the steps share this machine's network."""
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options = ("--isolation=chroot", "--network=host", "--pull-never", f"--tag={tag}")
        self("build", *options, *given, str(context))

    def container(self, image: str) -> str:
        """A container of an image, in which nothing runs yet."""
        return self("from", "--pull-never", image).strip()

    def run(self, container: str, *command: str) -> str:
        """What a command prints that runs in a container, as its user and with its environment."""
        return self("run", "--isolation=chroot", container, "--", *command)

    def config(self, image: str) -> Object:
        """What the image says of itself, as OCI has it."""
        said: Object = json.loads(self("inspect", "--type=image", image))["OCIv1"]["config"]
        return said

    def __call__(self, *arguments: str) -> str:
        places = (f"--root={self.folder}/store", f"--runroot={self.folder}/run")
        return _run("buildah", "--storage-driver=vfs", *places, *arguments)

    def remove(self) -> None:
        """Everything it made."""
        self("rm", "--all")
        shutil.rmtree(self.folder)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-20:]
        raise BuildError("\n".join([" ".join(command), *said]))
    return done.stdout
