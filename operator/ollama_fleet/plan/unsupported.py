"""Fields a Router has and this version does not serve yet.

Taking such a field and doing nothing would be a lie, and for authentication a danger, so it stalls
the resource with the field's name.
"""

from collections.abc import Mapping
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.conditions import Verdict

ROUTER = ("fleetApi",)


def router(spec: Mapping[str, Any]) -> Verdict | None:
    """A Stalled verdict naming the first field that is not served; None if all are."""
    field = next((path for path in ROUTER if _at(spec, path)), None)
    if field is None:
        return None
    return Verdict.stuck(
        Reason.UNSUPPORTED, f"spec.{field} is not served by this version. Remove it."
    )


def _at(spec: Mapping[str, Any], path: str) -> Any:
    value: Any = spec
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
