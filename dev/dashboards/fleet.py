"""The dashboard of the fleet: servers, models, pulls, the operator, GPUs."""

from dev.dashboards.panels import Json, Query, Row, bars, choice, lines, stat, table
from dev.dashboards.panels import dashboard as made

_NODE = 'namespace=~"$namespace", ollamanode=~"$ollamanode"'
_OF = 'namespace=~"$namespace", distribution=~"$distribution"'
_READY = _NODE + ', state="Ready"'
_INSTALLED = _OF + ', state="Installed"'
_FAILED = _OF + ', state=~"Failed|Misfit"'
_GPU = 'Hostname=~"$machine"'


def _gauge(name: str, labels: str, of: str = _NODE) -> str:
    """Without the labels of the pod that told it, so that a line goes on when it is replaced."""
    return f"max by ({labels}) (ollama_fleet_{name}{{{of}}})"


def _servers(name: str) -> str:
    return _gauge(f"server_{name}", "namespace, ollamanode, server")


def _distributions(name: str) -> str:
    return _gauge(f"distribution_{name}", "namespace, distribution", _OF)


_STATES = _gauge("servers", "namespace, ollamanode, state")
_TASKS = _gauge("tasks", "namespace, distribution, state", _OF)
_LEFT = f"({_distributions('bytes')} - {_distributions('completed_bytes')})"

OVERVIEW = Row(
    "Overview",
    (
        stat(
            "Servers ready",
            "Of those wanted.",
            "percentunit",
            f"sum({_gauge('servers', 'namespace, ollamanode', _READY)})"
            f" / sum({_gauge('servers_wanted', 'namespace, ollamanode')})",
            (0.5, "orange"),
            (1, "green"),
            least="red",
        ),
        stat(
            "Servers wanted",
            "What all OllamaNodes ask for.",
            "short",
            f"sum({_gauge('servers_wanted', 'namespace, ollamanode')})",
        ),
        stat(
            "Models installed",
            "Of all tasks: a task is one model on one server.",
            "percentunit",
            f"sum({_gauge('tasks', 'namespace, distribution', _INSTALLED)}) / sum({_TASKS})",
            (0.5, "orange"),
            (1, "green"),
            least="red",
        ),
        stat(
            "Tasks that failed or do not fit",
            "Given up until somebody acts.",
            "short",
            f"sum({_gauge('tasks', 'namespace, distribution, state', _FAILED)})",
            (1, "red"),
        ),
        stat(
            "Waiting for you",
            "Resources that are Stalled.",
            "short",
            'count(max by (namespace, kind, name) (ollama_fleet_stalled{namespace=~"$namespace"}))'
            " or vector(0)",
            (1, "red"),
        ),
        stat(
            "Alerts",
            "Of ollama-fleet, firing now.",
            "short",
            'count(ALERTS{alertname=~"OllamaFleet.+", alertstate="firing"}) or vector(0)',
            (1, "red"),
        ),
        stat(
            "Operators that lead",
            "One for each installation.",
            "short",
            "sum(ollama_fleet_leader)",
            (1, "green"),
            least="red",
        ),
        stat(
            "Pulled now",
            "What all servers together download.",
            "Bps",
            "sum(rate(ollama_fleet_pull_bytes_total[$__rate_interval]))",
        ),
        table(
            "What waits for you",
            "docs/reference/reasons.md tells what to do for each reason.",
            {
                "namespace": ("Namespace", ""),
                "kind": ("Kind", ""),
                "name": ("Name", ""),
                "reason": ("Reason", ""),
            },
            Query(
                "max by (namespace, kind, name, reason) "
                '(ollama_fleet_stalled{namespace=~"$namespace"})'
            ),
        ),
    ),
)

