"""The dashboard of routers and models: who is answered, how soon, by whom."""

from dev.dashboards.panels import Json, Query, Row, choice, heatmap, lines, stat, table
from dev.dashboards.panels import dashboard as made

_PLACE = 'namespace=~"$namespace", router=~"$router"'
_MODEL = f'{_PLACE}, model=~"$model"'
_ANSWERS = f'{_PLACE}, gen_ai_request_model=~"$model"'
_RATE = "[$__rate_interval]"
_FIRST = "gen_ai_server_time_to_first_token_seconds"
_EACH = "gen_ai_server_time_per_output_token_seconds"
_WHOLE = "gen_ai_server_request_duration_seconds"
_TOKENS = "gen_ai_client_token_usage"


def _router(name: str, labels: str = _PLACE) -> str:
    return f"ollama_fleet_router_{name}{{{labels}}}"


def _rate(name: str, by: str, labels: str = _PLACE) -> str:
    return f"sum by ({by}) (rate({_router(name, labels)}{_RATE}))"


def _share(share: float, histogram: str, by: str = "", labels: str = _ANSWERS) -> str:
    """What that share of the values is not above."""
    groups = f"{by}, le" if by else "le"
    return (
        f"histogram_quantile({share}, "
        f"sum by ({groups}) (rate({histogram}_bucket{{{labels}}}{_RATE})))"
    )


def _shares(histogram: str) -> tuple[Query, ...]:
    told = ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
    return tuple(Query(_share(share, histogram), name) for share, name in told)


def _recorded(name: str) -> str:
    return f"namespace_router:ollama_fleet_{name}{{{_PLACE}}}"


OVERVIEW = Row(
    "Overview",
    (
        stat(
            "Answered",
            "Of the last hour's requests; what clients did wrong is not counted. 99.5 % is wanted.",
            "percentunit",
            f"1 - sum({_recorded('request_errors:rate1h')}) / sum({_recorded('requests:rate1h')})",
            (0.98, "orange"),
            (0.995, "green"),
            least="red",
        ),
        stat(
            "Errors left",
            "Of those that 99.5 % allow in 30 days; the least of the routers chosen.",
            "percentunit",
            f"min({_recorded('error_budget:left30d')})",
            (0, "orange"),
            (0.25, "green"),
            least="red",
        ),
        stat(
            "Begun within 10 s",
            "Of the last hour's streamed answers, the worst of the routers chosen. 95 % is wanted.",
            "percentunit",
            f"1 - max({_recorded('slow_first_tokens:ratio_rate1h')})",
            (0.8, "orange"),
            (0.95, "green"),
            least="red",
        ),
        stat(
            "Requests",
            "Answered, failed, or turned away for no fault of the client.",
            "reqps",
            f"sum({_recorded('requests:rate5m')})",
        ),
        stat(
            "First token",
            "Nineteen of twenty streamed answers begin sooner, of the last five minutes.",
            "s",
            f"max({_recorded('first_token_seconds:p95_rate5m')})",
            (10, "red"),
        ),
        stat(
            "Under way",
            "Requests at servers now.",
            "short",
            f"sum({_router('in_flight')}) or vector(0)",
        ),
        stat(
            "Waiting",
            "Requests for which no server has a free slot.",
            "short",
            f"sum({_router('queue_length')}) or vector(0)",
            (1, "orange"),
        ),
        stat(
            "Servers ready",
            "As the routers' own probes find them.",
            "short",
            f"sum(max by (namespace, router, server) ({_router('server_ready')}))",
            (1, "green"),
            least="red",
        ),
    ),
)

