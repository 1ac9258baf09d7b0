"""What the cluster looks like now: raw objects, fed by watches, pruned by lists.

Objects may arrive out of order (a list beside a watch, the answer to a write): what is older
than what is known is dropped. Never change an object taken from here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

from ollama_fleet.api.servers import MODELDISTRIBUTION_LABEL, OLLAMANODE_LABEL, ROUTER_LABEL
from ollama_fleet.kube import Kind, Object, kind_of

_Names = dict[str, Object]
_INDEXED = (OLLAMANODE_LABEL, ROUTER_LABEL, MODELDISTRIBUTION_LABEL)
"""Labels by which objects are found without looking at all of their namespace."""


class Store:
    """Objects by kind, namespace and name.

    `on_change(now, before)` hears of every change, wherever it comes from; `before` is None
    for what is new, and for what is gone.
    """

    def __init__(self) -> None:
        self.on_change: Callable[[Object, Object | None], None] = lambda now, before: None
        self.unread: dict[Kind, str] = {}
        """Kinds that the cluster does not show, and why: there are none of them here."""
        self._objects: dict[Kind, dict[str, _Names]] = defaultdict(lambda: defaultdict(dict))
        self._gone: dict[tuple[Kind, str], set[str]] = defaultdict(set)
        self._labelled: dict[tuple[Kind, str, str, str], _Names] = {}
        self._revisions: Counter[tuple[Kind, str | None]] = Counter()

    def put(self, obj: Object) -> bool:
        """Keep an object; False where it is no news: known already, older, or gone since."""
        kind, namespace, name = _place(obj)
        known = self._objects[kind][namespace].get(name)
        if _uid(obj) in self._gone[kind, namespace]:
            return False
        if known is not None and _version(obj) <= _version(known):
            return False
        self._keep(kind, namespace, name, _without_managed_fields(obj))
        self.on_change(obj, known)
        return True

    def remove(self, obj: Object) -> bool:
        """Forget an object that was deleted; False where that was known already.

        It may be gone before the answer to our own write of it arrives, so the end of an object
        never seen is news too.
        """
        kind, namespace, name = _place(obj)
        if _uid(obj) in self._gone[kind, namespace]:
            return False
        self._gone[kind, namespace].add(_uid(obj))
        known = self._objects[kind][namespace].get(name)
        if known is not None and _uid(known) == _uid(obj):
            self._keep(kind, namespace, name, None)
        self.on_change(obj, None)
        return True

    def replace_all(
        self,
        kind: Kind,
        objects: Iterable[Object],
        resource_version: str,
        namespace: str | None = None,
    ) -> list[Object]:
        """Make a list the truth for a kind (in one namespace, or everywhere).

        Returns the objects that were news, and those that turned out to be gone. What changed
        after the list was made (`resource_version`) stays.
        """
        listed = {_place(obj): obj for obj in objects}
        news = [obj for obj in listed.values() if self.put(obj)]
        ghosts = [
            obj
            for obj in self.list(kind, namespace)
            if _place(obj) not in listed and _version(obj) <= int(resource_version or 0)
        ]
        for ghost in ghosts:
            self.remove(ghost)
        for place in [place for place in self._gone if place[0] == kind]:
            if namespace in (None, place[1]):
                del self._gone[place]
        return news + ghosts

    def get(self, kind: Kind, namespace: str, name: str) -> Object | None:
        """The object; `namespace` is empty for kinds that have none."""
        return self._objects[kind][namespace].get(name)

    def revision(self, kind: Kind, namespace: str | None = None) -> int:
        """Another number after every change of a kind, in one namespace or anywhere."""
        return self._revisions[kind, namespace]

    def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        owner: str | None = None,
    ) -> list[Object]:
        """Objects of a kind with all of `labels` and an owner of that uid, ordered by name."""
        spaces = self._objects[kind]
        places = sorted(spaces) if namespace is None else [namespace]
        given = labels or {}
        wanted = given.items()
        return [
            obj
            for place in places
            for _, obj in sorted(self._among(kind, place, given).items())
            if wanted <= (obj["metadata"].get("labels") or {}).items()
            and (owner is None or owner in _owners(obj))
        ]

    def _among(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> _Names:
        """Few objects, all with these labels among them."""
        for label in _INDEXED:
            if label in labels:
                return self._labelled.get((kind, namespace, label, labels[label]), {})
        return self._objects[kind].get(namespace, {})

    def _keep(self, kind: Kind, namespace: str, name: str, obj: Object | None) -> None:
        """Put an object in its place, or take it from there."""
        names = self._objects[kind][namespace]
        before = names.pop(name, None)
        for label in _indexed(before) if before is not None else ():
            found = self._labelled[kind, namespace, *label]
            del found[name]
            if not found:
                del self._labelled[kind, namespace, *label]
        if obj is not None:
            names[name] = obj
            for label in _indexed(obj):
                self._labelled.setdefault((kind, namespace, *label), {})[name] = obj
        for place in (namespace, None):
            self._revisions[kind, place] += 1


def _indexed(obj: Object) -> Iterator[tuple[str, str]]:
    labels = obj["metadata"].get("labels") or {}
    return ((label, labels[label]) for label in _INDEXED if label in labels)


def _place(obj: Object) -> tuple[Kind, str, str]:
    meta = obj["metadata"]
    return kind_of(obj), meta.get("namespace", ""), meta["name"]


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def _version(obj: Object) -> int:
    """Comparable within a kind: https://kubernetes.io/docs/reference/using-api/api-concepts/."""
    return int(obj["metadata"].get("resourceVersion") or 0)


def _owners(obj: Object) -> set[str]:
    return {owner["uid"] for owner in obj["metadata"].get("ownerReferences") or []}


def _without_managed_fields(obj: Object) -> Object:
    """They are half of many objects, and nobody here reads them."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    return obj | {"metadata": meta}
