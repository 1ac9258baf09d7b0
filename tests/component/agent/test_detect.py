"""What an agent sees of its machine: programs on PATH, connections in the kernel."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest

from dev.ollama import process
from ollama_fleet.agent import detect
from ollama_fleet.agent.gpus import Gpu
from ollama_fleet.agent.inflight import in_flight
from tests.component.agent.fleets import program
from tests.unit.agent.test_gpus import MIG

MODEL = "llama3.2:1b"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running."
)
OLD = """case "$*" in *mig.mode*) echo 'Field "mig.mode.current" is not a valid field to query.'
exit 2;; esac; echo 'Tesla K80, 11441'"""
DIVIDED = f"""case "$1" in -q) cat <<'XML'
{MIG}
XML
;; *) echo 'NVIDIA A100-SXM4-40GB, 40960, Enabled';; esac"""
AMD = """[ "$*" = "--showproductname --showmeminfo vram --json" ] || exit 1
echo '{"card0": {"Card Series": "AMD Instinct MI210", "VRAM Total Memory (B)": "68702699520"}}'"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


async def test_a_machine_without_any(path: Path) -> None:
    assert await detect.gpus() == ([], [])


@pytest.mark.parametrize(
    ("scripts", "models", "trouble"),
    [
        ({"nvidia-smi": "echo 'NVIDIA L4, 23034, [N/A]'"}, ["NVIDIA L4"], None),
        ({"nvidia-smi": OLD}, ["Tesla K80"], None),
        (
            {"nvidia-smi": DIVIDED},
            ["NVIDIA A100-SXM4-40GB MIG"] * 2 + ["NVIDIA A100-SXM4-40GB"],
            None,
        ),
        ({"nvidia-smi": f'echo "{NO_DRIVER}"; exit 9'}, [], "couldn't communicate with"),
        ({"nvidia-smi": "echo No devices were found; exit 6"}, [], "No devices were found"),
        ({"nvidia-smi": "exit 127"}, [], "ended with 127"),
        ({"nvidia-smi": "echo"}, [], "tells of no GPU"),
        ({"nvidia-smi": "exec sleep 60"}, [], "is its driver stuck?"),
        ({"rocm-smi": AMD}, ["AMD Instinct MI210"], None),
        ({"nvidia-smi": "exit 9", "rocm-smi": AMD}, ["AMD Instinct MI210"], "ended with 9"),
        ({"rocm-smi": "echo 'ERROR:root:Driver not initialized' >&2; exit 2"}, [], "not initial"),
    ],
)
async def test_programs(
    path: Path, scripts: dict[str, str], models: list[str], trouble: str | None
) -> None:
    for name, script in scripts.items():
        program(path, name, script)
    found, troubles = await detect.gpus(patience=2)
    assert [gpu.model for gpu in found] == models
    assert (len(troubles) == 0) is (trouble is None)
    assert (trouble or "") in "".join(troubles)


async def test_a_program_that_cannot_be_started(path: Path) -> None:
    program(path, "nvidia-smi", "").write_text("#!/not/there\n")
    program(path, "rocm-smi", AMD)
    found, troubles = await detect.gpus()
    assert found == [Gpu("AMD Instinct MI210", 68702699520)]
    assert "cannot be started" in troubles[0]


@pytest.fixture
async def ollama(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    env = {
        "EMULATOR_MODELS": MODEL,
        "EMULATOR_TOKENS_PER_SECOND": "10",
        "EMULATOR_ANSWER_TOKENS": "600",
        "EMULATOR_LOAD_BYTES_PER_SECOND": "20G",
        "OLLAMA_NUM_PARALLEL": "4",
    }
    with process.server("emulator", tmp_path, env) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=30, trust_env=False) as client:
            yield client


async def test_requests_under_way_are_counted_and_kept_connections_are_not(
    ollama: httpx2.AsyncClient,
) -> None:
    port = ollama.base_url.port
    assert port is not None
    # kept open, as routers do
    await asyncio.gather(*(ollama.get("/api/version") for _ in range(3)))
    assert await in_flight(port) == 0
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    async with AsyncExitStack() as stack:
        streams = []  # one that nobody holds is closed
        for _ in range(2):
            stream = ollama.stream("POST", "/api/chat", json=chat)
            answer = await stack.enter_async_context(stream)
            streams.append(answer.aiter_lines())
            await anext(streams[-1])
        whole = asyncio.create_task(ollama.post("/api/chat", json={**chat, "stream": False}))
        async with asyncio.timeout(20):
            while await in_flight(port, apart=0.3) != 3:
                pass
        whole.cancel()
        await asyncio.wait([whole])
    async with asyncio.timeout(20):
        while await in_flight(port, apart=0.3) != 0:
            pass
