"""Whatever is asked, the fleet API answers as its document says, whatever Kubernetes thinks of it.
`tests/component/console` asks for more, without one."""

import asyncio
from pathlib import Path

from dev.cluster import Cluster
from ollama_fleet.kube import Kube
from tests.component.console.exploring import Explorer
from tests.component.kube import consoles
from tests.component.kube.conftest import ollama_node


async def test_answers_are_as_described(
    kube: Kube, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    await consoles.install(kube)
    token = await consoles.token(kube, cluster, namespace, "editor", tmp_path)
    await consoles.bind(kube, "ollama-fleet-editor", "editor", namespace, namespace)
    made = await kube.apply(ollama_node("a", namespace, replicas=1))
    server = {"name": "a-0", "state": "Ready", "address": "http://127.0.0.1:1", "diskFree": "1Gi"}
    await kube.apply_status(made | {"status": {"servers": [server]}})
    # no registry answers: each model would be asked for on the Internet
    arguments = (f"--register-in={namespace}", "--mirror=127.0.0.1:1")
    async with consoles.console(cluster, tmp_path, *arguments) as (url, log):
        async with consoles.person(url, token) as client:
            for path in ("/api", "/api/agents/", "/docs", "/api/events/x"):
                assert consoles.told(await client.get(path))[0] == 404
        explorer = await asyncio.to_thread(Explorer, url, token)
        await asyncio.to_thread(explorer.walk, 15, [f"{namespace}.a-0"])
        assert "Traceback" not in log.read_text()
    assert {200, 201, 202, 204, 400, 404} <= {status for _, status in explorer.seen}
