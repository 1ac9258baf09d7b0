"""The page of docs/reference that tells every metric of the router."""

from collections.abc import Iterable

from dev.tables import table
from ollama_fleet.router.accounting import KEPT_SECONDS, MAX_PAIRS, OTHER
from ollama_fleet.router.metrics import FAMILIES, process_registry

_PAGE = """\
# Metrics of the router

`GET /metrics` on the port for operators (9090; `--metrics-port` where it runs alone), in the text
format of Prometheus. Made from the program by `make generate`.

{own}

Where [OpenTelemetry](https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/) has a name
for it, that name is used, as Prometheus spells it. `gen_ai_request_model` and `model` are the model
that answered, such as `llama3.2:latest`; `server` is the server's name in the status of its
OllamaNode, or host and port.

- Only names of installed models become labels: whatever else clients ask for is counted as
  `rejected_total{{reason="NoModel"}}`.
- What was counted for a server that left, or for a model that nobody has any more, goes {minutes}
  minutes later. More than {pairs} models at servers are counted as one more per server, `{other}`.
- A metric that has counted nothing yet is not served.
- Reasons of `decisions_total`: `Resident` (the model was in memory), `LeastLoad`, `OnlyOne`,
  `Weighted`, `RoundRobin`.
- Reasons of `retries_total`: the causes of `spec.retry.causes`.
- Reasons of `unfinished_total`: `Unreachable`, `FirstByteTimeout`, `IdleTimeout`, `BrokenStream`,
  `ClientLeft`.
- Each router counts for itself: add them up with `sum without (pod, instance)`.

In Kubernetes the pods of a Router have the label `ollamafleet.dev/router` and a port `metrics`:

```yaml
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {{name: routers}}
spec:
  selector:
    matchExpressions:
    - {{key: ollamafleet.dev/router, operator: Exists}}
  podMetricsEndpoints:
  - {{port: metrics}}
```

## Asking

```
# answers that begin within 2.5 s, of all streamed ones
sum(rate(gen_ai_server_time_to_first_token_seconds_bucket{{le="2.5"}}[5m]))
  / sum(rate(gen_ai_server_time_to_first_token_seconds_count[5m]))

# tokens given per second, by model
sum by (gen_ai_request_model) (
  rate(gen_ai_client_token_usage_sum{{gen_ai_token_type="output"}}[5m])
)

# half of a server's tokens take longer than this
histogram_quantile(0.5, sum by (server, le) (
  rate(gen_ai_server_time_per_output_token_seconds_bucket[5m])
))

# requests that a server did not finish, clients that left set aside
sum by (server, reason) (rate(ollama_fleet_router_unfinished_total{{reason!="ClientLeft"}}[5m]))

# servers that are left alone
ollama_fleet_router_breaker_state == 2
```

## Of the process

{process}
"""


def page() -> str:
    """What the router tells Prometheus, as Markdown."""
    process = (
        (one.name + "_total" * (one.type == "counter"), one.type, (), one.documentation)
        for one in process_registry().collect()
    )
    return _PAGE.format(
        own=_families((one.name, one.kind, one.labels, one.about) for one in FAMILIES),
        process=_families(process),
        minutes=round(KEPT_SECONDS / 60),
        pairs=MAX_PAIRS,
        other=OTHER,
    )


def _families(families: Iterable[tuple[str, str, tuple[str, ...], str]]) -> str:
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), about)
        for name, kind, labels, about in families
    ]
    return "\n".join(table(("Metric", "Kind", "Labels", "Tells"), rows))
