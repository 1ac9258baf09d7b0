"""Emulators of a test's own, and what to ask of them."""

from __future__ import annotations

from typing import Any, Protocol

import httpx2

from ollama_fleet.ollama.client import OllamaClient

HELLO = [{"role": "user", "content": "hello"}]
GIB = 2**30
BASE = {
    "OLLAMA_CONTEXT_LENGTH": "4096",
    "EMULATOR_GPU_MEMORY": "12Gi",
    "EMULATOR_LOAD_BYTES_PER_SECOND": "100G",
    "EMULATOR_TOKENS_PER_SECOND": "1000",
    "EMULATOR_MODELS": "llama3.1:8b,llama3.2:1b,llama3.2:3b,qwen3:4b,gpt-oss:20b,all-minilm",
}


class Start(Protocol):
    def __call__(self, **env: str) -> OllamaClient: ...


async def stats(client: OllamaClient) -> dict[str, Any]:
    async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
        return dict((await http.get(f"{client.base_url}/_emulator/stats")).json())


async def fault(client: OllamaClient, **values: Any) -> int:
    async with httpx2.AsyncClient(verify=False, trust_env=False) as http:
        answer = await http.post(f"{client.base_url}/_emulator/faults", json=values)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])


async def chat(client: OllamaClient, model: str, **body: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(verify=False, trust_env=False, timeout=10) as http:
        whole = {"model": model, "messages": HELLO, "stream": False, **body}
        return await http.post(f"{client.base_url}/api/chat", json=whole)


async def resident(client: OllamaClient) -> dict[str, tuple[int, int]]:
    return {model.name: (model.size, model.size_vram) for model in await client.ps()}
