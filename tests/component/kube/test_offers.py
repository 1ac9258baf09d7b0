"""The models on offer, with what a ConfigMap on a real API server says."""

from pathlib import Path

from ollama_fleet.console.offers import NAME, offers
from ollama_fleet.kube import Kube
from ollama_fleet.plan.catalogue import BUILT_IN
from tests.component.kube.conftest import config_map
from tests.component.kube.proxy import Proxy


async def test_what_is_on_offer_follows_the_config_map(kube: Kube, namespace: str) -> None:
    found = await offers(kube, namespace)
    assert (found.models, found.problem) == (list(BUILT_IN), None)
    listed = "- {name: team/own, displayName: Our own, size: 8G}"
    await kube.apply(config_map(NAME, namespace, models=listed))
    found = await offers(kube, namespace)
    assert [offer.display_name for offer in found.models if offer not in BUILT_IN] == ["Our own"]
    assert found.problem is None
    await kube.apply(config_map(NAME, namespace, models="- {name: team/own}"))
    found = await offers(kube, namespace)
    assert found.models == list(BUILT_IN)
    assert found.problem == (
        f"ConfigMap {namespace}/{NAME}: models[0].size: Field required. Correct it; none of it is "
        "offered."
    )


async def test_another_name_may_be_given(kube: Kube, namespace: str) -> None:
    await kube.apply(config_map("ours", namespace, models="- {name: team/own, size: 8G}"))
    assert len((await offers(kube, namespace, "ours")).models) == len(BUILT_IN) + 1
    assert (await offers(kube, namespace)).models == list(BUILT_IN)


async def test_who_may_not_read_it_is_told(weak: Path, namespace: str) -> None:
    async with await Kube.connect(str(weak)) as kube:
        found = await offers(kube, namespace)
    assert found.models == list(BUILT_IN)
    assert found.problem is not None
    assert found.problem.startswith(f"ConfigMap {namespace}/{NAME} may not be read: ")


async def test_an_api_server_that_is_away_is_told(
    proxied: Path, proxy: Proxy, namespace: str
) -> None:
    async with await Kube.connect(str(proxied)) as kube:
        await proxy.cut()
        found = await offers(kube, namespace)
    assert found.models == list(BUILT_IN)
    assert found.problem is not None
    assert "cannot be read now: " in found.problem
