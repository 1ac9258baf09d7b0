"""What operators may ask for on the port for metrics."""

import json

from tests.component.router.conftest import Serve, Start
from tests.component.router.peers import eventually, get


async def test_operators_see_what_is_in_memory_everywhere(start: Start, serve: Serve) -> None:
    one = await serve(resident=["m:latest"])
    other = await serve(models=["m:latest", "n:latest"], resident=["m:latest", "n:latest"])
    router = await start(one, other)
    assert (await get(router.operators_port, "/", "HEAD")).status == 200
    models = json.loads((await get(router.operators_port, "/api/ps")).body)["models"]
    assert sorted((found["server"], found["name"]) for found in models) == sorted(
        [(one.name, "m:latest"), (other.name, "m:latest"), (other.name, "n:latest")]
    )
    assert all(found["size_vram"] == 100 for found in models)
    await other.stop()
    await eventually(lambda: len(router.router.fleet.snapshot.ready) == 1)
    models = json.loads((await get(router.operators_port, "/api/ps")).body)["models"]
    assert [found["server"] for found in models] == [one.name]
    assert (await get(router.port, "/api/ps")).status == 403
