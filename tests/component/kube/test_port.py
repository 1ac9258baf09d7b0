import base64
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes.aio.config import incluster_config

from dev.cluster import Cluster
from ollama_fleet.kube import (
    ConfigError,
    Conflict,
    Forbidden,
    Invalid,
    Kube,
    KubeError,
    NotFound,
    Unauthorized,
    Unavailable,
)
from ollama_fleet.kube.kinds import CONFIG_MAP, EVENT, HTTP_ROUTE, OLLAMA_NODE
from tests.component.kube.conftest import config_map, ollama_node


async def test_apply_creates_and_a_second_apply_changes_nothing(kube: Kube, namespace: str) -> None:
    first = await kube.apply(config_map("a", namespace, k="v"))
    second = await kube.apply(config_map("a", namespace, k="v"))
    assert first["data"] == {"k": "v"}
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


async def test_apply_repairs_our_fields_and_leaves_those_of_others(
    kube: Kube, namespace: str
) -> None:
    await kube.apply(config_map("a", namespace, ours="1"))
    await kube.patch(CONFIG_MAP, "a", namespace, {"data": {"ours": "drift", "theirs": "2"}})
    repaired = await kube.apply(config_map("a", namespace, ours="1"))
    assert repaired["data"] == {"ours": "1", "theirs": "2"}


async def test_apply_without_force_yields_to_others(kube: Kube, namespace: str) -> None:
    await kube.apply(config_map("a", namespace, k="1"), field_manager="somebody")
    with pytest.raises(Conflict, match="somebody") as caught:
        await kube.apply(config_map("a", namespace, k="2"), force=False)
    assert not caught.value.exists


async def test_apply_takes_back_what_is_no_longer_applied(kube: Kube, namespace: str) -> None:
    await kube.apply(config_map("a", namespace, one="1", two="2"))
    after = await kube.apply(config_map("a", namespace, one="1"))
    assert after["data"] == {"one": "1"}


async def test_apply_status_writes_the_status_alone(kube: Kube, namespace: str) -> None:
    node = await kube.create(ollama_node("a", namespace, replicas=2))
    wanted = node | {"spec": {"replicas": 9}, "status": {"readyReplicas": 1}}
    after = await kube.apply_status(wanted)
    assert after["spec"]["replicas"] == 2
    assert after["status"]["readyReplicas"] == 1
    assert after["metadata"]["generation"] == node["metadata"]["generation"]


async def test_apply_status_does_not_bring_back_what_is_gone(kube: Kube, namespace: str) -> None:
    with pytest.raises(NotFound):
        await kube.apply_status(ollama_node("a", namespace) | {"status": {"replicas": 1}})


async def test_create_of_what_exists(kube: Kube, namespace: str) -> None:
    await kube.create(config_map("a", namespace))
    with pytest.raises(Conflict) as caught:
        await kube.create(config_map("a", namespace))
    assert caught.value.exists


async def test_update_loses_a_race(kube: Kube, namespace: str) -> None:
    first = await kube.create(config_map("a", namespace, k="1"))
    await kube.update(first | {"data": {"k": "2"}})
    with pytest.raises(Conflict) as caught:
        await kube.update(first | {"data": {"k": "3"}})
    assert caught.value.transient
    assert not caught.value.exists


async def test_get(kube: Kube, namespace: str) -> None:
    await kube.create(config_map("a", namespace, k="v"))
    found = await kube.get(CONFIG_MAP, "a", namespace)
    assert found is not None
    assert found["data"] == {"k": "v"}
    assert await kube.get(CONFIG_MAP, "b", namespace) is None


async def test_a_kind_the_server_does_not_know(kube: Kube, namespace: str) -> None:
    with pytest.raises(NotFound, match="httproutes: is its CRD installed"):
        await kube.list(HTTP_ROUTE, namespace)
    with pytest.raises(NotFound, match="is its CRD installed"):
        await kube.get(HTTP_ROUTE, "a", namespace)


async def test_list_by_labels_and_fields(kube: Kube, namespace: str) -> None:
    await kube.create(config_map("a", namespace, {"app": "x"}))
    await kube.create(config_map("b", namespace, {"app": "y"}))
    (found,) = await kube.list(CONFIG_MAP, namespace, label_selector="app=x")
    assert (found["apiVersion"], found["kind"]) == ("v1", "ConfigMap")
    assert found["metadata"]["name"] == "a"
    (found,) = await kube.list(CONFIG_MAP, namespace, field_selector="metadata.name=b")
    assert found["metadata"]["name"] == "b"
    everywhere = await kube.list(CONFIG_MAP)
    assert len(everywhere) > 2


async def test_a_list_is_read_in_pages(kube: Kube, namespace: str) -> None:
    for number in range(7):
        await kube.create(config_map(f"c{number}", namespace, {"app": "x"}))
    names, token = [], None
    while token != "":
        page = await kube.list_page(CONFIG_MAP, namespace, "app=x", limit=3, continue_token=token)
        assert len(page.items) <= 3
        names += [item["metadata"]["name"] for item in page.items]
        token = page.continue_token
    assert names == [f"c{number}" for number in range(7)]


async def test_delete(kube: Kube, namespace: str) -> None:
    await kube.create(config_map("a", namespace))
    assert not await kube.delete(CONFIG_MAP, "a", namespace, uid="another")
    assert await kube.get(CONFIG_MAP, "a", namespace) is not None
    assert await kube.delete(CONFIG_MAP, "a", namespace)
    assert not await kube.delete(CONFIG_MAP, "a", namespace)


