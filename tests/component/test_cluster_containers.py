"""How a container's command, environment and image become a local process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dev.machines.containers import Backoff
from dev.machines.environment import Mounts, WaitingError, expand
from dev.machines.images import Place, resolve
from dev.machines.quantity import in_bytes, parse

MOUNTS = Mounts({"/data": Path("/v/one"), "/data/deep": Path("/v/two"), "/": Path("/v/root")})


@pytest.mark.parametrize(
    ("text", "translated"),
    [
        ("/data", "/v/one"),
        ("/data/file", "/v/one/file"),
        ("/data/deep/file", "/v/two/file"),
        ("--dir=/data", "--dir=/v/one"),
        ("a:/data:/data/deep", "a:/v/one:/v/two"),
        ("open('/data/x')", "open('/v/one/x')"),
        ("/database", "/database"),
        ("/data-2", "/data-2"),
        ("/data.d", "/data.d"),
        ("/srv/data", "/srv/data"),
        ("http://host/data", "http://host/data"),
    ],
)
def test_mount_paths_become_folders(text: str, translated: str) -> None:
    mounts = Mounts({path: MOUNTS.folders[path] for path in ("/data", "/data/deep")})
    assert mounts.translate(text) == translated


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$(A)$(B)", "12"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(C)", "$(C)"),
        ("$A $ ()", "$A $ ()"),
    ],
)
def test_variables_are_expanded_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


@pytest.mark.parametrize(
    ("text", "number"),
    [("48Gi", 48 * 1024**3), ("1.5k", 1500), ("2", 2), ("0", 0), ("1Ti", 1024**4)],
)
def test_quantities(text: str, number: int) -> None:
    assert in_bytes(text) == number


def test_a_wrong_quantity_says_how_to_write_one() -> None:
    with pytest.raises(ValueError, match="'48 GB' is no quantity; write it like 48Gi"):
        parse("48 GB")


def test_restarts_back_off_as_a_kubelet_does() -> None:
    backoff = Backoff(10, 300)
    assert [backoff.after(n) for n in range(1, 9)] == [0, 10, 20, 40, 80, 160, 300, 300]


def place(mounts: Mapping[str, Path]) -> Place:
    return Place("127.64.1.2", Path("/pod/home"), Mounts(mounts), 24 << 30)


@pytest.mark.parametrize(
    ("mounts", "declared", "models"),
    [
        ({}, {}, "/pod/home/.ollama/models"),
        ({"/root/.ollama": Path("/v")}, {}, "/v/models"),
        ({"/home/ollama/.ollama": Path("/v")}, {}, "/v/models"),
        ({"/root/.ollama/models": Path("/v")}, {}, "/v"),
        # A declared path has been translated by now if it is in a volume.
        ({"/models": Path("/v")}, {"OLLAMA_MODELS": "/v/here"}, "/v/here"),
        ({}, {"OLLAMA_MODELS": "/no/volume"}, "/pod/home/no/volume"),
    ],
)
def test_ollama_keeps_its_models_in_the_pods_volume(
    mounts: Mapping[str, Path], declared: Mapping[str, str], models: str
) -> None:
    program = resolve("docker.io/ollama/ollama:0.35.1-rocm", [], [], declared, place(mounts))
    assert program.environment["OLLAMA_MODELS"] == models
    assert program.environment["EMULATOR_GPU_MEMORY"] == str(24 << 30)


@pytest.mark.parametrize(
    ("declared", "host"),
    [
        ({}, "127.64.1.2:11434"),
        ({"OLLAMA_HOST": "0.0.0.0"}, "127.64.1.2:11434"),
        ({"OLLAMA_HOST": "0.0.0.0:8000"}, "127.64.1.2:8000"),
        ({"OLLAMA_HOST": "http://0.0.0.0:8000"}, "127.64.1.2:8000"),
    ],
)
def test_ollama_listens_on_the_pods_address(declared: Mapping[str, str], host: str) -> None:
    program = resolve("ollama/ollama", ["/bin/ollama"], ["serve"], declared, place({}))
    assert program.environment["OLLAMA_HOST"] == host
    assert program.command[0] != "/bin/ollama"


def test_our_programs_are_told_their_address() -> None:
    program = resolve(
        "ghcr.io/someone/ollama-fleet:1.2@sha256:" + "0" * 64,
        ["ollama-fleet-router"],
        ["--port=8080"],
        {},
        place({}),
    )
    assert program.command == ["ollama-fleet-router", "--port=8080"]
    assert program.environment["OLLAMA_FLEET_HOST"] == "127.64.1.2"
    assert program.environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ("nginx", "ErrImagePull"),
        ("someone/not-ollama-fleet", "ErrImagePull"),
        ("Not An Image", "InvalidImageName"),
        ("ollama-fleet", "CreateContainerError"),
    ],
)
def test_other_images_are_refused_as_a_kubelet_would(image: str, reason: str) -> None:
    with pytest.raises(WaitingError) as refused:
        resolve(image, [], [], {}, place({}))
    assert refused.value.reason == reason
