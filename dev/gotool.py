"""Programs that are Go modules: the one on PATH, or one built once and kept in the cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import gobuild

Say = Callable[[str], None]


@dataclass(frozen=True)
class GoTool:
    """One program; `package` is what `go install` takes, without the version."""

    name: str
    package: str
    version: str
    packages: int
    """Compiled in a build from nothing, for the progress line alone."""
    takes: str
    """How long that is on two cores, in words."""
    usable: Callable[[Path], bool] = lambda _: True
    """Whether one that is on PATH will do."""

    def find(self, say: Say, environment: Mapping[str, str] = os.environ) -> Path:
        """Where it is, after making it if need be; `say` gets a line per step of that.

        Raises ClusterError where there is none and none can be built.
        """
        if (found := self.there(environment)) is not None:
            return found
        self._build(self._built(environment), _cache(environment), say)
        return self._built(environment)

    def there(self, environment: Mapping[str, str] = os.environ) -> Path | None:
        """Where it is; None: it would have to be made."""
        found = shutil.which(self.name, path=environment.get("PATH"))
        if found and self.usable(Path(found)):
            return Path(found)
        built = self._built(environment)
        return built if os.access(built, os.X_OK) else None

    def _built(self, environment: Mapping[str, str]) -> Path:
        return _cache(environment) / f"{self.name}-{self.version}" / self.name

    def _build(self, target: Path, cache: Path, say: Say) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        go = gobuild.find_go(cache, say, f"put {self.name} on PATH")
        say(f"no {self.name} on PATH: building {self.version} with {go}: {self.takes}, once")
        with tempfile.TemporaryDirectory(prefix=".making-", dir=cache) as made:
            arguments = ["install", "-ldflags", "-s -w", f"{self.package}@{self.version}"]
            gobuild.compile_with(go, arguments, cache, self.packages, say, GOBIN=made)
            target.parent.mkdir(exist_ok=True)
            (Path(made) / self.name).replace(target)


def _cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or "~") / ".cache"
    return Path(home).expanduser() / "ollama-fleet"
