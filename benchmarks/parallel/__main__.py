"""Three models side by side: `make bench-parallel`.

Three jobs, each a long answer of a model of its own: through the router to one emulated server,
which keeps one model in memory and so has them take turns, and to a server for each model.
"""

import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2

from dev.ollama import process

JOBS = {"llama3.2:1b": 30, "qwen3:0.6b": 25, "llama3.2:3b": 28}
"""Units of work by model."""
UNIT = 0.2
"""Seconds."""
TOKENS = 10
"""Of a unit."""
MOST = 1.05
"""The time for all, against the longest alone."""
RESULT = Path(__file__).parents[1] / "results" / "parallel.json"

_SERVING = re.compile(r"(http://\S+) leads to (\d+) of (\d+) servers")


def emulated(stack: ExitStack, directory: Path, *models: str) -> str:
    """A server with these models, one of them in memory at a time; its URL."""
    env = {
        "EMULATOR_MODELS": ",".join(models),
        "EMULATOR_TOKENS_PER_SECOND": str(TOKENS / UNIT),
        "EMULATOR_ANSWER_TOKENS": str(max(JOBS.values()) * TOKENS),
        "EMULATOR_LOAD_BYTES_PER_SECOND": "1T",
        "OLLAMA_MAX_LOADED_MODELS": "1",
    }
    return stack.enter_context(process.server("emulator", directory, env)).url


@contextmanager
def router(directory: Path, urls: list[str]) -> Iterator[str]:
    """The router in front of these servers, as a person starts it; its URL."""
    config, log = directory / "router.yaml", directory / "router.log"
    config.write_text(json.dumps({"backends": [{"url": url} for url in urls]}))
    options = ("--host=127.0.0.1", "--port=0", "--metrics-port=-1", "--drain-pause=0")
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", "ollama_fleet.router.main", f"--config={config}", *options],
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 20
        while (found := _SERVING.search(log.read_text())) is None:
            if running.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the router did not start: {log.read_text()[-500:]}")
            time.sleep(0.02)
        assert found[2] == found[3], log.read_text()
        yield found[1]
    finally:
        running.terminate()
        running.wait()


async def seconds(url: str, *models: str) -> float:
    """From the first question until the last answer is whole, all asked at once."""
    async with httpx2.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
        began = time.monotonic()
        await asyncio.gather(*(answer(client, model, JOBS[model]) for model in models))
        return time.monotonic() - began


async def answer(client: httpx2.AsyncClient, model: str, units: int) -> None:
    """A streamed answer of so many units."""
    body = {"model": model, "prompt": "Go on.", "options": {"num_predict": units * TOKENS}}
    async with client.stream("POST", "/api/generate", json=body) as reply:
        lines = [line async for line in reply.aiter_lines() if line]
    assert reply.status_code == 200
    assert json.loads(lines[-1])["eval_count"] == units * TOKENS


async def measure(directory: Path) -> dict[str, float]:
    """Seconds, by what was run."""
    with ExitStack() as stack:
        alone = emulated(stack, directory / "one", *JOBS)
        each = [emulated(stack, directory / str(n), model) for n, model in enumerate(JOBS)]
        with router(directory, [alone]) as url:
            one = await seconds(url, *JOBS)
        with router(directory, each) as url:
            longest = await seconds(url, max(JOBS, key=lambda model: JOBS[model]))
            three = await seconds(url, *JOBS)
    return {"one server": one, "the longest part alone": longest, "three servers": three}


def report(found: dict[str, float]) -> bool:
    """Print and save the table; whether what is required held."""
    units = " + ".join(str(count) for count in JOBS.values())
    print(f"three jobs of {units} units of {UNIT} s, a model each, asked at once")
    print(f"{'':26}{'seconds':>9}{'units':>8}")
    for name, took in found.items():
        print(f"{name:26}{took:9.2f}{took / UNIT:8.1f}")
    ratio = found["three servers"] / found["the longest part alone"]
    print(f"three servers take {ratio:.3f} of the longest part (at most {MOST})")
    figures = {f"{name}: seconds": round(took, 2) for name, took in found.items()}
    figures["three servers / the longest part"] = round(ratio, 3)
    required = {"three servers / the longest part": f"<= {MOST}"}
    held = ratio <= MOST
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(
        json.dumps({"figures": figures, "required": required, "held": held}, indent=2) + "\n"
    )
    return held


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        found = asyncio.run(measure(Path(name)))
    if not report(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
