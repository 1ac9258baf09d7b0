"""Bodies that a real Ollama reads in a way of its own never reach it."""

import httpx2
import pytest

from tests.component.clients.conftest import CHAT, Fleet


def resident_context(server: httpx2.Client) -> list[int]:
    models = server.get("/api/ps").json()["models"]
    return [one["context_length"] for one in models if one["name"] == CHAT]


@pytest.mark.parametrize(
    "more",
    [
        '"options":{"num_ctx":512},"options":{"num_predict":1}',  # it takes both
        '"OPTIONS":{"num_ctx":512,"num_predict":1}',
        '"option\u017f":{"num_ctx":512,"num_predict":1}',
        '"\\u006fptions":{"num_ctx":512},"options":{"num_predict":1}',
    ],
)
def test_options_in_disguise(fleet: Fleet, more: str) -> None:
    body = f'{{"model":"{CHAT}","prompt":"hi","stream":false,{more}}}'.encode()
    plain = {"model": CHAT, "prompt": "hi", "stream": False, "options": {"num_predict": 1}}
    with (
        httpx2.Client(base_url=fleet.server.url, timeout=30, trust_env=False) as server,
        httpx2.Client(base_url=fleet.url, timeout=30, trust_env=False) as router,
    ):
        assert router.post("/api/generate", json=plain).status_code == 200
        assert resident_context(server) == [4096]
        refused = router.post("/api/generate", content=body)
        assert refused.status_code == 400
        assert refused.json()["error"].startswith("the key '")
        assert resident_context(server) == [4096]
        assert server.post("/api/generate", content=body).status_code == 200
        assert resident_context(server) == [512]
        assert router.post("/api/generate", json=plain).status_code == 200
        assert resident_context(server) == [4096]


def test_a_second_model_in_disguise(fleet: Fleet) -> None:
    body = f'{{"model":"{CHAT}","MODEL":"no-such","prompt":"hi"}}'.encode()
    direct = httpx2.post(f"{fleet.server.url}/api/generate", content=body, trust_env=False)
    assert direct.json() == {"error": "model 'no-such' not found"}
    refused = httpx2.post(f"{fleet.url}/api/generate", content=body, trust_env=False)
    assert refused.json() == {"error": "the key 'MODEL' is ambiguous: write it in lower case"}
