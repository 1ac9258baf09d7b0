"""What is shown of a fleet: resources in, tables out. No I/O, no clock."""

from ollama_fleet.api.quantity import bytes_of, gib
from ollama_fleet.cli.fleet import (
    Fleet,
    Server,
    Task,
    condition,
    is_true,
    namespace_of,
)
from ollama_fleet.cli.table import Column, Record, Table, text
from ollama_fleet.kube import Object

RUNNING = ("Pulling", "Verifying")
NAMESPACE = Column("NAMESPACE", text("namespace"))
NO_SERVERS = (
    "No servers here. Make an OllamaNode (kubectl explain ollamanode.spec), or look elsewhere "
    "with -n or -A."
)


def heading(fleet: Fleet, active: int | None = None) -> Record:
    """The fleet in figures; memory in bytes. ``active``: requests under way, where somebody just
    counted them; else as status has them, which is some seconds old."""
    servers = list(fleet.servers())
    omitted = sum((one.get("status") or {}).get("serversOmitted", 0) for one in fleet.ollamanodes)
    statuses = [one.get("status") or {} for one in fleet.ollamanodes]
    return {
        "servers": {
            "ready": sum(status.get("readyReplicas", 0) for status in statuses),
            "total": sum(status.get("replicas", 0) for status in statuses),
            "omitted": omitted,
        },
        "memory": {
            "used": sum(_bytes(server, "memoryUsed") for server in servers),
            "total": sum(_bytes(server, "memoryTotal") for server in servers),
        },
        "activeRequests": sum(server.status.get("activeRequests", 0) for server in servers)
        if active is None
        else active,
        "routers": [
            {
                "namespace": namespace_of(one),
                "name": one["metadata"]["name"],
                "url": (one.get("status") or {}).get("url"),
                "ready": (one.get("status") or {}).get("ready", "0/0"),
            }
            for one in fleet.routers
        ],
    }


def headline(figures: Record) -> list[str]:
    """The first lines of the screen."""
    servers, memory = figures["servers"], figures["memory"]
    active = figures["activeRequests"]
    used = f"{_amounts(memory, ' of ')} in use, " if memory["total"] else ""
    return [
        f"{servers['ready']} of {servers['total']} servers ready, {used}"
        f"{active} {'request' if active == 1 else 'requests'} under way",
        *(
            f"router {one['name']}: {one['ready']} ready, {one['url'] or 'no address yet'}"
            for one in figures["routers"]
        ),
    ]


def servers(fleet: Fleet, everywhere: bool = False) -> Table:
    """The servers with their memory and what is in it."""
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("SERVER", text("server")),
            Column("STATE", text("state")),
            *([] if everywhere else [Column("MEMORY", lambda row: share(row["memory"]))]),
            Column("MEMORY" if everywhere else "", lambda row: _amounts(row["memory"]), right=True),
            Column("ACTIVE", text("activeRequests"), right=True),
            Column("IN MEMORY", text("resident"), folds=True),
        ],
        [_server(server) for server in fleet.servers()],
        empty=NO_SERVERS,
        note=_omitted(fleet),
    )


def nodes(fleet: Fleet, everywhere: bool = False) -> Table:
    """Each OllamaNode's servers; an OllamaNode without one has a row of its own."""
    rows = []
    for one in fleet.ollamanodes:
        alone = Fleet(ollamanodes=[one])
        made = [_server(server) for server in alone.servers()]
        waiting = condition(one, "Ready")
        rows += made or [
            {
                "namespace": namespace_of(one),
                "ollamaNode": one["metadata"]["name"],
                "state": waiting.get("reason", "Unknown"),
                "message": waiting.get("message", ""),
            }
        ]
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("OLLAMANODE", text("ollamaNode")),
            Column("SERVER", text("server")),
            Column("STATE", text("state")),
            Column("MEMORY", lambda row: _total(row.get("memory")), right=True),
            Column("MODELS", text("installed"), right=True),
            Column("VERSION", text("version")),
            Column("GPU", text("gpu"), wide=True),
            Column("DISK FREE", lambda row: _size(row.get("diskFree")), wide=True, right=True),
            Column("MACHINE", text("kubernetesNode"), wide=True),
            Column("ADDRESS", text("address"), wide=True),
            Column("MESSAGE", text("message"), wide=True),
        ],
        rows,
        empty=NO_SERVERS,
        note=_omitted(fleet),
    )


