"""What Ollama sends, as types. Parsing is lenient: unknown fields are ignored, absent ones
and nulls take the default, so that a newer or older server is still understood."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NEVER = datetime(1, 1, 1, tzinfo=UTC)

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""What Go calls an int64: as large as Kubernetes takes it, too."""


def _in_utc(told: datetime) -> datetime:
    try:
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except OverflowError:
        return NEVER


Moment = Annotated[datetime, AfterValidator(_in_utc)]


class Wire(BaseModel):
    """The base of all wire types: frozen, and lenient towards what it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            return {key: value for key, value in data.items() if value is not None}
        return data


class Details(Wire):
    """A model's family, parameters and quantisation, as words."""

    format: str = ""
    family: str = ""
    families: tuple[str, ...] = ()
    parameter_size: str = ""
    quantization_level: str = ""


class InstalledModel(Wire):
    """A model on a server's disk (/api/tags). `digest` is its manifest's, in bare hex;
    `size` is in bytes."""

    name: str = ""
    model: str = ""
    digest: str = ""
    size: Whole = 0
    modified_at: Moment = NEVER
    details: Details = Details()


class ResidentModel(Wire):
    """A model in a server's memory (/api/ps). Sizes in bytes; `size_vram` below `size` means
    that the rest is in the machine's own memory (all of it on a server without a GPU)."""

    name: str = ""
    model: str = ""
    digest: str = ""
    size: Whole = 0
    size_vram: Whole = 0
    expires_at: Moment = NEVER
    context_length: Whole = 0
    details: Details = Details()


class Tensor(Wire):
    """A tensor of a model. `shape` begins with the dimension that runs fastest."""

    name: str = ""
    shape: tuple[Whole, ...] = ()


class ModelDetail(Wire):
    """A model in full (/api/show). `model_info` holds the GGUF header's values by key, with null
    for long lists; `projector_info` those of a projector's file, where it has one."""

    details: Details = Details()
    model_info: dict[str, Any] = {}
    projector_info: dict[str, Any] = {}
    tensors: tuple[Tensor, ...] = ()
    capabilities: tuple[str, ...] = ()
    parameters: str = ""
    template: str = ""
    modified_at: Moment = NEVER

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows, as each has a row of its own; 0 where it is not said,
        as by releases before 0.6."""
        shapes = (one.shape for one in self.tensors if one.name == "token_embd.weight")
        return next((shape[-1] for shape in shapes if len(shape) == 2), 0)


class PullProgress(Wire):
    """One line of a pull. `digest`, `total` and `completed` (bytes) are of the layer in hand
    and empty on lines that are about the whole."""

    status: str = ""
    digest: str = ""
    total: Whole = 0
    completed: Whole = 0