SERVERS = Row(
    "Servers",
    (
        lines(
            "Servers by state",
            "Unfit: it serves, and its OllamaNode's requirements keep new models away.",
            "short",
            Query(f"sum by (state) ({_STATES})", "{{state}}"),
            stacked=True,
        ),
        lines(
            "Memory for models in use",
            "What the models in memory hold, of what each server has.",
            "percentunit",
            Query(f"{_servers('memory_used_bytes')} / {_servers('memory_bytes')}", "{{server}}"),
            most=1,
        ),
        lines(
            "Models in memory",
            "How many each server holds.",
            "short",
            Query(_servers("resident"), "{{server}}"),
        ),
        table(
            "Each server",
            "The 100 of each OllamaNode that are most in trouble.",
            {
                "namespace": ("Namespace", ""),
                "ollamanode": ("OllamaNode", ""),
                "server": ("Server", ""),
                "state": ("State", ""),
                "kubernetes_node": ("Machine", ""),
                "gpu": ("GPU", ""),
                "version": ("Ollama", ""),
                "Value #B": ("Memory", "bytes"),
                "Value #C": ("In use", "bytes"),
                "Value #D": ("Models", "short"),
            },
            Query(
                f"{_gauge('server_state', 'namespace, ollamanode, server, state')}"
                " * on (namespace, ollamanode, server) group_left (kubernetes_node, gpu, version) "
                + _gauge(
                    "server_info",
                    "namespace, ollamanode, server, kubernetes_node, gpu, version",
                )
            ),
            Query(_servers("memory_bytes")),
            Query(_servers("memory_used_bytes")),
            Query(_servers("models")),
            width=16,
        ),
        lines(
            "Room for models on disk",
            "What models leave of each server's store, where its size is known.",
            "bytes",
            Query(_servers("disk_free_bytes"), "{{server}}"),
        ),
    ),
)

PULLS = Row(
    "Models and pulls",
    (
        lines(
            "Tasks by state",
            "A task is one model on one server.",
            "short",
            Query(f"sum by (state) ({_TASKS})", "{{state}}"),
            stacked=True,
        ),
        bars(
            "Progress",
            "Bytes that are there, of all that each ModelDistribution asks for.",
            "percentunit",
            Query(
                f"{_distributions('completed_bytes')} / ({_distributions('bytes')} > 0)",
                "{{namespace}}/{{distribution}}",
            ),
        ),
        lines(
            "Time left",
            "At the speed of the moment; nothing where nothing moves.",
            "s",
            Query(
                f"({_LEFT} / ({_distributions('bytes_per_second')} > 0)) or ({_LEFT} == 0)",
                "{{namespace}}/{{distribution}}",
            ),
        ),
        lines(
            "Pulled",
            "By ModelDistribution, as status tells.",
            "Bps",
            Query(_distributions("bytes_per_second"), "{{namespace}}/{{distribution}}"),
            stacked=True,
        ),
        lines(
            "Pulls that failed",
            "Attempts, by reason; most are tried again. Unreachable: the server was lost.",
            "short",
            Query(
                "sum by (reason) (increase(ollama_fleet_pull_failures_total[$__rate_interval]))",
                "{{reason}}",
            ),
            stacked=True,
        ),
        lines(
            "Servers that drifted",
            "They have a model with another digest than the one wanted.",
            "short",
            Query(
                _gauge("drift", "namespace, distribution", _OF), "{{namespace}}/{{distribution}}"
            ),
        ),
        lines(
            "The mirror",
            "What servers got from it, and what it had to fetch for that.",
            "Bps",
            Query(
                "sum(rate(ollama_fleet_mirror_served_bytes_total[$__rate_interval]))", "to servers"
            ),
            Query(
                "sum by (registry) "
                "(rate(ollama_fleet_mirror_upstream_bytes_total[$__rate_interval]))",
                "from {{registry}}",
            ),
        ),
        lines(
            "Blobs asked of the mirror",
            "hit: it had it; shared: it was on its way already; miss: it fetched it.",
            "reqps",
            Query(
                "sum by (result) (rate(ollama_fleet_mirror_blob_requests_total[$__rate_interval]))",
                "{{result}}",
            ),
            stacked=True,
        ),
        lines(
            "The mirror's store",
            "In use, of what it may hold.",
            "percentunit",
            Query(
                "ollama_fleet_mirror_stored_bytes / ollama_fleet_mirror_limit_bytes",
                "{{pod}}",
            ),
            most=1,
        ),
    ),
)