REQUESTS = Row(
    "Requests",
    (
        lines(
            "Answered by servers",
            "By status.",
            "reqps",
            Query(_rate("requests_total", "status"), "{{status}}"),
            stacked=True,
        ),
        lines(
            "Not answered in full",
            "By reason. ClientLeft is the client's own doing.",
            "reqps",
            Query(_rate("unfinished_total", "reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Turned away",
            "By reason: no server was given them. Names of models that are not there, keys and "
            "quotas are the client's doing; QueueFull, QueueTimeout, NotReady, Failing are not.",
            "reqps",
            Query(_rate("rejected_total", "reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Time to the first token",
            "Waiting and loading included, of streamed answers.",
            "s",
            *_shares(_FIRST),
        ),
        lines(
            "Time for each token",
            "From the first to the last, of streamed answers.",
            "s",
            *_shares(_EACH),
        ),
        lines(
            "Time to the end of the answer",
            "Of all answers with status 200.",
            "s",
            *_shares(_WHOLE),
        ),
        heatmap(
            "First tokens",
            "How many answers began after how long.",
            "s",
            f"sum by (le) (increase({_FIRST}_bucket{{{_ANSWERS}}}{_RATE}))",
            width=12,
        ),
        heatmap(
            "Whole answers",
            "How many answers took how long.",
            "s",
            f"sum by (le) (increase({_WHOLE}_bucket{{{_ANSWERS}}}{_RATE}))",
            width=12,
        ),
    ),
)

MODELS = Row(
    "Models",
    (
        lines(
            "Answers by model",
            "With status 200.",
            "reqps",
            Query(
                f"sum by (gen_ai_request_model) (rate({_WHOLE}_count{{{_ANSWERS}}}{_RATE}))",
                "{{gen_ai_request_model}}",
            ),
            stacked=True,
        ),
        lines(
            "Tokens given by model",
            "In a second, by all servers.",
            "short",
            Query(
                "sum by (gen_ai_request_model) "
                f'(rate({_TOKENS}_sum{{{_ANSWERS}, gen_ai_token_type="output"}}{_RATE}))',
                "{{gen_ai_request_model}}",
            ),
            stacked=True,
        ),
        lines(
            "First token by model",
            "Nineteen of twenty begin sooner.",
            "s",
            Query(_share(0.95, _FIRST, "gen_ai_request_model"), "{{gen_ai_request_model}}"),
        ),
        table(
            "Where models are",
            "Servers that have it, that can be asked for it, and that have it in memory.",
            {
                "namespace": ("Namespace", ""),
                "router": ("Router", ""),
                "model": ("Model", ""),
                "Value #A": ("Installed", "short"),
                "Value #B": ("Available", "short"),
                "Value #C": ("In memory", "short"),
            },
            *(
                Query(
                    "max by (namespace, router, model) "
                    f"({_router('model_servers', f'{_MODEL}, {state}')})"
                )
                for state in ('state="Installed"', 'state="Available"', 'state="Resident"')
            ),
            width=16,
        ),
        lines(
            "Models left alone or wedged",
            "Models that fail at a server, and those that one does not answer with any more.",
            "short",
            Query(f"count({_router('model_breaker_state', _MODEL)} == 2) or vector(0)", "failing"),
            Query(f"count({_router('wedged', _MODEL)}) or vector(0)", "wedged"),
        ),
    ),
)

SERVERS = Row(
    "Servers",
    (
        lines(
            "Given to each server",
            "How often it was chosen.",
            "reqps",
            Query(_rate("decisions_total", "server"), "{{server}}"),
            stacked=True,
        ),
        lines(
            "Why that server",
            "Cold: it has to load the model; Waits, Loading: waiting is quicker than a load.",
            "reqps",
            Query(_rate("decisions_total", "reason"), "{{reason}}"),
            stacked=True,
        ),
        lines(
            "Tried again at another",
            "By what the first one did.",
            "reqps",
            Query(_rate("retries_total", "server, reason"), "{{server}} {{reason}}"),
            stacked=True,
        ),
        lines(
            "Under way at each server",
            "From all replicas of the router.",
            "short",
            Query(
                f"sum by (server) ({_router('in_flight', _MODEL)}) "
                f"or sum by (server) ({_router('server_ready')}) * 0",
                "{{server}}",
            ),
            stacked=True,
        ),
        lines(
            "Left alone",
            "0: it gets requests; 1: one may try; 2: none.",
            "short",
            Query(f"max by (server) ({_router('breaker_state')})", "{{server}}"),
            most=2,
        ),
        lines(
            "GPU utilisation",
            "As NVIDIA's DCGM exporter tells, of all machines.",
            "percent",
            Query("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} {{gpu}}"),
            most=100,
        ),
    ),
)

QUEUE = Row(
    "Queue and clients",
    (
        lines(
            "Waiting",
            "Requests for which no server has a free slot, by model.",
            "short",
            Query(f"sum by (model) ({_router('queue_length', _MODEL)}) or vector(0)", "{{model}}"),
            stacked=True,
        ),
        lines(
            "How long they wait",
            "Nine of ten that waited did so for less, by model.",
            "s",
            Query(
                _share(0.9, "ollama_fleet_router_queue_wait_seconds", "model", _MODEL), "{{model}}"
            ),
        ),
        lines(
            "Connections",
            "Of clients, open now.",
            "short",
            Query(f"sum by (namespace, router) ({_router('connections')})", "{{router}}"),
        ),
        lines(
            "Requests by client",
            "By whose key; status 0: the client left.",
            "reqps",
            Query(_rate("client_requests_total", "client"), "{{client}}"),
            stacked=True,
        ),
        lines(
            "Tokens by client",
            "In a second, taken in and given out.",
            "short",
            Query(_rate("client_tokens_total", "client, type"), "{{client}} {{type}}"),
            stacked=True,
        ),
        lines(
            "Memory of each replica",
            "What each process of a router takes.",
            "bytes",
            Query(
                f"process_resident_memory_bytes and on (instance) {_router('connections')}",
                "{{namespace}}/{{pod}}",
            ),
        ),
    ),
)


def dashboard() -> Json:
    """The whole."""
    of_namespace = 'ollama_fleet_router_connections{namespace=~"$namespace"}'
    return made(
        "ollama-fleet-routers",
        "Ollama fleet: routers and models",
        "Who is answered, how soon, and by which servers.",
        (
            choice(
                "namespace", "Namespace", "label_values(ollama_fleet_router_connections, namespace)"
            ),
            choice("router", "Router", f"label_values({of_namespace}, router)"),
            choice(
                "model",
                "Model",
                f"label_values(ollama_fleet_router_model_servers{{{_PLACE}}}, model)",
            ),
        ),
        (OVERVIEW, REQUESTS, MODELS, SERVERS, QUEUE),
    )
