"""Before the definitions go: every fleet is deleted while there is an operator to see it off.

With the definitions alone gone, Kubernetes would collect the same objects, but servers would sleep
their whole `update.drainTimeout`, and helm would be done long before them.
"""

from ollama_fleet.hooks.waiting import until
from ollama_fleet.kube import Kube, NotFound
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION, OLLAMA_NODE, ROUTER

_KINDS = (MODEL_DISTRIBUTION, ROUTER, OLLAMA_NODE)
"""Models first, so that nothing begins to be pulled any more; servers last."""


async def remove(kube: Kube, namespaces: tuple[str, ...], within: float) -> None:
    """Delete the fleets of these namespaces (none: all), and return when all they made is gone.

    An object that waits on others keeps its name until they are gone, so its absence tells of
    theirs too. HookFailed, with what is left, after `within` seconds; KubeError.
    """

    async def fleets() -> list[tuple[str, str]]:
        found = []
        for kind in _KINDS:
            for namespace in namespaces or (None,):
                try:
                    listed = await kube.list(kind, namespace)
                except NotFound:
                    continue  # the definition is gone already, and all objects with it
                for one in listed:
                    meta = one["metadata"]
                    if not meta.get("deletionTimestamp"):
                        await kube.delete(
                            kind, meta["name"], meta["namespace"], propagation="Foreground"
                        )
                    found.append((str(kind), f"{meta['namespace']}/{meta['name']}"))
        return found

    async def left() -> str:
        named = [" ".join(one) for one in await fleets()]
        more = f" and {len(named) - 5} more" if named[5:] else ""
        return f"waiting for the end of {', '.join(named[:5])}{more}" if named else ""

    await until(left, within)
