"""What a fleet costs by its size, and whether it grows faster than the fleet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

MOST = 1.5
"""How much more one more server may cost among 1,000 than among 100."""
RESULT = Path(__file__).parents[1] / "results" / "scale.json"


@dataclass
class Row:
    """One size, and what it cost."""

    servers: int
    nodes: int
    distributions: int
    routers: int
    converge_seconds: float = 0.0
    converge_calls: int = 0
    converge_cpu: float = 0.0
    rest_rss: float = 0.0
    rest_cpu: float = 0.0
    """Percent of one core."""
    rest_calls: int = 0
    rest_writes: int = 0
    label_seconds: float = 0.0
    label_calls: int = 0
    label_cpu: float = 0.0
    model_seconds: float = 0.0
    model_calls: int = 0
    model_cpu: float = 0.0
    failure_routed: float = 0.0
    """Seconds from the failure of a server until a router sends nothing there."""
    failure_told: float = 0.0
    """Seconds until its OllamaNode says so."""
    failure_calls: int = 0
    failure_cpu: float = 0.0
    router_start_cpu: float = 0.0
    router_rss: float = 0.0
    router_cpu: float = 0.0
    router_change_cpu: float = 0.0
    """Seconds of a router's CPU for the three changes."""
    restart_seconds: float = 0.0
    restart_calls: int = 0
    restart_cpu: float = 0.0


TITLES = {
    "converge_seconds": "from nothing: s",
    "converge_calls": "from nothing: API calls",
    "converge_cpu": "from nothing: CPU s",
    "rest_rss": "at rest: MiB",
    "rest_cpu": "at rest: % of a core",
    "rest_calls": "at rest: API calls in 2 min",
    "rest_writes": "at rest: writes but the Lease's",
    "label_seconds": "a label: s",
    "label_calls": "a label: API calls",
    "label_cpu": "a label: CPU s",
    "model_seconds": "a model more: s",
    "model_calls": "a model more: API calls",
    "model_cpu": "a model more: CPU s",
    "failure_routed": "a server fails: s until no traffic",
    "failure_told": "a server fails: s until told",
    "failure_calls": "a server fails: API calls",
    "failure_cpu": "a server fails: CPU s",
    "router_start_cpu": "router starts: CPU s until all are Ready",
    "router_rss": "router at rest: MiB",
    "router_cpu": "router at rest: % of a core",
    "router_change_cpu": "router, the three changes: CPU s",
    "restart_seconds": "operator restarts: s until all is known",
    "restart_calls": "operator restarts: API calls",
    "restart_cpu": "operator restarts: CPU s",
}
GROWING = {
    "converge_calls": 0.0,
    "converge_cpu": 1.0,
    "rest_rss": 10.0,
    "rest_cpu": 0.5,
    "rest_calls": 10.0,
    "label_calls": 5.0,
    "label_cpu": 0.3,
    "model_calls": 20.0,
    "model_cpu": 0.3,
    "failure_calls": 10.0,
    "failure_cpu": 0.3,
    "router_start_cpu": 0.5,
    "router_rss": 10.0,
    "router_cpu": 0.5,
    "router_change_cpu": 0.3,
    "restart_calls": 10.0,
    "restart_cpu": 1.0,
}
"""Costs that may grow as the fleet does and no faster, and what is lost in the noise of each."""


def more(rows: list[Row]) -> dict[str, float]:
    """How much more each cost grows per server in the last step than in the one before."""
    found = {}
    for name, noise in GROWING.items():
        (n0, c0), (n1, c1), (n2, c2) = (
            (row.servers, float(getattr(row, name))) for row in rows[-3:]
        )
        before, after = (c1 - c0 + noise) / (n1 - n0), (c2 - c1) / (n2 - n1)
        found[name] = 0.0 if after <= 0 else after / before if before > 0 else float("inf")
    return found


def report(rows: list[Row]) -> bool:
    """Print and save the table; whether no cost grows faster than the fleet."""
    sizes = ("servers", "nodes", "distributions", "routers")
    for name in sizes:
        print(f"{name:44}" + "".join(f"{getattr(row, name):10}" for row in rows))
    growth = more(rows) if len(rows) >= 3 else {}
    for name, title in TITLES.items():
        values = "".join(f"{getattr(row, name):10.4g}" for row in rows)
        grows = f"  x{growth[name]:.2f}" if name in growth else ""
        print(f"{title:44}{values}{grows}")
    saved = {
        f"{row.servers} servers, {title}": round(getattr(row, name), 3)
        for row in rows
        for name, title in TITLES.items()
    }
    required = {f"growth per server, {TITLES[name]}": f"at most {MOST}" for name in growth}
    saved |= {f"growth per server, {TITLES[name]}": round(x, 2) for name, x in growth.items()}
    required |= {f"{row.servers} servers, {TITLES['rest_writes']}": "0" for row in rows}
    held = all(x <= MOST for x in growth.values()) and not any(row.rest_writes for row in rows)
    if growth:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(
            json.dumps({"figures": saved, "required": required, "held": held}, indent=2) + "\n"
        )
    return held
