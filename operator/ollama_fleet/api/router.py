"""Router: one endpoint for many servers."""

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from ollama_fleet.api.access import SecretRefs
from ollama_fleet.api.alias import ModelRoute
from ollama_fleet.api.conditions import CONDITIONS, Conditions
from ollama_fleet.api.model import (
    CA_NEEDS_TLS,
    REPOSITORY,
    Image,
    Key,
    LabelSelector,
    Model,
    Name,
    PodTemplate,
    Resources,
    SecretRef,
    Url,
    Value,
    each_once,
    rule,
    rules,
)
from ollama_fleet.api.pattern import Pattern
from ollama_fleet.api.quantity import (
    DURATION,
    Duration,
    Interval,
    Quantity,
    int_or_text,
    number_as_text,
)

Host = Annotated[
    str,
    Field(max_length=253),
    Pattern(
        r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        "not a host name: write it without scheme and port, such as chat.example.com",
    ),
]
HeaderValue = Annotated[
    str,
    Field(max_length=1024),
    Pattern(r"^[\x20-\x7e]*$", "not a header's value: write it in ASCII, on one line"),
]
RouterRepository = Annotated[
    str,
    Field(max_length=255),
    Pattern("^$|" + REPOSITORY.regex, REPOSITORY.message),
]
Cause = Literal["ConnectFailure", "Busy", "502", "503"]
_CAUSES: tuple[Cause, ...] = get_args(Cause)
_NO_CAUSE = "not a cause to try another server: write ConnectFailure, Busy, 502 or 503"
_NO_COUNT = "not a number of requests: write Auto (the server's parallel) or a number of at least 1"


def _cause(value: object) -> object:
    text = number_as_text(value)
    if text not in _CAUSES:
        raise ValueError(f"{value!r} is {_NO_CAUSE}")
    return text


def _per_server(value: int | str) -> int | str:
    if value != "Auto" and not (isinstance(value, int) and 1 <= value <= 10000):
        raise ValueError(f"{value!r} is {_NO_COUNT}")
    return value


RetryCause = Annotated[
    Cause,
    BeforeValidator(_cause),
    int_or_text(f"type(self) == int ? self in [502, 503] : self in {list(_CAUSES)}", _NO_CAUSE, 32),
]
PerServer = Annotated[
    int | Literal["Auto"],
    BeforeValidator(_per_server),
    int_or_text("type(self) == int ? self >= 1 && self <= 10000 : self == 'Auto'", _NO_COUNT, 32),
]
Api = Literal["Ollama", "OpenAI", "Anthropic"]


class Select(Model):
    """Which OllamaNodes; absent: all in the namespace."""

    ollama_nodes: (
        Annotated[list[Name], Field(max_length=64, json_schema_extra=each_once())] | None
    ) = Field(default=None, description="OllamaNodes by name.")
    selector: LabelSelector | None = Field(
        default=None, description="OllamaNodes with these labels."
    )


class Backend(Model):
    """A server that has no OllamaNode."""

    model_config = rules(
        rule(
            "!has(self.headers) || self.headers.all(name, name.matches(r'^[A-Za-z0-9-]+$'))",
            "headers has a name that HTTP does not take: write letters, digits and -, such as "
            "Authorization",
            ".headers",
        ),
        CA_NEEDS_TLS,
    )
    url: Url = Field(description="Where it answers, such as http://gpu-box.lan:11434.")
    weight: int = Field(
        default=100,
        ge=0,
        le=10000,
        description="Share under the Weighted strategy; 0: only if nothing else can.",
    )
    headers_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose entries are sent as headers, such as Authorization, and win over "
        "headers; a changed one is taken over within 30 s.",
    )
    ca_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret whose ca.crt (PEM) signs the server's certificate; absent: the "
        "authorities that every system trusts. A changed one is taken over within 30 s.",
    )
    headers: Annotated[dict[Key, HeaderValue], Field(max_length=16)] = Field(
        default={}, description="Sent with every request. For secrets use headersSecretRef."
    )
    parallel: int = Field(default=1, ge=1, le=256, description="Requests per model at a time.")

    @property
    def secrets(self) -> SecretRefs:
        """The Secrets it is reached by."""
        headers, ca = self.headers_secret_ref, self.ca_secret_ref
        return SecretRefs(headers.name if headers else None, ca.name if ca else None)


class Strategy(Model):
    """How a server is chosen."""

    type: Literal["LeastLoad", "PrefixAffinity", "Weighted", "RoundRobin"] = Field(
        default="LeastLoad",
        description="LeastLoad: the less busy of two, servers with the model resident first. "
        "PrefixAffinity: the same, and a conversation goes where it went before, unless that "
        "server has more than 125 % of its share of the model's requests. With both, a model is "
        "loaded on one more server when waiting for a slot takes longer than that. "
        "Weighted: each server its share by weight. RoundRobin: one after the other.",
    )


