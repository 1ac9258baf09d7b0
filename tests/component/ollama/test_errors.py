"""Refusals: status, wording and envelope."""

from __future__ import annotations

import httpx2
import pytest

from tests.component.ollama.conftest import CHAT

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "/api/chat", {"model": "nope", "messages": HELLO}, 404, "model 'nope' not found"),
        ("POST", "/api/chat", {"model": ""}, 400, "model is required"),
        ("POST", "/api/chat", {"model": "a/b/c/d:e"}, 400, "model is required"),
        ("POST", "/api/generate", {"model": "nope"}, 404, "model 'nope' not found"),
        ("POST", "/api/generate", {"model": ""}, 404, "model '' not found"),
        (
            "POST",
            "/api/embed",
            {"model": "nope", "input": "x"},
            404,
            'model "nope" not found, try pulling it first',
        ),
        (
            "POST",
            "/api/embeddings",
            {"model": "nope", "prompt": "x"},
            404,
            'model "nope" not found, try pulling it first',
        ),
        ("POST", "/api/embeddings", {"model": ""}, 400, "model is required"),
        ("POST", "/api/embed", {"model": CHAT, "input": [1]}, 400, "invalid input type"),
        ("POST", "/api/show", {"model": "nope"}, 404, "model 'nope' not found"),
        ("POST", "/api/show", {}, 400, "model is required"),
        ("POST", "/api/pull", {"model": "../x y"}, 400, "invalid model name"),
        ("POST", "/api/pull", {"model": ""}, 400, "invalid model name"),
        ("DELETE", "/api/delete", {"model": "nope"}, 404, "model 'nope' not found"),
        ("DELETE", "/api/delete", {"model": "x y"}, 400, 'name "x y" is invalid'),
        (
            "POST",
            "/api/copy",
            {"source": "nope", "destination": "x"},
            404,
            'model "nope" not found',
        ),
        (
            "POST",
            "/api/copy",
            {"source": CHAT, "destination": "x y"},
            400,
            'destination "x y" is invalid',
        ),
    ],
)
async def test_native_errors(
    http: httpx2.AsyncClient, method: str, path: str, body: object, status: int, message: str
) -> None:
    response = await http.request(method, path, json=body)
    assert (response.status_code, response.json()) == (status, {"error": message})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "missing request body"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ('{"model":', "unexpected EOF"),
        ('{"model": "x', "unexpected EOF"),
        ("{model:1}", "invalid character 'm' looking for beginning of object key string"),
        ('{"model":"x"]', "invalid character ']' after object key:value pair"),
        (
            '{"model":1}',
            "json: cannot unmarshal number into Go struct field ChatRequest.model of type string",
        ),
        (
            '{"model":"x","messages":"hi"}',
            "json: cannot unmarshal string into Go struct field ChatRequest.messages "
            "of type []api.Message",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type api.ChatRequest"),
    ],
)
async def test_bodies_that_cannot_be_read(
    http: httpx2.AsyncClient, content: str, message: str
) -> None:
    response = await http.post("/api/chat", content=content)
    assert (response.status_code, response.json()) == (400, {"error": message})


@pytest.mark.parametrize(
    ("path", "body", "status", "message", "kind"),
    [
        (
            "/v1/chat/completions",
            {"model": "nope", "messages": HELLO},
            404,
            "model 'nope' not found",
            "api_error",
        ),
        (
            "/v1/chat/completions",
            {"model": CHAT},
            400,
            "[] is too short - 'messages'",
            "invalid_request_error",
        ),
        (
            "/v1/completions",
            {"model": "nope", "prompt": "x"},
            404,
            "model 'nope' not found",
            "api_error",
        ),
        ("/v1/embeddings", {"model": CHAT}, 400, "invalid input", "invalid_request_error"),
    ],
)
async def test_openai_errors(
    http: httpx2.AsyncClient, path: str, body: object, status: int, message: str, kind: str
) -> None:
    response = await http.post(path, json=body)
    error = {"message": message, "type": kind, "param": None, "code": None}
    assert (response.status_code, response.json()) == (status, {"error": error})


@pytest.mark.parametrize(
    ("body", "status", "message", "kind"),
    [
        (
            {"model": "nope", "max_tokens": 9, "messages": HELLO},
            404,
            "model 'nope' not found",
            "not_found_error",
        ),
        ({"max_tokens": 9}, 400, "model is required", "invalid_request_error"),
        (
            {"model": CHAT, "messages": HELLO},
            400,
            "max_tokens is required and must be positive",
            "invalid_request_error",
        ),
        (
            {"model": CHAT, "max_tokens": 9},
            400,
            "messages is required",
            "invalid_request_error",
        ),
    ],
)
async def test_anthropic_errors(
    http: httpx2.AsyncClient, body: object, status: int, message: str, kind: str
) -> None:
    response = await http.post("/v1/messages", json=body)
    answer = response.json()
    assert response.status_code == status
    assert answer["type"] == "error"
    assert answer["error"] == {"type": kind, "message": message}
    assert answer["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/api/chat", "POST"),
        ("POST", "/api/tags", "HEAD, GET"),
        ("POST", "/api/delete", "DELETE"),
        ("PUT", "/v1/models", "GET"),
    ],
)
async def test_wrong_method(http: httpx2.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await http.request(method, path)
    assert response.status_code == 405
    assert response.text == "405 method not allowed"
    assert set(response.headers["allow"].split(", ")) == set(allow.split(", "))


@pytest.mark.parametrize("path", ["/nope", "/api", "/v1/messages/count_tokens", "/api/chat/x"])
async def test_unknown_paths(http: httpx2.AsyncClient, path: str) -> None:
    response = await http.post(path, json={})
    assert response.status_code == 404
    assert response.text == "404 page not found"
    assert response.headers["content-type"] == "text/plain"


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [("/api/tags/", 301, "/api/tags"), ("//api/tags", 307, "/api/tags")],
)
async def test_untidy_paths_are_moved(
    http: httpx2.AsyncClient, path: str, status: int, location: str
) -> None:
    response = await http.get(f"{http.base_url}".rstrip("/") + path)
    assert (response.status_code, response.headers["location"]) == (status, location)


async def test_encoded_paths_are_decoded(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/%61pi/version")).status_code == 200


async def test_a_foreign_origin_is_refused(http: httpx2.AsyncClient) -> None:
    response = await http.get("/api/tags", headers={"Origin": "https://evil.example"})
    assert (response.status_code, response.content) == (403, b"")
    assert (await http.get("/", headers={"Origin": "http://localhost:3000"})).status_code == 200


async def test_a_foreign_host_is_refused_on_loopback(http: httpx2.AsyncClient) -> None:
    response = await http.get("/api/tags", headers={"Host": "evil.example"})
    assert (response.status_code, response.content) == (403, b"")
    assert (await http.get("/", headers={"Host": "ollama.internal:11434"})).status_code == 200
