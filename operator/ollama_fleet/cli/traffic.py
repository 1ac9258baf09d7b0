"""What is shown of the requests that pass through Routers: figures in, tables out. No I/O."""

from collections.abc import Callable, Mapping

from ollama_fleet.cli import views
from ollama_fleet.cli.fleet import Fleet, namespace_of
from ollama_fleet.cli.scraping import Traffic
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.cli.views import NAMESPACE, NO_SERVERS
from ollama_fleet.traffic.figures import Figures, ServerFigures

NO_ROUTERS = (
    "No Routers here. Make one (kubectl explain router.spec), or look elsewhere with -n or -A."
)
_NOBODY = Figures(0.0, None, None, None, None, 0, 0, None, None, ())
_UNSEEN = ServerFigures("", 0, None, "", "closed", ())


def record(figures: Figures | None) -> Record | None:
    """Figures as JSON and YAML have them."""
    if figures is None:
        return None
    return {
        "windowSeconds": figures.window_s,
        "requestsPerSecond": figures.requests_per_second,
        "tokensPerSecond": figures.tokens_per_second,
        "firstTokenP50Seconds": figures.first_token_p50_s,
        "firstTokenP99Seconds": figures.first_token_p99_s,
        "inFlight": figures.in_flight,
        "queued": figures.queued,
    }


def sentence(figures: Figures) -> str:
    """Figures in a line: ``12.4 requests/s, first token p50 0.21 s, p99 1.3 s, 3 queued``."""
    told = [f"{_rate(figures.requests_per_second)} requests/s"]
    if figures.first_token_p50_s is not None:
        told.append(f"first token p50 {_time(figures.first_token_p50_s)}")
        told.append(f"p99 {_time(figures.first_token_p99_s)}")
    return ", ".join([*told, f"{figures.queued} queued"])


def routers(fleet: Fleet, traffic: Traffic, everywhere: bool = False) -> Table:
    """What each Router does."""
    rows = []
    for one in fleet.routers:
        namespace, name = namespace_of(one), one["metadata"]["name"]
        figures = traffic.figures(namespace, name)
        told = record(figures or _NOBODY)
        rows.append(
            {"namespace": namespace, "router": name, "seen": figures is not None} | (told or {})
        )
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("ROUTER", text("router")),
            Column("REQ/S", lambda row: _rate(row["requestsPerSecond"]), right=True),
            Column("TOK/S", lambda row: _rate(row["tokensPerSecond"]), right=True),
            Column("FIRST TOKEN P50 / P99", _first, right=True),
            Column("IN FLIGHT", _count("inFlight"), right=True),
            Column("QUEUED", _count("queued"), right=True),
        ],
        rows,
        empty=NO_ROUTERS,
    )


def servers(fleet: Fleet, traffic: Traffic, everywhere: bool = False) -> Table:
    """What each server does, the busiest first."""
    figures: dict[str, Mapping[str, ServerFigures]] = {}
    rows = []
    for row in views.servers(fleet).rows:
        namespace = row["namespace"]
        if namespace not in figures:
            found = traffic.figures(namespace)
            figures[namespace] = {one.name: one for one in found.servers} if found else {}
        seen = figures[namespace].get(row["server"])
        one = seen or _UNSEEN
        rows.append(
            {key: row[key] for key in ("namespace", "server", "state", "memory")}
            | {
                "seen": seen is not None,
                "inFlight": one.in_flight,
                "requestsPerSecond": one.requests_per_second,
                "breaker": one.breaker if seen else None,
            }
        )
    rows.sort(key=lambda row: (-row["inFlight"], row["namespace"], row["server"]))
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("SERVER", text("server")),
            Column("STATE", text("state")),
            Column("IN FLIGHT", _count("inFlight"), right=True),
            Column("REQ/S", lambda row: _rate(row["requestsPerSecond"]), right=True),
            *([] if everywhere else [Column("MEMORY", lambda row: views.share(row["memory"]))]),
            Column("MEMORY" if everywhere else "", lambda row: _percent(row["memory"]), right=True),
            Column("BREAKER", text("breaker")),
        ],
        rows,
        empty=NO_SERVERS,
    )


def models(traffic: Traffic) -> Table:
    """The models that are asked now, the most wanted first."""
    there, waiting = traffic.by_model(), traffic.queued()
    rows: list[Record] = [
        {"model": model, "inFlight": there.get(model, 0), "queued": waiting.get(model, 0)}
        for model in there.keys() | waiting.keys()
    ]
    rows = [row for row in rows if row["inFlight"] or row["queued"]]
    rows.sort(key=lambda row: (-row["inFlight"], -row["queued"], row["model"]))
    return Table(
        [
            Column("MODEL", text("model")),
            Column("IN FLIGHT", text("inFlight"), right=True),
            Column("QUEUED", text("queued"), right=True),
        ],
        rows,
        empty="No request is under way.",
    )


def _first(row: Record) -> str:
    if row["firstTokenP50Seconds"] is None:
        return "-"
    return f"{_time(row['firstTokenP50Seconds'])} / {_time(row['firstTokenP99Seconds'])}"


def _count(key: str) -> Callable[[Record], str]:
    return lambda row: str(row[key]) if row["seen"] else "-"


def _rate(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"


def _time(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def _percent(memory: Record | None) -> str:
    share = views.share(memory)
    return f"{share:.0%}" if isinstance(share, float) else ""
