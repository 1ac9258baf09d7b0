"""Reading every object of a kind, in pages."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ollama_fleet.kube.errors import Gone
from ollama_fleet.kube.kinds import Kind, Object

if TYPE_CHECKING:
    from ollama_fleet.kube.transport import Params

PAGE = 500

Ask: TypeAlias = "Callable[[str, str, Params], Awaitable[Object]]"
"""Of a method, a path and parameters: the answer."""


@dataclass(frozen=True, slots=True)
class ObjectList:
    """What a list found; `continue_token` is empty where nothing is left to read."""

    items: list[Object]
    resource_version: str
    continue_token: str = ""


async def list_page(
    ask: Ask,
    kind: Kind,
    namespace: str | None,
    label_selector: str | None,
    field_selector: str | None,
    limit: int | None = PAGE,
    continue_token: str | None = None,
) -> ObjectList:
    """One page of at most `limit` objects."""
    answer = await ask(
        "GET",
        kind.path(namespace),
        {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": limit,
            "continue": continue_token,
        },
    )
    # Items of a list come without the two fields that say what they are.
    named = {"apiVersion": kind.api_version, "kind": kind.kind}
    meta = answer.get("metadata") or {}
    return ObjectList(
        [named | item for item in answer.get("items") or []],
        meta.get("resourceVersion", ""),
        meta.get("continue", ""),
    )


async def list_all(
    ask: Ask,
    kind: Kind,
    namespace: str | None = None,
    label_selector: str | None = None,
    field_selector: str | None = None,
) -> ObjectList:
    """Every object, page by page; in one go where the pages grow too old meanwhile."""
    selectors = (kind, namespace, label_selector, field_selector)
    try:
        page = await list_page(ask, *selectors)
        items = page.items
        while page.continue_token:
            page = await list_page(ask, *selectors, continue_token=page.continue_token)
            items += page.items
    except Gone:
        return await list_page(ask, *selectors, limit=None)
    return ObjectList(items, page.resource_version)