OPERATOR = Row(
    "Operator",
    (
        lines(
            "Reconciles",
            "error: by a defect, or refused by Kubernetes; transient: tried again soon.",
            "ops",
            Query(
                "sum by (kind, result) "
                "(rate(ollama_fleet_reconcile_duration_seconds_count[$__rate_interval]))",
                "{{kind}} {{result}}",
            ),
        ),
        lines(
            "How long they take",
            "Nineteen of twenty take less.",
            "s",
            Query(
                "histogram_quantile(0.95, sum by (kind, le) "
                "(rate(ollama_fleet_reconcile_duration_seconds_bucket[$__rate_interval])))",
                "{{kind}}",
            ),
        ),
        lines(
            "Objects that wait, and memory",
            "What the operator has to do, and what it takes.",
            "short",
            Query("sum(ollama_fleet_reconcile_queue)", "objects"),
            Query(
                "sum(process_resident_memory_bytes and on (instance) ollama_fleet_leader) / 2 ^ 20",
                "MiB of memory",
            ),
        ),
    ),
)

CONSOLE = Row(
    "Fleet API",
    (
        lines(
            "Calls of the fleet API",
            "By status. 503: Kubernetes or a server could not be asked; 507: a store is too small.",
            "reqps",
            Query(
                "sum by (status) (rate(ollama_fleet_console_requests_total[$__rate_interval]))",
                "{{status}}",
            ),
            stacked=True,
        ),
        lines(
            "How long calls take",
            "Nineteen of twenty take less; of streams of events, until they begin.",
            "s",
            Query(
                "histogram_quantile(0.95, sum by (call, le) "
                "(rate(ollama_fleet_console_request_duration_seconds_bucket[$__rate_interval])))",
                "{{call}}",
            ),
        ),
        lines(
            "Streams of events",
            "Dashboards and programs that look on.",
            "short",
            Query("sum(ollama_fleet_console_event_streams)", "open"),
        ),
    ),
)

GPUS = Row(
    "GPUs, as NVIDIA's DCGM exporter tells",
    (
        lines(
            "GPU utilisation",
            "Of the machines that have servers.",
            "percent",
            Query(f"DCGM_FI_DEV_GPU_UTIL{{{_GPU}}}", "{{Hostname}} {{gpu}}"),
            most=100,
        ),
        lines(
            "GPU memory in use",
            "By whatever runs there.",
            "percentunit",
            Query(
                f"DCGM_FI_DEV_FB_USED{{{_GPU}}}"
                f" / (DCGM_FI_DEV_FB_USED{{{_GPU}}} + DCGM_FI_DEV_FB_FREE{{{_GPU}}})",
                "{{Hostname}} {{gpu}}",
            ),
            most=1,
        ),
        lines(
            "GPU memory free",
            "By whatever runs there.",
            "mbytes",
            Query(f"DCGM_FI_DEV_FB_FREE{{{_GPU}}}", "{{Hostname}} {{gpu}}"),
        ),
        lines(
            "Temperature",
            "Cards slow down when they are hot.",
            "celsius",
            Query(f"DCGM_FI_DEV_GPU_TEMP{{{_GPU}}}", "{{Hostname}} {{gpu}}"),
        ),
        lines(
            "Power",
            "What each card draws.",
            "watt",
            Query(f"DCGM_FI_DEV_POWER_USAGE{{{_GPU}}}", "{{Hostname}} {{gpu}}"),
        ),
        lines(
            "Last XID error",
            "0: none. 48, 64, 74, 79, 95 and 119 are of the hardware or its driver.",
            "short",
            Query(f"DCGM_FI_DEV_XID_ERRORS{{{_GPU}}}", "{{Hostname}} {{gpu}}"),
        ),
    ),
)


def dashboard() -> Json:
    """The whole."""
    of_node = 'ollama_fleet_server_info{namespace=~"$namespace", ollamanode=~"$ollamanode"}'
    return made(
        "ollama-fleet",
        "Ollama fleet",
        "Servers, their models and pulls, the operator, and the GPUs under them.",
        (
            choice("namespace", "Namespace", "label_values(ollama_fleet_condition, namespace)"),
            choice(
                "ollamanode",
                "OllamaNode",
                'label_values(ollama_fleet_servers{namespace=~"$namespace"}, ollamanode)',
            ),
            choice(
                "distribution",
                "ModelDistribution",
                'label_values(ollama_fleet_tasks{namespace=~"$namespace"}, distribution)',
            ),
            choice("machine", "Machine", f"label_values({of_node}, kubernetes_node)", listed=True),
        ),
        (OVERVIEW, SERVERS, PULLS, OPERATOR, CONSOLE, GPUS),
    )
