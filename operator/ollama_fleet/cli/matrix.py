"""Which server has which model, and with which digest. No I/O."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ollama_fleet.api.names import canonical
from ollama_fleet.cli.fleet import Fleet, Task
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.cli.views import NAMESPACE, RUNNING

MATRIX = 6
"""Servers that are looked at side by side, if their names fit; more are counted."""
_CELL = len("in memory")
NO_MODELS = "No models here. Bring one: kubectl ollama pull llama3.2:1b"
SHORT = 12
"""Hexadecimal digits of a digest that people see, as `ollama list` shows it."""

_Place = tuple[str, str]
"""A namespace, and a server or a model in it."""


@dataclass
class _Cell:
    """A model on a server."""

    state: str
    digest: str | None = None
    drifted: bool = False


def models(
    fleet: Fleet, everywhere: bool = False, wide: bool = False, columns: int | None = None
) -> Table:
    """Models by servers; where these are too many for the screen, how many have each. Known are
    models that a ModelDistribution wants, and those in memory."""
    rows = _rows(fleet)
    servers = sorted({server.name for server in fleet.servers()})
    names = [*({row["namespace"] for row in rows} if everywhere else ()), *servers]
    longest = max((len(row["model"]) for row in rows), default=0)
    room = columns is None or longest + sum(max(len(name), _CELL) + 2 for name in names) <= columns
    if wide or (len(servers) <= MATRIX and room):
        shown = [_column(name, wide) for name in servers]
    else:
        shown = [
            Column("INSTALLED", lambda row: _counted(row, "installed", "in memory"), right=True),
            Column("IN MEMORY", lambda row: _counted(row, "in memory"), right=True),
            Column("PULLING", _underway, right=True),
            Column("DRIFTED", lambda row: _counted(row, "drifted"), right=True),
            Column("FAILED", lambda row: _counted(row, "failed"), right=True),
            Column("MISFIT", lambda row: _counted(row, "misfit"), right=True),
        ]
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("MODEL", text("model")),
            Column("DIGEST", lambda row: short(row["digest"]), wide=True),
            *shown,
        ],
        rows,
        empty=NO_MODELS,
        note=" ".join([*_disagreeing(rows), *_left_out(fleet)]),
    )


def short(digest: str | None) -> str:
    """The first digits of a digest, without its algorithm."""
    return (digest or "").removeprefix("sha256:")[:SHORT]


def _rows(fleet: Fleet) -> list[Record]:
    cells = _cells(fleet)
    pins = _pins(fleet)
    rows = []
    for (namespace, model), there in sorted(cells.items()):
        usual = _usual(cell.digest for cell in there.values())
        for server, cell in there.items():
            wanted = pins.get((namespace, server), {}).get(model) or usual
            known = cell.digest is not None and wanted is not None
            cell.drifted = cell.drifted or (known and cell.digest != wanted)
        pinned = {pins.get((namespace, server), {}).get(model) for server in there}
        wanted = pinned.pop() if len(pinned) == 1 else None
        rows.append(
            {
                "namespace": namespace,
                "model": model,
                "digest": wanted or usual,
                "servers": {name: _told(cell) for name, cell in sorted(there.items())},
                "digests": {
                    name: cell.digest for name, cell in sorted(there.items()) if cell.digest
                },
            }
        )
    return rows


def _cells(fleet: Fleet) -> dict[_Place, dict[str, _Cell]]:
    """By namespace and model: the servers."""
    found: dict[_Place, dict[str, _Cell]] = defaultdict(dict)
    for task in fleet.tasks():
        namespace, server = task.server
        cell = _Cell(_word(task), task.digest, task.drifted)
        found[namespace, task.model.lower()].setdefault(server, cell)
    for one in fleet.servers():
        for model in one.status.get("resident", ()):
            cells = found[one.namespace, canonical(model).lower()]
            cells.setdefault(one.name, _Cell("")).state = "in memory"
    return found


def _pins(fleet: Fleet) -> Mapping[_Place, Mapping[str, str]]:
    """By namespace and server: the digest that each model must have."""
    found: dict[_Place, dict[str, str]] = defaultdict(dict)
    for one in fleet.servers():
        for pin in (one.ollamanode.get("status") or {}).get("pins") or ():
            if one.name in (pin.get("servers") or [one.name]):
                found[one.namespace, one.name][pin["model"]] = pin["digest"]
    return found


def _usual(digests: Iterable[str | None]) -> str | None:
    """The digest that more servers have than any other; None where there is none such."""
    counted = Counter(digest for digest in digests if digest).most_common(2)
    if not counted or (len(counted) > 1 and counted[0][1] == counted[1][1]):
        return None
    return counted[0][0]


def _word(task: Task) -> str:
    if task.state in RUNNING:
        return f"{task.status.get('progress', 0.0):.0%}"
    return task.state.lower()


def _told(cell: _Cell) -> str:
    """The state; that it is another than it should be, unless that is being mended."""
    return "drifted" if cell.drifted and not cell.state.endswith("%") else cell.state


def _column(server: str, wide: bool) -> Column:
    def cell(row: Record) -> str:
        state = str(row["servers"].get(server, "-"))
        digest = short(row["digests"].get(server))
        return f"{state} ({digest})" if wide and state == "drifted" else state

    return Column(server, cell)


def _counted(row: Record, *words: str) -> str:
    return str(sum(state in words for state in row["servers"].values()))


def _underway(row: Record) -> str:
    return str(sum(state.endswith("%") for state in row["servers"].values()))


def _disagreeing(rows: Iterable[Record]) -> list[str]:
    """Models of which nobody can say which digest is the right one."""
    return [
        f"{row['model']} is there with {len(set(row['digests'].values()))} digests and no "
        "majority: kubectl ollama models -o json."
        for row in rows
        if row["digest"] is None and len(set(row["digests"].values())) > 1
    ]


def _left_out(fleet: Fleet) -> list[str]:
    omitted = sum((one.get("status") or {}).get("tasksOmitted", 0) for one in fleet.distributions)
    told = "more tasks are counted in the distributions' status alone: kubectl get md"
    return [f"{omitted} {told}"] if omitted else []
