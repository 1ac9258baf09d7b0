"""Which of its two forms the router runs in."""

import ast
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import ollama_fleet
from ollama_fleet.router.build import HOT

SOURCE = Path(ollama_fleet.__path__[0])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The package without its compiled form; returns the router's folder."""
    ignored = shutil.ignore_patterns("compiled", "__pycache__", "mirror", "controllers")
    shutil.copytree(SOURCE, tmp_path / "ollama_fleet", ignore=ignored)
    return tmp_path / "ollama_fleet" / "router"


def build(router: Path, suffix: str = EXTENSION_SUFFIXES[0]) -> None:
    """As if compiled: the list of sources, and a module that tells where it comes from."""
    compiled = router / "compiled"
    compiled.mkdir()
    digest = sha256((router / "status.py").read_bytes()).hexdigest()
    (compiled / "sources").write_text(f"{suffix}\n{digest}  status.py\n")
    (compiled / "status.py").write_text("")


def chosen(router: Path, wish: str) -> str:
    """`compiled`, `interpreted`, or the last line of what went wrong."""
    code = (
        "from ollama_fleet.router import COMPILED, status\n"
        "used = 'compiled' in status.__file__\n"
        "assert used is COMPILED\n"
        "print('compiled' if used else 'interpreted')"
    )
    env = {"PATH": os.defpath, "PYTHONPATH": str(router.parents[1])}
    if wish:
        env["OLLAMA_FLEET_COMPILED"] = wish
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def test_without_a_build_it_is_interpreted(tree: Path) -> None:
    assert chosen(tree, "") == "interpreted"
    assert "run `make compiled`" in chosen(tree, "1")


def test_a_build_is_used_unless_it_is_switched_off(tree: Path) -> None:
    build(tree)
    assert chosen(tree, "") == "compiled"
    assert chosen(tree, "1") == "compiled"
    assert chosen(tree, "0") == "interpreted"


def test_a_build_from_other_sources_is_not_used(tree: Path) -> None:
    build(tree)
    with (tree / "status.py").open("a") as source:
        source.write("\n")
    assert chosen(tree, "") == "interpreted"
    assert "run `make compiled`" in chosen(tree, "1")


def test_a_build_for_another_python_is_not_used(tree: Path) -> None:
    build(tree, ".cpython-27.so")
    assert chosen(tree, "") == "interpreted"


def test_what_is_compiled_is_there() -> None:
    assert [name for name in HOT if not (SOURCE / "router" / f"{name}.py").is_file()] == []
    assert list(HOT) == sorted(HOT)


@pytest.mark.parametrize("name", HOT)
def test_no_coroutine_is_compiled(name: str) -> None:
    tree = ast.parse((SOURCE / "router" / f"{name}.py").read_text())
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
