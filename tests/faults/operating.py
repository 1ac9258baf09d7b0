"""An operator behind a proxy, for as long as a test lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.fleet import OPERATOR
from tests.faults.grounds import Grounds
from tests.faults.process import OperatorProcess
from tests.faults.proxy import Proxy


@asynccontextmanager
async def operating(
    grounds: Grounds, namespace: str, proxy: Proxy, *options: str, name: str = "operator"
) -> AsyncIterator[OperatorProcess]:
    """One that serves a namespace, in which its log lies; killed in the end."""
    folder = grounds.folder / namespace / name
    folder.mkdir(parents=True)
    kubeconfig = proxy.kubeconfig(folder / "kubeconfig", grounds.token)
    environment = grounds.environment(kubeconfig, OPERATOR, name)
    arguments = ["--host=127.0.0.1", "--port=0", f"--namespace={namespace}", *options]
    operator = OperatorProcess(arguments, environment, folder / "log")
    operator.start()
    try:
        yield operator
    finally:
        operator.kill()
        await asyncio.to_thread(operator.join)