async def test_patch_adds_and_removes_labels(kube: Kube, namespace: str) -> None:
    await kube.create(config_map("a", namespace, {"old": "1", "kept": "1"}))
    patch = {"metadata": {"labels": {"old": None, "new": "1"}}}
    after = await kube.patch(CONFIG_MAP, "a", namespace, patch)
    assert after["metadata"]["labels"] == {"kept": "1", "new": "1"}


async def test_patch_of_a_subresource(kube: Kube, namespace: str) -> None:
    await kube.create(ollama_node("a", namespace))
    scale = {"spec": {"replicas": 3}}
    await kube.patch(OLLAMA_NODE, "a", namespace, scale, subresource="scale")
    after = await kube.get(OLLAMA_NODE, "a", namespace)
    assert after is not None
    assert after["spec"]["replicas"] == 3


async def test_event(kube: Kube, namespace: str) -> None:
    node = await kube.create(ollama_node("a", namespace))
    await kube.event(node, type="Warning", reason="ServerOffline", message="é" * 2000)
    (event,) = await kube.list(EVENT, namespace, field_selector="reason=ServerOffline")
    assert event["regarding"]["uid"] == node["metadata"]["uid"]
    assert event["type"] == "Warning"
    assert len(event["note"].encode()) <= 1024
    assert event["note"].endswith("é…")


async def test_an_event_that_cannot_be_posted_is_not_fatal(
    kube: Kube, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await kube.event(
            ollama_node("a", "no-such-namespace"), type="Normal", reason="R", message="m"
        )
    assert "cannot post event R" in caplog.text


async def test_what_the_schema_rejects(kube: Kube, namespace: str) -> None:
    with pytest.raises(Invalid, match="replicas") as caught:
        await kube.create(ollama_node("a", namespace, replicas="many"))
    assert not caught.value.transient


async def test_what_rbac_forbids(weak: Path, namespace: str) -> None:
    async with await Kube.connect(str(weak)) as kube:
        with pytest.raises(Forbidden, match="cannot list resource"):
            await kube.list(CONFIG_MAP, namespace)


async def test_credentials_are_read_again_when_they_are_refused(weak: Path, namespace: str) -> None:
    good = _swap_token(weak, "expired")
    async with await Kube.connect(str(weak)) as kube:
        with pytest.raises(Unauthorized, match="KUBECONFIG"):
            await kube.list(CONFIG_MAP, namespace)
        _swap_token(weak, good)
        with pytest.raises(Forbidden):
            await kube.list(CONFIG_MAP, namespace)


def _read(kubeconfig: Path) -> Any:
    return yaml.safe_load(kubeconfig.read_text())


def _swap_token(kubeconfig: Path, token: str) -> str:
    """Write another token; the former one."""
    config = _read(kubeconfig)
    former: str = config["users"][0]["user"]["token"]
    config["users"][0]["user"] = {"token": token}
    kubeconfig.write_text(yaml.safe_dump(config))
    return former


async def test_a_rotated_token_of_a_pod_is_picked_up(
    cluster: Cluster,
    weak: Path,
    namespace: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = _read(weak)
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    token, ca = tmp_path / "token", tmp_path / "ca.crt"
    ca.write_bytes(base64.b64decode(authority))
    token.write_text("expired")
    address = urlsplit(cluster.url)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", str(address.hostname))
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(address.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(ca))
    async with await Kube.connect() as kube:
        with pytest.raises(Unauthorized):
            await kube.list(CONFIG_MAP, namespace)
        token.write_text(config["users"][0]["user"]["token"])
        for _ in range(2):
            with pytest.raises(Forbidden):
                await kube.list(CONFIG_MAP, namespace)


async def test_a_token_is_not_shown(weak: Path) -> None:
    async with await Kube.connect(str(weak)) as kube:
        credentials = await kube.credentials()
    assert credentials.authorization
    assert credentials.authorization not in repr(credentials)


async def test_an_api_server_that_is_not_there(cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(cluster.kubeconfig.read_text().replace(cluster.url, "https://127.0.0.1:1"))
    async with await Kube.connect(str(path)) as kube:
        with pytest.raises(Unavailable, match=r"https://127\.0\.0\.1:1") as caught:
            await kube.list(CONFIG_MAP)
    assert caught.value.transient


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "does not exist: point KUBECONFIG at one"),
        ("", "is not a kubeconfig"),
        ("just text", "is not a kubeconfig"),
        ("{a: [", "is not a kubeconfig"),
        ("apiVersion: v1\nkind: Config\n", "current-context"),
    ],
)
async def test_a_kubeconfig_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, says: str
) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ConfigError, match=says) as caught:
        await Kube.connect()
    assert "\n" not in str(caught.value)


async def test_no_kubeconfig_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="set KUBECONFIG"):
        await Kube.connect()


async def test_inside_a_pod_without_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    with pytest.raises(ConfigError, match="Service token file"):
        await Kube.connect()


async def test_a_closed_connection_says_so(cluster: Cluster) -> None:
    kube = await Kube.connect(str(cluster.kubeconfig))
    await kube.close()
    with pytest.raises(KubeError):
        await kube.list(CONFIG_MAP)
