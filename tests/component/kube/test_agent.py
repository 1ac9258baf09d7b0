"""The agent's program and the console's, on a real API server: a machine joins and reports."""

from pathlib import Path

from dev.cluster import Cluster
from dev.ollama import process
from ollama_fleet.kube import Kube
from ollama_fleet.kube.kinds import OLLAMA_NODE
from tests.component.agent.fleets import agent, program
from tests.component.kube import consoles
from tests.component.kube.conftest import eventually


async def test_a_machine_joins_is_forgotten_and_joins_again(
    kube: Kube, cluster: Cluster, namespace: str, tmp_path: Path
) -> None:
    await consoles.install(kube)
    bearer = await consoles.token(kube, cluster, namespace, "agent", tmp_path)
    await consoles.bind(kube, "ollama-fleet-agent", "agent", namespace, namespace)
    (tmp_path / "token").write_text(bearer)
    program(tmp_path, "nvidia-smi", 'echo "NVIDIA L4, 23034, [N/A]"')
    with process.server("emulator", tmp_path / "ollama") as ollama:
        port = ollama.url.rsplit(":", 1)[1]
        name = f"box-{port}"
        settings = {"COORDINATOR_TOKEN_FILE": str(tmp_path / "token")}
        async with (
            consoles.console(cluster, tmp_path, f"--register-in={namespace}") as (url, _),
            consoles.person(url, bearer) as client,
        ):
            with agent(tmp_path, url, ollama.url, **settings) as running:

                async def reported() -> bool:
                    answer = await client.get(f"/api/agents/{namespace}.{name}")
                    return answer.status_code == 200 and answer.json()["cpu_usage"] is not None

                await eventually(reported, 30)
                told = (await client.get(f"/api/agents/{namespace}.{name}")).json()
                assert told["status"] == "online"
                assert told["machine_name"] == "box"
                assert (told["ip_address"], told["ollama_port"]) == ("127.0.0.1", int(port))
                assert (told["gpu_model"], told["gpu_count"]) == ("NVIDIA L4", 1)
                assert told["gpu_memory_bytes"] == 23034 * 2**20
                assert 0 < told["memory_usage"] < 100
                await kube.delete(OLLAMA_NODE, name, namespace)
                await eventually(lambda: running.times("registering again"), 30)
                await eventually(reported, 30)
            assert running.times("registration successful") == 2
            # who stops is not gone
            assert (await client.get(f"/api/agents/{namespace}.{name}")).status_code == 200
            assert bearer not in running.log
