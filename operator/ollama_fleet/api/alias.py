"""Names that clients may use besides those of installed models."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from ollama_fleet.api.model import Model, rule, rules
from ollama_fleet.api.modeldistribution import LocalModelName, ModelName
from ollama_fleet.api.names import canonical

Stop = Annotated[str, Field(min_length=1, max_length=256)]


class RouteTarget(Model):
    """An installed model behind a name."""

    model: LocalModelName = Field(description="The installed model.")
    weight: int = Field(default=1, ge=0, le=1000, description="Share of the requests; 0: none.")


class Defaults(Model):
    """Options used where a request does not set them, by Ollama's names."""

    model_config = ConfigDict(alias_generator=None)  # as clients and Modelfiles spell them
    temperature: float | None = Field(
        default=None, ge=0, le=2, description="How freely the model words its answer."
    )
    top_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The likeliest words, up to this share, are drawn from.",
    )
    num_predict: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="The longest answer, in tokens; max_tokens in the other APIs.",
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="The same question gets the same answer; not in Anthropic's API and not in "
        "/v1/responses.",
    )
    stop: Annotated[list[Stop], Field(max_length=16)] | None = Field(
        default=None, description="Texts that end the answer; not in /v1/responses."
    )

    def given(self) -> dict[str, Any]:
        """Those that are set, by Ollama's names."""
        return self.model_dump(exclude_none=True)


class ModelRoute(Model):
    """A name clients may use besides the installed ones, or instead of one."""

    model_config = rules(
        rule(
            "self.targets.size() == 0 || self.targets.exists(t, !has(t.weight) || t.weight > 0)",
            "every target has weight 0, so no request could go anywhere: give one a weight",
            ".targets",
        )
    )
    name: ModelName = Field(
        description="What clients write. It may be that of an installed model, which clients then "
        "reach only where it is among the targets."
    )
    targets: Annotated[
        list[RouteTarget],
        Field(
            min_length=1,
            max_length=16,
            json_schema_extra={
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["model"],
            },
        ),
    ] = Field(
        description="Installed models behind the name; each request goes to one, drawn by weight "
        "among those that a ready server has."
    )
    fallbacks: Annotated[list[LocalModelName], Field(max_length=8)] = Field(
        default=[], description="Taken in order when no target is to be had."
    )
    defaults: Defaults = Defaults()

    @property
    def models(self) -> list[str]:
        """Every model that may stand behind the name."""
        return [target.model for target in self.targets] + self.fallbacks


def fault(routes: Sequence[ModelRoute]) -> str | None:
    """What is wrong between names, in a sentence that begins with the field; None: nothing.

    What stands behind a name is an installed model, never another name: names cannot run in a
    circle. One that is listed both as a name and behind another is an installed model only where
    it stands for itself too.
    """
    names: dict[str, ModelRoute] = {}
    for index, route in enumerate(routes):
        earlier = names.setdefault(_key(route.name), route)
        if earlier is not route:
            return (
                f"models.{index}.name: {route.name!r} and {earlier.name!r} are one name: "
                "keep one of them"
            )
    made_up = {key: route for key, route in names.items() if key not in map(_key, route.models)}
    for index, route in enumerate(routes):
        for model in route.models:
            if (other := made_up.get(_key(model))) is not None:
                return (
                    f"models.{index}: {model!r} behind {route.name!r} is itself a name that "
                    f"stands for {other.targets[0].model!r}: write installed models"
                )
    return None


def _key(name: str) -> str:
    return canonical(name).lower()
