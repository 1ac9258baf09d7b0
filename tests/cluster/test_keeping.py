"""What a ModelDistribution keeps true: pins, what is pruned, the manifest, what is resident."""

from __future__ import annotations

import json

import httpx2

from ollama_fleet.kube.kinds import CONFIG_MAP, MODEL_DISTRIBUTION, OLLAMA_NODE, Object
from tests.cluster.fleet import SMALL, Fleet, Registry, distribution, ollama_node, router, told
from tests.cluster.waiting import eventually

TINY = "qwen3:0.6b"


def ask(url: str, path: str, **body: object) -> httpx2.Response:
    """One request that is not streamed."""
    return httpx2.post(url + path, json={"stream": False, **body}, timeout=30, trust_env=False)


def chat(url: str, model: str) -> int:
    return ask(
        url, "/api/chat", model=model, messages=[{"role": "user", "content": "hi"}]
    ).status_code


def test_a_pinned_model_that_drifts_gets_no_requests_and_is_pulled_again(
    fleet: Fleet, registry: Registry
) -> None:
    pin = registry.digest(SMALL)
    pinned = distribution("pinned", models=[{"name": SMALL, "digest": pin}])
    fleet.apply(
        ollama_node(replicas=2),
        pinned,
        distribution("other", TINY),
        router(health={"interval": "1s"}),
    )
    fleet.ready(MODEL_DISTRIBUTION, "pinned")
    fleet.ready(MODEL_DISTRIBUTION, "other")
    url = fleet.url()
    eventually("the router answers", lambda: chat(url, SMALL) == 200)
    servers = [fleet.emulator(pod) for pod in fleet.pods("a")]
    # nothing may mend it before it was seen
    fleet.patch(MODEL_DISTRIBUTION, "pinned", {"spec": {"pullPolicy": "Never"}})
    fleet.ready(MODEL_DISTRIBUTION, "pinned")
    for one in servers:
        ask(one.url, "/api/copy", source=TINY, destination=SMALL)
    assert "pinned" in eventually("no server is left", lambda: _refused(url))
    assert chat(url, TINY) == 200
    # once it is pulled the servers are asked what they have
    fleet.apply(distribution("more", "qwen3:1.7b"))
    told = fleet.stalls(MODEL_DISTRIBUTION, "pinned", "DigestMismatch")
    assert f"wanted is {pin}, and pullPolicy is Never" in told

    def drifted() -> bool:
        return bool(fleet.status(MODEL_DISTRIBUTION, "pinned")["summary"]["drifted"] == 2)

    eventually("both are counted", drifted)
    eventually("it is told", lambda: "Drifted" in fleet.reasons(MODEL_DISTRIBUTION, "pinned"))
    fleet.patch(MODEL_DISTRIBUTION, "pinned", {"spec": {"pullPolicy": "IfNotPresent"}})
    fleet.ready(MODEL_DISTRIBUTION, "pinned")
    assert {f"sha256:{one.installed()[SMALL]}" for one in servers} == {pin}
    eventually("it is served again", lambda: chat(url, SMALL) == 200)


def _refused(url: str) -> str:
    answer = ask(url, "/api/chat", model=SMALL, messages=[])
    return answer.json()["error"] if answer.status_code == 503 else ""


def test_of_two_pins_the_older_holds(fleet: Fleet, registry: Registry) -> None:
    fleet.apply(ollama_node())
    fleet.ready(OLLAMA_NODE, "a")
    fleet.apply(distribution("first", models=[{"name": SMALL, "digest": registry.digest(SMALL)}]))
    fleet.ready(MODEL_DISTRIBUTION, "first")
    other = registry.digest(TINY)
    fleet.apply(distribution("second", models=[{"name": SMALL, "digest": other}]))
    assert "ModelDistribution first," in fleet.stalls(
        MODEL_DISTRIBUTION, "second", "ContradictoryPin"
    )
    fleet.ready(MODEL_DISTRIBUTION, "first")
    fleet.delete(MODEL_DISTRIBUTION, "second")


def test_what_nobody_wants_is_deleted_where_that_is_asked_for(fleet: Fleet) -> None:
    fleet.apply(ollama_node())
    fleet.ready(OLLAMA_NODE, "a")
    (pod,) = fleet.pods("a")
    server = fleet.emulator(pod)
    fleet.apply(distribution("m", SMALL))
    fleet.ready(MODEL_DISTRIBUTION, "m")
    ask(server.url, "/api/copy", source=SMALL, destination="mine")
    ask(server.url, "/api/copy", source=SMALL, destination="busy")
    ask(server.url, "/api/generate", model="busy")
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"prune": "Unlisted", "dryRun": True}})
    # once it is pulled the server is asked what it has
    fleet.apply(distribution("other", TINY))

    def planned() -> bool:
        ready = fleet.status(MODEL_DISTRIBUTION, "m")["conditions"][0]["message"]
        return "would delete" in ready and "mine:latest on a-0" in ready

    eventually("it says what it would delete", planned)
    fleet.ready(MODEL_DISTRIBUTION, "other")
    assert set(server.installed()) == {SMALL, TINY, "mine:latest", "busy:latest"}
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"dryRun": False}})
    eventually("what nobody wants goes", lambda: "mine:latest" not in server.installed())
    # without a router nobody knows whether what is in memory is used
    assert set(server.installed()) == {SMALL, TINY, "busy:latest"}
    eventually("it is told", lambda: "Pruned" in fleet.reasons(MODEL_DISTRIBUTION, "m"))
    ask(server.url, "/api/generate", model="busy", keep_alive=0)
    fleet.delete(MODEL_DISTRIBUTION, "other")
    eventually("and what is wanted no longer", lambda: set(server.installed()) == {SMALL})


