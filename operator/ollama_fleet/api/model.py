"""What every part of a resource has in common: camelCase on the wire, lenient reading."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ollama_fleet.api.pattern import VALIDATIONS, Pattern
from ollama_fleet.api.quantity import Amount

Rule = dict[str, str]

LABEL_PREFIX = "ollamafleet.dev/"

Name = Annotated[
    str,
    Field(max_length=253),
    Pattern(
        r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        "not the name of an object: write lower-case letters, digits, dots and dashes",
    ),
]
Key = Annotated[str, Field(max_length=317)]
Value = Annotated[str, Field(max_length=1024)]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    Pattern(
        r"^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$",
        "not a label's value: write letters, digits, -, _ and dots, and a letter or digit at "
        "both ends",
    ),
]
Labels = Annotated[dict[Key, LabelValue], Field(max_length=64)]
Amounts = Annotated[dict[Key, Amount], Field(max_length=16)]
REPOSITORY = Pattern(
    r"^([A-Za-z0-9][A-Za-z0-9.-]*:[0-9]{1,5}/)?[a-z0-9][a-z0-9._/-]*$",
    "not the path of an image: write registry and path, such as ghcr.io/team/ollama, and the rest "
    "in tag or digest",
)
Repository = Annotated[str, Field(max_length=255), REPOSITORY]
Tag = Annotated[
    str,
    Field(max_length=128),
    Pattern(
        r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$",
        "not an image tag: write letters, digits, _, . and -, such as 0.35.1",
    ),
]
ImageDigest = Annotated[
    str,
    Field(max_length=128),
    Pattern(
        r"^(sha256:[0-9a-f]{64})?$",
        "not an image digest: write sha256: and its 64 hexadecimal digits",
    ),
]
Url = Annotated[
    str,
    Field(max_length=2048),
    Pattern(
        r"^https?://([A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
        r"(/[A-Za-z0-9._~/-]*)?$",
        "not the URL of a server: write scheme, host and port, such as http://gpu-box.lan:11434",
    ),
]
ResourceName = Annotated[
    str,
    Field(max_length=317),
    Pattern(
        r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
        "not an extended resource: write domain and name, such as nvidia.com/gpu",
    ),
]
HostPath = Annotated[
    str,
    Field(max_length=1024),
    Pattern(
        r"^(/([^/:.]|\.[^/:.]|\.\.[^/:])[^/:]*)+$",
        "not the path of a folder: write it from /, without .., : or a / at the end",
    ),
]


class Model(BaseModel):
    """A part of a resource. Unknown fields are ignored, so that older programs read newer ones."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True
    )

    def wire(self) -> dict[str, Any]:
        """The JSON form, without the fields that hold nothing."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(cel: str, message: str, field: str = "", reason: str = "FieldValueInvalid") -> Rule:
    """A CEL validation; ``message`` says what to write instead."""
    made = {"rule": cel, "message": message, "reason": reason}
    return made | ({"fieldPath": field} if field else {})


def rules(*made: Rule) -> ConfigDict:
    """Model configuration that carries CEL validations into the CRD."""
    return ConfigDict(json_schema_extra={VALIDATIONS: [dict(one) for one in made]})


def each_once() -> dict[str, Any]:
    """Of a list that names each thing once.

    It is no set for the API server: where server-side apply empties a set it removes it, and a list
    that is absent means everything.
    """
    told = "something is named twice: name each once"
    return {VALIDATIONS: [rule("self.all(one, self.exists_one(other, other == one))", told)]}


def open_object(description: str, default: Any = None) -> Any:
    """A field passed through to Kubernetes, which checks it itself."""
    return Field(
        default=default,
        description=description,
        json_schema_extra={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    )


CA_NEEDS_TLS = rule(
    "!has(self.caSecretRef) || self.url.startsWith('https://')",
    "a certificate authority is for TLS: write url with https://, or remove caSecretRef",
    ".caSecretRef",
)
"""Of what has a ``url`` and may name the authority that signs its certificate."""


class SecretRef(Model):
    """A Secret in the same namespace."""

    name: Name = Field(description="The Secret's name.")


class LabelSelector(Model):
    """Objects whose labels have all of these values."""

    match_labels: Labels = Field(description="Label names and the values they must have.")


class Toleration(Model):
    """A taint that pods may ignore, as in Kubernetes."""

    key: Key | None = Field(
        default=None, description="The taint's key; absent, with operator Exists: every taint."
    )
    operator: Literal["Exists", "Equal"] | None = Field(default=None, description="Absent: Equal.")
    value: Value | None = Field(default=None, description="The taint's value, for Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Absent: every effect."
    )
    toleration_seconds: int | None = Field(
        default=None, ge=0, le=2**31, description="How long NoExecute is borne; absent: for ever."
    )


class KeyRef(Model):
    """One key of a Secret or ConfigMap in the same namespace."""

    name: Name = Field(description="The object's name.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="The key in it.")
    optional: bool | None = Field(
        default=None, description="Whether the server starts without it; absent: no."
    )


class FieldRef(Model):
    """A field of the pod, such as ``metadata.name``."""

    field_path: Annotated[str, Field(min_length=1, max_length=253)] = Field(
        description="The field's path."
    )


class EnvSource(Model):
    """Where a variable's value comes from: exactly one of these."""

    model_config = rules(
        rule(
            "[has(self.secretKeyRef), has(self.configMapKeyRef), has(self.fieldRef)]"
            ".exists_one(x, x)",
            "write exactly one of secretKeyRef, configMapKeyRef and fieldRef",
        )
    )
    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None
    field_ref: FieldRef | None = None