class Queue(Model):
    """Where requests wait when every slot is taken; clients take turns by the tokens they used."""

    size: int = Field(
        default=512,
        ge=0,
        le=100_000,
        description="Requests that may wait for one model, in each replica. More get 503.",
    )
    timeout: Duration = Field(
        default="60s",
        description="How long each may wait until it gets 503; ``0s``: as long as its client does.",
    )
    per_server: PerServer = Field(
        default="Auto",
        description="Requests for one model at one server at once, of all replicas together. Auto: "
        "the server's parallel.",
    )


class RetryPolicy(Model):
    """When another server is tried; never after the first byte of an answer."""

    attempts: int = Field(
        default=2,
        ge=1,
        le=10,
        description="Servers asked, the first included; those that cannot be connected to do not "
        "count.",
    )
    # not `on`: YAML 1.1, and so kubectl, reads that key as true
    causes: Annotated[list[RetryCause], Field(max_length=8, json_schema_extra=each_once())] = Field(
        default=list(_CAUSES), description="What another server is tried after; absent: all four."
    )


class Breaker(Model):
    """When a failing server is left alone, and for how long."""

    model_config = rules(
        rule(
            "!has(self.cooldown) || !has(self.maxCooldown) || "
            f"!{DURATION.cel('self.cooldown')} || !{DURATION.cel('self.maxCooldown')} || "
            "duration(self.cooldown) <= duration(self.maxCooldown)",
            "cooldown is longer than maxCooldown: lower it or raise maxCooldown",
            ".cooldown",
        )
    )
    failures: int = Field(
        default=3, ge=1, le=1000, description="In a row, before it is left alone."
    )
    cooldown: Interval = Field(default="5s", description="The first rest; doubles while it fails.")
    max_cooldown: Interval = Field(default="60s", description="The longest rest.")


class Health(Model):
    """How servers are probed."""

    interval: Interval = Field(default="5s", description="Between two probes.")
    timeout: Interval = Field(default="2s", description="How long an answer may take.")
    offline_after: Interval = Field(
        default="60s", description="Without an answer for this long, a server is Offline."
    )
    breaker: Breaker = Breaker()


class Timeouts(Model):
    """How long to wait; ``0s`` is for ever."""

    connect: Duration = Field(default="2s", description="For a connection to the server.")
    first_byte: Duration = Field(default="10m", description="A cold model loads in this time.")
    idle: Duration = Field(default="2m", description="Between two pieces of an answer.")
    total: Duration = Field(default="0s", description="For the whole answer.")


class Auth(Model):
    """Who may call."""

    model_config = rules(
        rule(
            "has(self.keysSecretRef) || (has(self.anonymous) && self.anonymous)",
            "nobody could call: name keysSecretRef, or set anonymous: true",
        )
    )
    keys_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with an entry for each client: {sha256, models, requestsPerMinute, "
        "tokensPerMinute, maxConcurrent, weight}; a changed one is taken over within seconds.",
    )
    anonymous: bool = Field(
        default=False,
        description="Also callers without a key or with an unknown one, for every model and "
        "without limit.",
    )


class Limits(Model):
    """What one client may cost."""

    body_bytes: Quantity = Field(default="32Mi", description="The largest request.")
    header_bytes: Quantity = Field(default="32Ki", description="The largest head of a request.")
    connections: int = Field(default=10_000, ge=1, le=1_000_000, description="Clients at once.")


Treatment = Literal["Strip", "Refuse", "Allow"]


class ClientOptions(Model):
    """What clients may set that changes a server for everybody."""

    loading: Treatment = Field(
        default="Strip",
        description="Options that Ollama loads a model anew for, such as num_ctx, num_gpu and "
        "num_batch. Strip: taken out of the request. Refuse: the request is answered with 400. "
        "Allow: passed on.",
    )
    keep_alive: Treatment = Field(
        default="Strip",
        description="How long a model stays in memory, keep_alive. As for loading; a request that "
        "only unloads a model is answered with 400 also under Strip.",
    )