def test_the_manifest_says_what_servers_say(fleet: Fleet, registry: Registry) -> None:
    fleet.apply(ollama_node(replicas=2))
    fleet.ready(OLLAMA_NODE, "a")
    pin = {"name": SMALL, "digest": registry.digest(SMALL)}
    fleet.apply(distribution("m", models=[pin]), distribution("other", TINY))
    fleet.ready(MODEL_DISTRIBUTION, "other")
    fleet.ready(MODEL_DISTRIBUTION, "m")
    assert fleet.status(MODEL_DISTRIBUTION, "m")["manifestRef"] == {
        "name": "m-manifest",
        "parts": 1,
    }
    pods = {pod["metadata"]["name"]: pod for pod in fleet.pods("a")}

    def written() -> dict[str, Object]:
        found = fleet.get(CONFIG_MAP, "m-manifest") or {}
        told = json.loads((found.get("data") or {}).get("manifest.json", '{"servers": []}'))
        entries = {entry["server"]: entry for entry in told["servers"]}
        full = all(len(entry["models"]) == 2 for entry in entries.values())
        return entries if entries.keys() == pods.keys() and full else {}

    entries = eventually("both servers are there", written)
    for name, pod in pods.items():
        entry = entries[name]
        tags = httpx2.get(f"{fleet.emulator(pod).url}/api/tags", trust_env=False).json()["models"]
        assert entry["host"] == pod["status"]["podIP"]
        assert entry["kubernetesNode"] == pod["spec"]["nodeName"]
        assert (entry["required"], entry["present"], entry["missing"]) == ([SMALL], [SMALL], [])
        assert told(entry["models"], "name", "digest", "size") == sorted(
            (one["name"], f"sha256:{one['digest']}", one["size"]) for one in tags
        )
        assert [one["name"] for one in entry["models"] if "verifiedAt" in one] == [SMALL]
    fleet.rests(5)
    before = fleet.get(CONFIG_MAP, "m-manifest")
    fleet.delete(MODEL_DISTRIBUTION, "m")
    fleet.gone(MODEL_DISTRIBUTION, "m")
    assert fleet.get(CONFIG_MAP, "m-manifest") == before
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "n-manifest"}}
    fleet.apply({**theirs, "data": {"manifest.json": "theirs"}})
    fleet.apply(distribution("n", SMALL))
    assert "n-manifest" in fleet.stalls(MODEL_DISTRIBUTION, "n", "ApplyRefused")
    assert (fleet.get(CONFIG_MAP, "n-manifest") or {})["data"] == {"manifest.json": "theirs"}


def test_a_preloaded_model_is_back_after_a_crash_and_let_go_in_the_end(fleet: Fleet) -> None:
    fleet.apply(
        ollama_node(),
        distribution("m", models=[{"name": SMALL, "preload": True}]),
        distribution("n", models=[{"name": TINY, "preload": True}]),
    )

    def lasting() -> set[str]:
        (pod,) = fleet.pods("a")
        try:
            answer = httpx2.get(f"{fleet.emulator(pod).url}/api/ps", trust_env=False)
        except httpx2.HTTPError:
            return set()
        return {one["name"] for one in answer.json()["models"] if one["expires_at"] > "2200"}

    first, second = sorted(("m", "n"))
    message = fleet.stalls(MODEL_DISTRIBUTION, second, "NoRoomToPreload")
    assert "maxLoadedModels is 1" in message
    fleet.ready(MODEL_DISTRIBUTION, first)
    eventually("it is in memory", lambda: lasting() == {SMALL})
    (pod,) = fleet.pods("a")
    ask(fleet.emulator(pod).url, "/api/generate", model=SMALL, keep_alive=0)
    fleet.kill(pod)
    eventually("it is back", lambda: lasting() == {SMALL})
    eventually("status tells", lambda: fleet.servers("a")["a-0"].get("preloaded") == [SMALL])
    fleet.patch(MODEL_DISTRIBUTION, "m", {"spec": {"models": [{"name": SMALL, "preload": False}]}})
    eventually("the other one has its place", lambda: lasting() == {TINY})
    fleet.ready(MODEL_DISTRIBUTION, "n")
    fleet.delete(MODEL_DISTRIBUTION, "n")
    eventually("it is let go", lambda: not lasting())
