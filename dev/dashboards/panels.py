"""Pieces of a dashboard, in the JSON that Grafana 9 and later read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}
_COLUMNS = 24
_ROW_HEIGHT = 1


@dataclass(frozen=True)
class Query:
    """What is asked, and the name of each line of the answer."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture; `width` of 24 columns, `height` in Grafana's units, `unit` one of its ids."""

    title: str
    about: str
    kind: str
    unit: str
    queries: tuple[Query, ...]
    width: int = 8
    height: int = 8
    options: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()

    @property
    def instant(self) -> bool:
        """Whether it shows one moment alone."""
        return self.kind in ("stat", "table", "bargauge")

    def json(self, number: int, x: int, y: int) -> Json:
        """As the dashboard has it, at that place."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": [self._target(place, query) for place, query in enumerate(self.queries)],
            "fieldConfig": {
                "defaults": {"unit": self.unit, **self.defaults},
                "overrides": list(self.overrides),
            },
            "options": self.options,
            "transformations": list(self.transformations),
        }

    def _target(self, place: int, query: Query) -> Json:
        form = {"table": "table", "heatmap": "heatmap"}.get(self.kind, "time_series")
        return {
            "refId": chr(ord("A") + place),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "format": form,
            "instant": self.instant,
            "range": not self.instant,
        }


def lines(
    title: str,
    about: str,
    unit: str,
    *queries: Query,
    stacked: bool = False,
    most: float | None = None,
    width: int = 8,
) -> Panel:
    """How something goes over time."""
    custom: Json = {"fillOpacity": 10, "showPoints": "never", "lineWidth": 1}
    if stacked:
        custom |= {"fillOpacity": 40, "stacking": {"mode": "normal", "group": "A"}}
    defaults: Json = {"custom": custom, "min": 0}
    if most is not None:
        defaults["max"] = most
    options = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return Panel(
        title, about, "timeseries", unit, queries, width, options=options, defaults=defaults
    )


def stat(
    title: str,
    about: str,
    unit: str,
    expr: str,
    *steps: tuple[float, str],
    least: str = "green",
    width: int = 3,
) -> Panel:
    """One number; from each of the `steps` on it has that colour, and `least` below them."""
    thresholds: list[Json] = [{"color": least, "value": None}]
    thresholds += [{"color": colour, "value": value} for value, colour in steps]
    return Panel(
        title,
        about,
        "stat",
        unit,
        (Query(expr),),
        width,
        4,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
        },
        defaults={"thresholds": {"mode": "absolute", "steps": thresholds}},
    )


def bars(title: str, about: str, unit: str, *queries: Query, width: int = 8) -> Panel:
    """A bar for each, from nothing to all."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "orientation": "horizontal",
        "displayMode": "basic",
    }
    return Panel(
        title,
        about,
        "bargauge",
        unit,
        queries,
        width,
        options=options,
        defaults={"min": 0, "max": 1},
    )


def heatmap(title: str, about: str, unit: str, expr: str, width: int = 8) -> Panel:
    """How a histogram goes over time."""
    options = {
        "calculate": False,
        "yAxis": {"unit": unit},
        "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
        "cellGap": 1,
        "tooltip": {"show": True, "yHistogram": False},
    }
    return Panel(title, about, "heatmap", unit, (Query(expr, "{{le}}"),), width, options=options)


def table(
    title: str, about: str, columns: dict[str, tuple[str, str]], *queries: Query, width: int = 24
) -> Panel:
    """A row for each set of labels. `columns` are, by label or `Value #A`, the heading and unit,
    in their order; others are left out."""
    return Panel(
        title,
        about,
        "table",
        "short",
        queries,
        width,
        overrides=tuple(
            {
                "matcher": {"id": "byName", "options": heading},
                "properties": [{"id": "unit", "value": unit}],
            }
            for heading, unit in columns.values()
            if unit
        ),
        transformations=(
            {"id": "merge", "options": {}},
            {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
            {
                "id": "organize",
                "options": {
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": {name: heading for name, (heading, _) in columns.items()},
                },
            },
        ),
    )


@dataclass(frozen=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


def choice(name: str, label: str, query: str, *, listed: bool = False) -> Json:
    """A variable of values that a label has. All stands for every value, and for metrics without
    the label; where it is `listed`, for those that the query finds alone."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": None if listed else ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(
    uid: str, title: str, about: str, choices: Sequence[Json], rows: Sequence[Row]
) -> Json:
    """The whole: rows from top to bottom, their panels from left to right."""
    panels: list[Json] = []
    y = 0
    for row in rows:
        place = {"h": _ROW_HEIGHT, "w": _COLUMNS, "x": 0, "y": y}
        number = len(panels) + 1
        panels.append(
            {
                "id": number,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += _ROW_HEIGHT
        x = tallest = 0
        for panel in row.panels:
            if x + panel.width > _COLUMNS:
                x, y, tallest = 0, y + tallest, 0
            panels.append(panel.json(len(panels) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    source = {"name": "datasource", "label": "Data source", "type": "datasource"}
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["ollama", "ollama-fleet"],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [
            {
                "type": "dashboards",
                "title": "ollama-fleet",
                "tags": ["ollama-fleet"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
            }
        ],
        "templating": {"list": [{**source, "query": "prometheus"}, *choices]},
        "panels": panels,
    }
