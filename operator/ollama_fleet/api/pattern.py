"""The form of a text, checked by the API server and by the programs with the same words."""

import re
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True)
class Pattern:
    """A text's form (RE2), or with ``forbidden`` one it must not have.

    ``message`` says of such a text what it is and what to write instead.
    In the CRD it is a CEL rule: a schema's own ``pattern`` would answer with the expression.
    """

    regex: str
    message: str
    forbidden: bool = False

    def cel(self, value: str = "self") -> str:
        """CEL: whether ``value`` is as wanted."""
        return f"{'!' if self.forbidden else ''}{value}.matches(r'{self.regex}')"

    def check(self, value: str) -> str:
        """Give ``value`` back; raises ValueError where it is not as wanted."""
        if bool(re.search(self.regex, value)) is self.forbidden:
            raise ValueError(f"{value!r} is {self.message}")
        return value

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        made = handler(schema)
        made[VALIDATIONS] = [
            *made.get(VALIDATIONS, ()),
            {"rule": self.cel(), "message": self.message, "reason": "FieldValueInvalid"},
        ]
        return made
