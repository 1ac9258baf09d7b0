"""What a Router may ask for that cannot be had here.

Taking such a field and doing nothing would be a lie, so it stalls the resource with the field's
name.
"""

from collections.abc import Mapping
from typing import Any

from ollama_fleet.api.conditions import Reason
from ollama_fleet.plan.conditions import Verdict


def router(spec: Mapping[str, Any], console: str) -> Verdict | None:
    """A Stalled verdict naming the first field that cannot be served; None if all can.
    ``console`` is where the console answers, empty where there is none."""
    if spec.get("fleetApi") and not console:
        return Verdict.stuck(
            Reason.UNSUPPORTED,
            "spec.fleetApi needs the console, and there is none. Install the chart with "
            "console.enabled=true, or remove spec.fleetApi.",
        )
    return None