class RouterService(Model):
    """The Service in front of the router."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        default="ClusterIP", description="As in Kubernetes."
    )
    port: int = Field(default=11434, ge=1, le=65535, description="Where clients reach it.")
    annotations: Annotated[dict[Key, Value], Field(max_length=64)] = Field(
        default={}, description="Of the Service."
    )


class Ingress(Model):
    """An Ingress for the router, named NAME-router."""

    class_name: Name | None = Field(default=None, description="Absent: the cluster's default.")
    host: Host = Field(description="The host name clients use.")
    annotations: Annotated[dict[Key, Value], Field(max_length=64)] = Field(
        default={},
        description="Of the Ingress, for its controller: turn its buffering off, raise its time "
        "limits, and with spec.tls have it speak HTTPS to the router.",
    )
    tls_secret_name: Name | None = Field(
        default=None, description="Secret with the certificate; absent: plain HTTP."
    )


class ParentRef(Model):
    """A Gateway."""

    name: Name = Field(description="The Gateway's name.")
    namespace: Name | None = Field(default=None, description="Absent: the Router's own.")
    section_name: Name | None = Field(default=None, description="One listener of it; absent: all.")


class HttpRoute(Model):
    """An HTTPRoute for the router, named NAME-router; needs the Gateway API, v1.2 or newer."""

    parent_refs: Annotated[list[ParentRef], Field(min_length=1, max_length=16)] = Field(
        description="Gateways that lead to the router."
    )
    hostnames: Annotated[list[Host], Field(max_length=16)] = Field(
        default=[], description="Host names clients use; absent: all of the Gateway's."
    )


class Tls(Model):
    """Serve HTTPS, and no HTTP, with the certificate of a Secret."""

    secret_name: Name = Field(
        description="Secret with tls.crt and tls.key (PEM); a changed one is taken over within "
        "seconds, by new connections."
    )


class RouterImage(Image):
    """The image with the router; absent: the operator's own."""

    repository: RouterRepository = Field(
        default="", description="Registry and path, without a tag."
    )


class RouterSpec(Model):
    """What is wanted of the router."""

    replicas: int = Field(default=1, ge=0, le=100, description="Pods of the router.")
    image: RouterImage = RouterImage()
    resources: Resources = Resources()
    template: PodTemplate = PodTemplate()
    select: Select = Select()
    backends: Annotated[
        list[Backend],
        Field(
            max_length=256,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["url"],
            },
        ),
    ] = Field(default=[], description="Servers that have no OllamaNode.")
    strategy: Strategy = Strategy()
    models: Annotated[
        list[ModelRoute],
        Field(
            max_length=128,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
            },
        ),
    ] = Field(default=[], description="Names clients may use besides those of installed models.")
    client_options: ClientOptions = ClientOptions()
    queue: Queue = Queue()
    retry: RetryPolicy = RetryPolicy()
    health: Health = Health()
    timeouts: Timeouts = Timeouts()
    auth: Auth | None = Field(default=None, description="Absent: whoever reaches it may call.")
    limits: Limits = Limits()
    apis: Annotated[list[Api], Field(min_length=1, max_length=3, json_schema_extra=each_once())] = (
        Field(
            default=["Ollama", "OpenAI", "Anthropic"],
            description="APIs it speaks; absent: all of them.",
        )
    )
    access_log: bool = Field(
        default=False,
        description="Write a line of JSON for each call to the pods' standard output: who asked "
        "what and what came of it, without bodies, headers and keys.",
    )
    fleet_api: bool = Field(
        default=False,
        description="Hand /api/agents, /api/tasks, /api/models, /api/health and /api/fit on to the "
        "console, which asks for tokens of Kubernetes rather than keys.",
    )
    service: RouterService = RouterService()
    ingress: Ingress | None = None
    http_route: HttpRoute | None = None
    tls: Tls | None = None


class RouterServers(Model):
    """Servers behind the router."""

    ready: int = Field(default=0, ge=0, description="Those that answer.")
    total: int = Field(default=0, ge=0, description="All, the backends included.")
    summary: Annotated[str, Field(max_length=16)] = Field(
        default="0/0", description="Both in one, for people."
    )


class RouterStatus(Model):
    """What is."""

    observed_generation: int | None = Field(
        default=None, ge=0, description="The generation of the spec that all of this is about."
    )
    url: Annotated[str | None, Field(max_length=2048)] = Field(
        default=None, description="Where clients reach it."
    )
    replicas: int = Field(default=0, ge=0, description="Pods there are.")
    ready_replicas: int = Field(default=0, ge=0, description="Pods that take requests.")
    ready: Annotated[str, Field(max_length=16)] = Field(
        default="0/0", description="Pods ready, of those wanted."
    )
    selector: Annotated[str, Field(max_length=512)] = Field(
        default="", description="Labels of the pods, for the scale subresource."
    )
    servers: RouterServers = RouterServers()
    models: Annotated[list[Annotated[str, Field(max_length=256)]], Field(max_length=200)] = Field(
        default=[], description="Models that clients may use, the first 200."
    )
    model_count: int = Field(default=0, ge=0, description="How many there are in all.")
    conditions: Conditions = CONDITIONS


class Router(Model):
    """One endpoint for many servers: balanced, retried, metered."""

    spec: RouterSpec
    status: RouterStatus | None = None
