"""What all ModelDistributions of a namespace want, read from the store."""

from collections import defaultdict
from collections.abc import Iterable

from ollama_fleet.controllers.remembered import Remembered
from ollama_fleet.controllers.store import Store
from ollama_fleet.kube.kinds import MODEL_DISTRIBUTION
from ollama_fleet.plan.demands import Demand, demand_of, in_order, key


class Wanted:
    """Demands by namespace; each specification is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, dict[str, tuple[object, Demand]]] = {}
        self._demands: dict[str, Remembered[tuple[Demand, ...]]] = defaultdict(Remembered)

    def of(self, namespace: str) -> tuple[Demand, ...]:
        """The demands of a namespace, the oldest first."""
        return self._demands[namespace].of(
            self._store.revision(MODEL_DISTRIBUTION, namespace), lambda: self._all(namespace)
        )

    def concerned(self, namespace: str, name: str, models: Iterable[str]) -> bool:
        """Whether a ModelDistribution may do something about any of these models: it names it, or
        deletes what nobody names, or its wants are not known."""
        demand = next((one for one in self.of(namespace) if one.name == name), None)
        if demand is None or demand.spec is None or demand.spec.prune == "Unlisted":
            return True
        return not demand.named.isdisjoint(map(key, models))

    def _all(self, namespace: str) -> tuple[Demand, ...]:
        before, found = self._read.get(namespace, {}), {}
        for one in self._store.list(MODEL_DISTRIBUTION, namespace):
            meta = one["metadata"]
            version = (meta["uid"], meta.get("generation"))
            known = before.get(meta["name"])
            same = known is not None and known[0] == version
            found[meta["name"]] = known if known and same else (version, demand_of(one))
        self._read[namespace] = found
        return in_order(demand for _, demand in found.values())