def pulls(fleet: Fleet, everywhere: bool = False) -> Table:
    """What is being pulled."""
    rows = [_pull(task) for task in fleet.tasks() if task.state in RUNNING]
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("SERVER", text("server")),
            Column("PULLING", text("model")),
            Column("", lambda row: float(row["progress"])),
            Column("", lambda row: f"{row['progress']:.0%}", right=True),
            Column("SPEED", lambda row: rate(row["bytesPerSecond"]), right=True),
        ],
        rows,
    )


def attention(fleet: Fleet, everywhere: bool = False) -> Table:
    """What waits for a person, each with what to do."""
    rows: list[Record] = []
    for one in fleet.resources:
        stalled = condition(one, "Stalled")
        if is_true(one, "Stalled"):
            message = stalled.get("message") or ""
            rows.append(_trouble(one, titled(one), stalled["reason"], message))
    told = " ".join(str(row["message"]) for row in rows)
    for server in fleet.servers():
        message = server.status.get("message") or ""
        if server.status["state"] != "Ready" and message and message not in told:
            what = f"server {server.name}"
            rows.append(_trouble(server.ollamanode, what, server.status["state"], message))
    for task in fleet.tasks():
        message = task.status.get("message") or ""
        if task.state in ("Failed", "Misfit") and message not in told:
            what = f"{task.model} on {task.server[1]}"
            reason = task.status.get("reason") or task.state
            rows.append(_trouble(task.distribution, what, reason, message))
    return Table(
        [
            *([NAMESPACE] if everywhere else []),
            Column("ATTENTION", text("what")),
            Column(
                "WHY, AND WHAT TO DO", lambda row: f"{row['reason']}: {row['message']}", folds=True
            ),
        ],
        rows,
    )


def titled(obj: Object) -> str:
    """A resource as people name it: ``OllamaNode a100``."""
    return f"{obj['kind']} {obj['metadata']['name']}"


def rate(speed: int | None) -> str:
    """Bytes a second as downloads are told: ``42 MB/s``."""
    return f"{download(speed)}/s" if speed else ""


def download(size: int | None) -> str:
    """Bytes as downloads are told: ``13.8 GB``, ``420 MB``."""
    if not size:
        return ""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def share(memory: Record | None) -> str | float:
    """How much of a server's memory is in use, from 0 to 1; empty where that is not known."""
    if not memory or not memory["total"] or memory["used"] is None:
        return ""
    return float(memory["used"] / memory["total"])


def _server(server: Server) -> Record:
    status = server.status
    plain = ("version", "gpu", "installed", "kubernetesNode", "address", "activeRequests")
    total = status.get("memoryTotal")
    row: Record = {
        "namespace": server.namespace,
        "ollamaNode": server.ollamanode["metadata"]["name"],
        "server": server.name,
        "state": status["state"],
        "cordoned": server.cordoned,
        "memory": None,
        "resident": list(status.get("resident", ())),
        "diskFree": bytes_of(status["diskFree"]) if "diskFree" in status else None,
        "message": status.get("message", ""),
    }
    if server.cordoned and status["state"] == "Ready":
        row["state"] = "Cordoned"
    if total is not None:
        used = _bytes(server, "memoryUsed") if "memoryUsed" in status else None
        row["memory"] = {"used": used, "total": bytes_of(total)}
    return row | {key: status[key] for key in plain if key in status}


def _pull(task: Task) -> Record:
    namespace, server = task.server
    return {
        "namespace": namespace,
        "server": server,
        "model": task.model,
        "state": task.state,
        "progress": task.status.get("progress", 0.0),
        "completedBytes": task.status.get("completedBytes"),
        "totalBytes": task.status.get("totalBytes"),
        "bytesPerSecond": task.status.get("bytesPerSecond"),
    }


def _trouble(obj: Object, what: str, reason: str, message: str) -> Record:
    return {"namespace": namespace_of(obj), "what": what, "reason": reason, "message": message}


def _omitted(fleet: Fleet) -> str:
    omitted = heading(fleet)["servers"]["omitted"]
    return f"{omitted} more servers are not listed: status names the first 100" if omitted else ""


def _bytes(server: Server, field: str) -> int:
    return bytes_of(server.status.get(field, 0))


def _amounts(memory: Record | None, between: str = " / ") -> str:
    if memory is None or memory["used"] is None:
        return _total(memory)
    return f"{gib(memory['used']) if memory['used'] else '0'}{between}{gib(memory['total'])}"


def _total(memory: Record | None) -> str:
    return gib(memory["total"]) if memory else "unknown"


def _size(size: int | None) -> str:
    return "" if size is None else gib(size)
