"""Compile the router's hot path to C: `python operator/ollama_fleet/router/build.py`.

Needs mypyc, a C compiler and Python's headers; without the latter two it says so and leaves the
router interpreted, which is an error where OLLAMA_FLEET_COMPILED is 1. What is built lies beside
the sources in `compiled/`; the package uses it as long as the sources are those it was built from.
Run as a file, as it imports nothing of the router.
"""

import argparse
import hashlib
import os
import shutil
import sys
import sysconfig
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

HOT = (
    "accounting",
    "admission",
    "affinity",
    "aliases",
    "body",
    "breaker",
    "call",
    "choose",
    "chunks",
    "conversation",
    "errors",
    "estimates",
    "exchange",
    "fields",
    "forward",
    "framing",
    "front",
    "frontage",
    "gate",
    "histogram",
    "keys",
    "loading",
    "names",
    "options",
    "places",
    "pool",
    "quota",
    "relay",
    "ring",
    "routes",
    "settings",
    "sharing",
    "snapshot",
    "status",
    "tenants",
    "upstream",
    "usage",
    "usual",
    "waiting",
)
"""The modules that every request runs through; the rest of the router stays Python.

Also whatever has a coroutine: mypyc's (2.4) go wrong where an error is thrown into one that waits
for another.
"""

_PACKAGE = "ollama_fleet.router"


def main() -> None:
    """Compile, unless what is there is from these very sources."""
    router = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", default=sys.executable, help="where the packages are that the router imports"
    )
    arguments = parser.parse_args()
    target = router / "compiled"
    manifest = _manifest(router)
    listed = target / "sources"
    if listed.is_file() and listed.read_text() == manifest:
        return
    lacking = _lacking()
    if lacking:
        print(f"the router stays interpreted: no {lacking}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1 if os.environ.get("OLLAMA_FLEET_COMPILED") == "1" else 0)
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as work:
        built = _build(router, Path(work), arguments.python)
        # The list comes last: without it nothing of this is used.
        shutil.copytree(built, target)
    listed.write_text(manifest)


def _lacking() -> str:
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python.h"
    compiler = os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc")
    return "" if shutil.which(compiler.split()[0]) else "C compiler"


def _manifest(router: Path) -> str:
    """For which Python this is, and the digest of every source."""
    digests = (
        f"{hashlib.sha256((router / f'{name}.py').read_bytes()).hexdigest()}  {name}.py"
        for name in HOT
    )
    return "\n".join((EXTENSION_SUFFIXES[0], *digests)) + "\n"


def _build(router: Path, work: Path, python: str) -> Path:
    """Returns the folder with one shared object per module, and the one they all stand on."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    os.chdir(router.parents[1])
    sources = [str((router / f"{name}.py").relative_to(Path.cwd())) for name in HOT]
    config = work / "mypy.ini"
    config.write_text(
        "[mypy]\nstrict = True\nexplicit_package_bases = True\nmypy_path = .\n"
        f"ignore_missing_imports = True\ncache_dir = {work / 'cache'}\n"
    )
    options = ["--config-file", str(config), "--python-executable", python]
    extensions = mypycify(
        [*options, *sources], target_dir=str(work / "c"), group_name=f"{_PACKAGE}.hot"
    )
    distribution = Distribution({"ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(work / "lib"), str(work / "objects")
    command.ensure_finalized()
    command.run()
    return work / "lib" / _PACKAGE.replace(".", "/")


if __name__ == "__main__":
    main()