class EnvVar(Model):
    """An environment variable of the server's container."""

    model_config = rules(
        rule(
            "!(has(self.value) && has(self.valueFrom))",
            "value and valueFrom are both there: remove one of them",
        )
    )
    name: Annotated[
        str,
        Field(max_length=128),
        Pattern(
            r"^[A-Za-z_][A-Za-z0-9_]*$",
            "not the name of a variable: write letters, digits and _, with no digit in front",
        ),
    ] = Field(description="The variable's name.")
    value: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None, description="Its value, as it is."
    )
    value_from: EnvSource | None = None


class Resources(Model):
    """CPU and memory of a container, as in Kubernetes."""

    requests: Amounts | None = Field(
        default=None, description="What a Kubernetes node must have free."
    )
    limits: Amounts | None = Field(default=None, description="What the container may use at most.")


class PodTemplate(Model):
    """What to add to the pods."""

    model_config = rules(
        rule(
            "!has(self.labels) || self.labels.all(k, !k.startsWith('ollamafleet.dev/') && "
            "!k.startsWith('app.kubernetes.io/'))",
            "labels under ollamafleet.dev/ and app.kubernetes.io/ are set by the operator: "
            "use another prefix",
            ".labels",
        )
    )
    labels: Labels | None = Field(default=None, description="Labels of the pods.")
    annotations: Annotated[
        dict[Key, Annotated[str, Field(max_length=16384)]] | None, Field(max_length=64)
    ] = Field(default=None, description="Annotations of the pods.")
    node_selector: Labels | None = Field(
        default=None, description="Kubernetes nodes must have these labels."
    )
    tolerations: Annotated[list[Toleration] | None, Field(max_length=32)] = Field(
        default=None, description="Taints that the pods may ignore."
    )
    affinity: dict[str, Any] | None = open_object("Pod affinity, as in Kubernetes.")
    topology_spread_constraints: Annotated[
        list[
            Annotated[
                dict[str, Any],
                Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}),
            ]
        ]
        | None,
        Field(max_length=16),
    ] = Field(default=None, description="How the pods spread, as in Kubernetes.")
    priority_class_name: Name | None = Field(default=None, description="The pods' PriorityClass.")
    runtime_class_name: Name | None = Field(
        default=None, description="The pods' RuntimeClass, such as nvidia."
    )
    service_account_name: Name | None = Field(
        default=None, description="The pods' ServiceAccount; absent: default, without a token."
    )
    security_context: dict[str, Any] | None = open_object(
        "Added to the pod's security context; the default is the restricted profile."
    )


class Image(Model):
    """A container image."""

    repository: Repository = Field(description="Registry and path, without a tag.")
    tag: Tag = Field(default="", description="The image's tag.")
    digest: ImageDigest = Field(default="", description="Pins the image; wins over the tag.")
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        default="IfNotPresent", description="When machines pull it."
    )
    pull_secrets: Annotated[list[Name], Field(max_length=16)] = Field(
        default=[], description="Secrets with registry credentials."
    )

    @property
    def reference(self) -> str:
        """``repository:tag`` or ``repository@digest``."""
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}" if self.tag else self.repository
