"""Known security holes of Ollama, by release, and what to write against them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ollama_fleet.api.ollamanode import DEFAULT_TAG, OllamaNodeSpec

Release = tuple[int, int, int]

_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(.*)")
_PRE_RELEASE = re.compile(r"-?(rc|alpha|beta|pre|dev)", re.IGNORECASE)


@dataclass(frozen=True)
class Advisory:
    """One hole: in the releases from ``introduced`` on, gone with ``fixed``."""

    id: str
    what: str
    """What it lets somebody do."""
    fixed: Release
    introduced: Release = (0, 0, 1)


# Only what a release is known to mend: of the rest there is nothing to write against. That Ollama
# asks nobody for a password (CVE-2025-63389) is what the network policy and the router are for.
ADVISORIES = (
    Advisory(
        "CVE-2026-103663", "a pulled model can write any file", (0, 35, 0), introduced=(0, 34, 2)
    ),
    Advisory("CVE-2026-108836", "a pull can reach inside your network", (0, 34, 2)),
    Advisory("CVE-2026-5530", "a pull can reach inside your network", (0, 34, 2)),
    Advisory("CVE-2026-7482", "a crafted model reads the server's memory", (0, 17, 1)),
    Advisory("CVE-2025-51471", "a pull can give away the registry token", (0, 14, 3)),
    Advisory("CVE-2024-45436", "an unpacked model can write any file", (0, 1, 47)),
    Advisory("CVE-2024-39722", "a push tells which files there are", (0, 1, 46)),
    Advisory("CVE-2024-37032", "a pulled model can write any file", (0, 1, 34)),
    Advisory("CVE-2024-28224", "web pages can use the server", (0, 1, 29)),
)


def advisories(version: str | None) -> tuple[Advisory, ...]:
    """The holes in a version of Ollama, as it tells it itself.

    Nothing for what says no release: no version, ``0.0.0`` (built without one), other text. A
    pre-release has what its release brings, and lacks what its release mends.
    """
    found = _VERSION.match(version or "")
    if found is None:
        return ()
    major, minor, patch, rest = found.groups()
    release = (int(major), int(minor), int(patch))
    if release == (0, 0, 0):
        return ()
    before = _PRE_RELEASE.match(rest) is not None
    return tuple(
        one
        for one in ADVISORIES
        if one.introduced <= release and (release < one.fixed or (before and release == one.fixed))
    )


def exposure(spec: OllamaNodeSpec, versions: Iterable[str]) -> str | None:
    """What is known against the versions that servers run, and the remedy; None for nothing."""
    hit = {version: found for version in sorted(set(versions)) if (found := advisories(version))}
    if not hit:
        return None
    holes = [one for one in ADVISORIES if any(one in found for found in hit.values())]
    running = " and ".join(f"Ollama {version}" for version in hit)
    has = "has" if len(hit) == 1 else "have"
    return f"{running} {has} known security holes: {_listed(holes)}. {_remedy(spec)}"


def _listed(holes: Sequence[Advisory]) -> str:
    """By what they let happen, in order of the table."""
    by_what: dict[str, list[str]] = {}
    for one in holes:
        by_what.setdefault(one.what, []).append(one.id)
    return "; ".join(f"{what} ({', '.join(ids)})" for what, ids in by_what.items())


def _remedy(spec: OllamaNodeSpec) -> str:
    if spec.external is not None:
        return f"Upgrade Ollama there to {DEFAULT_TAG} or newer."
    if spec.image.digest:
        return f"Write spec.image.digest of Ollama {DEFAULT_TAG} or newer."
    if _VERSION.match(spec.image.tag) and not advisories(spec.image.tag):
        return (
            f"spec.image.tag is {spec.image.tag}: these servers are yet to be updated, or the "
            "image is not what its tag says."
        )
    return f"Write spec.image.tag {DEFAULT_TAG} or newer."
