"""What an operator does not know, since a watch kept it back."""

from __future__ import annotations

import asyncio

import httpx2

from dev.cluster.programs import free_ports
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, POD
from tests.cluster.fleet import SMALL, distribution, ollama_node
from tests.faults.faults import Deaf, Hide
from tests.faults.grounds import Grounds
from tests.faults.operating import operating
from tests.faults.proxy import Proxy
from tests.faults.scenarios import TINY, ready
from tests.faults.waiting import until


async def test_a_model_is_kept_for_a_distribution_that_was_not_heard_of(there: Grounds) -> None:
    async with (
        there.namespace() as namespace,
        Proxy(there.cluster) as proxy,
        operating(there, namespace, proxy, "--no-leader-elect"),
    ):
        await there.apply(namespace, ollama_node(), distribution("m", SMALL, TINY))
        check = ready((MODEL_DISTRIBUTION.plural, "m"))
        await until(lambda: check(there.ledger, namespace), "both models are there")
        proxy.fault = Hide("ADDED ModelDistribution", 1)
        await there.apply(namespace, distribution("other", TINY))
        await until(lambda: proxy.fault.met, "the other one was kept back")
        await there.apply(namespace, distribution("m", SMALL, prune="Unlisted"))
        other = ready((MODEL_DISTRIBUTION.plural, "other"))
        await until(lambda: other(there.ledger, namespace), "it is known of all the same")
        (pod,) = there.ledger.objects(namespace, POD)
        async with httpx2.AsyncClient(trust_env=False) as client:
            url = f"http://{pod['status']['podIP']}:11434/_emulator/stats"
            stats = (await client.get(url)).json()
        assert "/api/delete" not in stats["requests"]


async def test_watches_that_tell_nothing_are_reported_dead(there: Grounds) -> None:
    (port,) = free_ports(1)
    async with there.namespace() as namespace, Proxy(there.cluster, Deaf()) as proxy:
        options = ("--no-leader-elect", "--resync-interval=1s", f"--port={port}")
        async with (
            operating(there, namespace, proxy, *options),
            httpx2.AsyncClient(trust_env=False) as client,
        ):
            weight = 1

            async def dead() -> bool:
                nonlocal weight
                weight += 1
                await there.apply(namespace, ollama_node(replicas=0, weight=weight))
                await asyncio.sleep(0.2)
                try:
                    answer = await client.get(f"http://127.0.0.1:{port}/healthz")
                except httpx2.TransportError:
                    return False
                return answer.status_code != 200 and OLLAMA_NODE.plural in answer.text

            await until(dead, "/healthz fails", 30)
