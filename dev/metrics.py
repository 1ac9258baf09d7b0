"""The page of docs/reference that tells every metric of the programs."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from dev.tables import table
from ollama_fleet.console.metrics import Metrics as ConsoleMetrics
from ollama_fleet.controllers import fleetmetrics
from ollama_fleet.controllers.metrics import Metrics
from ollama_fleet.controllers.pullmetrics import PullMetrics
from ollama_fleet.mirror.metrics import Metrics as MirrorMetrics
from ollama_fleet.router.accounting import KEPT_SECONDS, MAX_PAIRS, OTHER
from ollama_fleet.router.metrics import FAMILIES, process_registry

Row = tuple[str, str, Sequence[str], str]
"""Name, kind, labels, and what it tells."""

_PAGE = """\
# Metrics

What the programs tell Prometheus. The chart brings alerts and dashboards made of it:
[monitoring](../guides/monitoring.md). Made from the programs by `make generate`.

## Of a router

`GET /metrics` on the port for operators (9090; `--metrics-port` where it runs alone).

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
- Reasons of `decisions_total`: `Resident` (the model was in memory), `Conversation` (so was what
  came before), `Waits` (for a server that has it in memory and is busy), `Loading` (for one that is
  loading it), `Cold` (it has to be loaded), `OnlyOne`, `LeastLoad`, `Weighted`, `RoundRobin`.
- Reasons of `retries_total`: the causes of `spec.retry.causes`.
- Reasons of `unfinished_total`: `Unreachable`, `FirstByteTimeout`, `IdleTimeout`, `BrokenStream`,
  `ClientLeft`.
- Each router counts for itself: add them up with `sum without (pod, instance)`.

In Kubernetes the pods of a Router have the label `ollamafleet.dev/router` and a port `metrics`; the
chart's PodMonitor (`metrics.podMonitor.enabled`) adds the label `router`, the Router's name.

### Asking

```promql
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

## Of the operator

`GET /metrics` on port 8080. Labels are names of resources and servers, so there are as many as of
those; `namespace` is the resource's, so scrape with `honor_labels: true`, as the chart's
ServiceMonitor does. Only the operator that leads tells of resources. Of an OllamaNode with more
than 100 servers the 100 that are most in trouble are told one by one.

{operator}

## Of the console

`GET /metrics` on port 8080. `call` is the call's name in `GET /openapi.json` (`operationId`).

{console}

## Of the mirror

`GET /metrics` on port 5000.

{mirror}

## Of every process

{process}
"""


def page() -> str:
    """What the programs tell Prometheus, as Markdown."""
    return _PAGE.format(
        own=_families((one.name, one.kind, one.labels, one.about) for one in FAMILIES),
        operator=_families([*_instruments(Metrics(), PullMetrics(CollectorRegistry())), *_fleet()]),
        console=_families(_instruments(ConsoleMetrics())),
        mirror=_families(_instruments(MirrorMetrics())),
        process=_families(
            (_name(one), one.type, (), one.documentation) for one in process_registry().collect()
        ),
        minutes=round(KEPT_SECONDS / 60),
        pairs=MAX_PAIRS,
        other=OTHER,
    )


def _fleet() -> Iterator[Row]:
    for one in fleetmetrics.FAMILIES:
        yield one.name, "gauge", one.labels, one.about
    for name, about, labels in (fleetmetrics.CONDITION, fleetmetrics.STALLED):
        yield name, "gauge", labels, about


def _instruments(*holders: object) -> Iterator[Row]:
    """The instruments that are attributes of these."""
    for holder in holders:
        for instrument in vars(holder).values():
            if isinstance(instrument, MetricWrapperBase):
                (told,) = instrument.describe()
                yield _name(told), told.type, instrument._labelnames, told.documentation


def _name(metric: Metric) -> str:
    return metric.name + "_total" * (metric.type == "counter")


def _families(families: Iterable[Row]) -> str:
    rows = [
        (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), about)
        for name, kind, labels, about in families
    ]
    return "\n".join(table(("Metric", "Kind", "Labels", "Tells"), rows))
