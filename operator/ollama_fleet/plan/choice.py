"""Which models a server is to have: those listed, those of its tier, and the best that fits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.modeldistribution import BestFit, ModelDistributionSpec, Tier, WantedModel
from ollama_fleet.api.quantity import bytes_of
from ollama_fleet.plan.memory import enough
from ollama_fleet.plan.servers import Installed, Server
from ollama_fleet.plan.sizing import Fit, amount, amounts, fit
from ollama_fleet.plan.tasks import RegistryFact, canonical
from ollama_fleet.plan.troubles import Trouble

_KEPT = "installed, and kept while the registry cannot be asked"


@dataclass(frozen=True)
class Choice:
    """A model for a server, why it is, and whether it fits."""

    model: WantedModel
    why: str
    fit: Fit | None = None
    undecided: Trouble | None = None
    """Why it is not known yet which model it is to be; ``model`` is then the most wanted."""


@dataclass(frozen=True)
class _Judge:
    """What is asked of each candidate for one server."""

    spec: ModelDistributionSpec
    server: Server
    registry: Mapping[str, RegistryFact]

    def fact(self, name: str) -> RegistryFact:
        return self.registry.get(canonical(name), RegistryFact())

    def installed(self, name: str) -> Installed | None:
        """The model as the server has it."""
        return self.server.probe.installed.get(canonical(name))

    def fit(self, name: str) -> Fit | None:
        """The verdict; None where neither the registry nor whoever has the model has described it.

        Each model is judged alone: Ollama unloads others where there is no room for it.
        """
        fact, there = self.fact(name), self.installed(name)
        digest, size = fact.digest, fact.size
        if digest is None and there is not None:
            digest, size = there.digest, there.size
        shape, weights = self.server.shapes.get(digest or ""), fact.weights
        if weights is None and shape is not None and size is not None:
            weights = shape.weighs(size)
        if weights is None:
            return None
        # the first that described these bytes, whoever describes them since
        architecture = (shape and shape.architecture) or fact.architecture
        load = self.server.load.sized(self.spec.sizing)
        return fit(weights, architecture, load, self.server.memory.size)

    def gone(self, name: str) -> bool:
        """Whether the model cannot be had: what is installed need not be in the registry."""
        return self.fact(name).missing and self.installed(name) is None

    def refusal(self, name: str, verdict: Fit | None) -> str | None:
        """Why the server cannot take the model; None where it can, as far as is known, or where
        its disk has it already."""
        if verdict is not None and not verdict.fits:
            return f"which needs {amount(verdict.need)}"
        store, blobs = self.server.store, self.fact(name).blobs
        if self.installed(name) is not None or store.takes(blobs):
            return None
        lacking, free = amounts(store.lacks(blobs), store.room)
        return f"which needs {lacking} of disk, where {free} are free"

    def kept(self, names: Iterable[str]) -> str | None:
        """What of these is installed: while the registry is silent, it stays the choice."""
        return next((name for name in names if self.installed(name) is not None), None)


def choices(
    spec: ModelDistributionSpec, server: Server, registry: Mapping[str, RegistryFact]
) -> list[Choice]:
    """The models a server is to have, each once."""
    judge = _Judge(spec, server, registry)
    found = [_listed(judge, model, "listed") for model in spec.models or ()]
    tier = tier_of(spec.tiers or (), server)
    if tier is not None:
        found += [_listed(judge, model, f"tier {tier.min_memory}") for model in tier.models]
    if spec.best_fit is not None:
        found.append(_best(judge, spec.best_fit))
    unique: dict[str, Choice] = {}
    for choice in found:
        unique.setdefault(canonical(choice.model.name), choice)
    return list(unique.values())


def tier_of(tiers: Iterable[Tier], server: Server) -> Tier | None:
    """The first tier whose memory the server has; None if none, or its memory is unknown."""
    if server.memory.size is None:
        return None
    size = server.memory.size
    return next((tier for tier in tiers if enough(size, bytes_of(tier.min_memory))), None)


def _listed(judge: _Judge, model: WantedModel, why: str) -> Choice:
    """The model or, where it cannot be had, does not fit or finds no room on the disk, its first
    fallback that does."""
    first: Choice | None = None
    because = ""
    names = [model.name, *model.fallbacks]
    for index, name in enumerate(names):
        if judge.gone(name):
            continue
        verdict = judge.fit(name)
        if verdict is None and (kept := judge.kept(names[index:])) is not None:
            return _instead(model, kept, why, f", {_KEPT}", judge.fit(kept))
        choice = _instead(model, name, why, because, verdict)
        refusal = judge.refusal(name, verdict)
        if refusal is None or judge.spec.sizing.on_misfit != "Fallback":
            return choice
        if first is None:
            first, because = choice, f", {refusal}"
    return first or Choice(model, why)


def _instead(model: WantedModel, name: str, why: str, because: str, verdict: Fit | None) -> Choice:
    """The model or, by another name, a fallback of it."""
    if name == model.name:
        return Choice(model, why, verdict)
    fallback = WantedModel(name=name, preload=model.preload)
    return Choice(fallback, f"{why}, fallback of {model.name}{because}", verdict)


def _best(judge: _Judge, best: BestFit) -> Choice:
    """The first candidate that fits the memory, and finds room on the disk."""
    first = WantedModel(name=best.candidates[0])
    if judge.server.memory.size is None:
        return Choice(first, "bestFit", undecided=_untold(judge.server))
    there = [name for name in best.candidates if not judge.gone(name)]
    count = len(best.candidates)
    judged: list[tuple[Fit, str]] = []
    because = ""
    for index, name in enumerate(there):
        verdict = judge.fit(name)
        if verdict is None:
            return _unjudged(judge, there[index:])
        refusal = judge.refusal(name, verdict)
        if refusal is None:
            why = f"bestFit: the first of {count} that fits{because}"
            return Choice(WantedModel(name=name), why, verdict)
        if verdict.fits and not because:
            because = f", instead of {name}, {refusal}"
        judged.append((verdict, name))
    if not judged:
        return Choice(first, "bestFit")
    verdict, name = min(judged, key=lambda one: one[0].need)
    why = f"bestFit: none of {count} fits, and it needs least"
    return Choice(WantedModel(name=name), why, verdict)


def _untold(server: Server) -> Trouble:
    if server.state == "Starting":
        return Trouble(Reason.SERVER_NOT_READY, "waits for the server, which is Starting.")
    return Trouble(
        Reason.MEMORY_UNKNOWN,
        f"its memory is {server.memory.source}. No candidate can be chosen.",
    )


def _unjudged(judge: _Judge, names: list[str]) -> Choice:
    """While the registry does not say what a candidate needs, nothing less is pulled."""
    if (kept := judge.kept(names)) is not None:
        return Choice(WantedModel(name=kept), f"bestFit: {_KEPT}", judge.fit(kept))
    fact = judge.fact(names[0])
    told = fact.error or f"what {names[0]} needs is not known yet."
    return Choice(WantedModel(name=names[0]), "bestFit", None, Trouble(fact.reason, told))
