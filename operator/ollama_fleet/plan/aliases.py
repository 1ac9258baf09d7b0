"""Names that a Router gives to models."""

from collections.abc import Collection, Sequence

from ollama_fleet.api import alias
from ollama_fleet.api.alias import ModelRoute
from ollama_fleet.api.conditions import Reason
from ollama_fleet.api.names import canonical
from ollama_fleet.plan.conditions import Verdict


def fault(routes: Sequence[ModelRoute]) -> Verdict | None:
    """A Stalled verdict on names that contradict each other; None where none do."""
    said = alias.fault(routes)
    return None if said is None else Verdict.stuck(Reason.INVALID_SPEC, f"spec.{said}.")


def known(routes: Sequence[ModelRoute], installed: Collection[str]) -> list[str]:
    """The names clients may use: of installed models, and those that stand for one."""
    there = {model.lower() for model in installed}
    hidden = {canonical(route.name).lower() for route in routes}
    names = {model for model in installed if model.lower() not in hidden}
    for route in routes:
        targets = [target.model for target in route.targets if target.weight]
        if any(canonical(model).lower() in there for model in targets + route.fallbacks):
            names.add(route.name)
    return sorted(names)
