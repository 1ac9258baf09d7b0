"""Whether what we stand on is what we chose: `python -m dev.packages`, without asking anybody.

Every package of the requirements files is pinned with hashes, the files agree with each other and
with what is installed here, and what runs has a licence that lets it be passed on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parent.parent
RUNS = "requirements.txt"
OTHERS = ("requirements-dev.txt", "requirements-build.txt", "requirements-fuzz.txt")
LICENCES = ("Apache", "BSD", "ISC", "MIT", "MPL", "Mozilla", "PSF", "Python Software Foundation")
"""Words of licences under which a package may be passed on in an image, as it is."""


@dataclass(frozen=True)
class Pin:
    """A package as a requirements file has it."""

    requirement: Requirement
    hashes: int

    @property
    def key(self) -> tuple[str, str]:
        """Its name, and for which machines."""
        return canonicalize_name(self.requirement.name), str(self.requirement.marker or "")

    @property
    def applies(self) -> bool:
        """Whether it is for this machine."""
        marker = self.requirement.marker
        return marker is None or marker.evaluate()


def pins(text: str) -> list[Pin]:
    """The packages of a requirements file; ValueError for a line that is no package with hashes."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split(" --hash=")
        if not line.strip():
            continue
        try:
            found.append(Pin(Requirement(words[0].strip()), len(words) - 1))
        except InvalidRequirement as error:
            raise ValueError(f"{words[0].strip()!r} is no package: {error}") from None
    return found


def unpinned(known: Iterable[Pin]) -> list[str]:
    """What may become something else by itself."""
    told = []
    for pin in known:
        wanted = list(pin.requirement.specifier)
        exact = len(wanted) == 1 and wanted[0].operator == "==" and "*" not in wanted[0].version
        if not exact or pin.requirement.url:
            told.append(f"{pin.requirement} is not pinned: write NAME==VERSION")
        if not pin.hashes:
            told.append(f"{pin.requirement} has no hash")
    return told


def disagreeing(one: Iterable[Pin], other: Iterable[Pin]) -> list[str]:
    """Packages that two files pin to different releases."""
    there = {pin.key: str(pin.requirement.specifier) for pin in other}
    return [
        f"{pin.requirement} in one file, {there[pin.key]} in another"
        for pin in one
        if there.get(pin.key, str(pin.requirement.specifier)) != str(pin.requirement.specifier)
    ]


def unlicensed(name: str, told: metadata.PackageMetadata) -> list[str]:
    """Whether it may not be passed on, or nobody knows."""
    fields = [*told.get_all("License-Expression", ()), *told.get_all("License", ())]
    texts = [one.splitlines()[0] for one in fields if one]
    texts += [one for one in told.get_all("Classifier", ()) if one.startswith("License ::")]
    if any(word in text for text in texts for word in LICENCES):
        return []
    said = "; ".join(texts) or "nothing"
    return [f"{name} says of its licence: {said}"]


def installed(known: Iterable[Pin], here: Mapping[Any, str]) -> list[str]:
    """Packages that are here in another release than the pinned one."""
    return [
        f"{pin.requirement} is pinned, {here[pin.key[0]]} is installed: make venv"
        for pin in known
        if pin.applies
        and pin.key[0] in here
        and not pin.requirement.specifier.contains(here[pin.key[0]], prereleases=True)
    ]


def complaints() -> list[str]:
    """All that is wrong here."""
    files = {name: pins((_ROOT / name).read_text()) for name in (RUNS, *OTHERS)}
    here = {canonicalize_name(one.name): one.version for one in metadata.distributions()}
    told = []
    for name, known in files.items():
        told += [f"{name}: {what}" for what in (*unpinned(known), *installed(known, here))]
    for name in OTHERS:
        told += [f"{RUNS}, {name}: {what}" for what in disagreeing(files[RUNS], files[name])]
    for pin in files[RUNS]:
        if pin.applies and pin.key[0] in here:
            told += unlicensed(pin.requirement.name, metadata.metadata(pin.requirement.name))
    return told


def main() -> None:
    """Tell what is wrong; the exit code is 1 then."""
    told = complaints()
    for line in told:
        print(line, file=sys.stderr)
    raise SystemExit(1 if told else 0)


if __name__ == "__main__":
    main()
