"""What all custom resources share: the models' base, rules that also become CEL, bounded types, parsing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from import_core.domain.errors import InvalidResourceError

GROUP = "imports.avnz.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "imports"

REPORTED_PROBLEMS = 5
"""At most so many wrong fields are named in one error."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields, written twice: as CEL for the API server and as a check for us.

    `field` is the path below the model that the rule blames. A rule without a check compares with the
    old object, which only the API server knows.
    """

    field: str
    cel: str
    message: str
    check: Callable[[Any], bool] | None = None

    def to_json(self) -> dict[str, str]:
        """The rule as an entry of x-kubernetes-validations."""
        return {"rule": self.cel, "message": self.message, "fieldPath": f".{self.field}"}


class ResourceModel(BaseModel):
    """Base of every model: camelCase, strict as the API server is, immutable, unknown fields dropped."""

    # Most processes start without ever reading most of these, so a model is built when it is first used.
    model_config = ConfigDict(
        defer_build=True,
        alias_generator=to_camel,
        populate_by_name=True,
        strict=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the rules to the JSON schema, as the API server reads them."""
        schema = handler(core_schema)
        if cls.rules:
            handler.resolve_ref_schema(schema)["x-kubernetes-validations"] = [
                rule.to_json() for rule in cls.rules
            ]
        return schema

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        # The API server prunes nulls of fields that are not nullable, and no field of ours is.
        if isinstance(data, Mapping):
            return {key: value for key, value in data.items() if value is not None}
        return data

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            if rule.check is not None and not rule.check(self):
                context = {"message": rule.message, "field": rule.field}
                raise PydanticCustomError("rule", "{message}", context)
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values under the names of the API, absent fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


AnyModel = TypeVar("AnyModel", bound=BaseModel)


def immutable(field: str) -> Rule:
    """Refuse any change of a field; only the API server knows the old value."""
    return Rule(field=field, cel=f"self.{field} == oldSelf.{field}", message=f"{field} is immutable")


# RFC 3339 with a zone; years 1000-2999, so that every reader of it agrees.
_TIMESTAMP = re.compile(
    r"[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?"
    r"(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
)


def _parse_timestamp(value: object) -> object:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        raise ValueError("must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z")
    return datetime.fromisoformat(value)


def format_timestamp(value: datetime) -> str:
    """RFC 3339 as Kubernetes writes it; fractions of a second only where there are any."""
    if value.tzinfo is None:
        raise ValueError("a timestamp needs a time zone")
    return value.isoformat().replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    BeforeValidator(_parse_timestamp),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema(
        {"type": "string", "format": "date-time", "pattern": f"^{_TIMESTAMP.pattern}$", "maxLength": 64}
    ),
]

_QUANTITY = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?([KMGTPE]i|[numkMGTPE]|[eE][0-9]{1,2})?")


def _parse_quantity(value: object) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15:
        return value
    if isinstance(value, str) and _QUANTITY.fullmatch(value):
        return value
    raise ValueError('must be a quantity such as 2, "500m" or 4Gi')


Quantity = Annotated[
    int | str,
    BeforeValidator(_parse_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            "pattern": f"^{_QUANTITY.pattern}$",
            "minimum": 0,
            "maximum": 10**15 - 1,
            "maxLength": 32,
        }
    ),
]

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
"""Name of a Kubernetes object (RFC 1123 subdomain)."""

CompanyId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Id of a company; it becomes part of object keys, so it holds no slash."""

MAX_MESSAGE_LENGTH = 1024
"""Characters of a message in a status."""
Message = Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)]
ConditionStatus = Literal["True", "False", "Unknown"]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Generation = Annotated[int, Field(ge=0, le=2**53)]


def _unique_types(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    if len({condition.type for condition in conditions}) < len(conditions):
        raise ValueError("holds a condition type twice")
    return conditions


class Condition(ResourceModel):
    """One standard condition (metav1.Condition)."""

    type: Annotated[str, Field(min_length=1, max_length=316, pattern=r"^[A-Za-z]([A-Za-z0-9]*[A-Za-z0-9])?$")]
    """What the condition is about, in CamelCase."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[
        str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ]
    """One word in CamelCase that says why, for programs."""
    message: Message = ""
    """One sentence that says why, for people."""
    last_transition_time: Timestamp
    """When the status last changed."""
    observed_generation: Generation | None = None
    """Generation of the object that the condition is about."""


Conditions = Annotated[
    tuple[Condition, ...],
    Field(
        strict=False,
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
    AfterValidator(_unique_types),
]


class NameReference(ResourceModel):
    """Names an object in the same namespace."""

    name: Name
    """Name of the object, in the same namespace."""


class ObjectMeta(ResourceModel):
    """The part of an object's metadata that we read."""

    name: str
    namespace: str = "default"
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    creation_timestamp: Timestamp | None = None
    deletion_timestamp: Timestamp | None = None


@dataclass(frozen=True, slots=True)
class PrinterColumn:
    """A column of `kubectl get`; a priority above 0 shows it with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ResourceDefinition:
    """What a CustomResourceDefinition says beside its schema."""

    kind: str
    plural: str
    singular: str
    short_name: str
    model: type[ResourceModel]
    columns: tuple[PrinterColumn, ...]
    selectable_fields: tuple[str, ...] = ()
    scalable: bool = False


def _path(parts: Sequence[str | int]) -> str:
    joined = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return joined.removeprefix(".")


def parse(model: type[AnyModel], value: object, *, at: str = "") -> AnyModel:
    """Read JSON values as `model`; raise InvalidResourceError naming the field, never repeating its value.

    `at` is the path of `value` in its object, for the message: "spec".
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_url=False, include_input=False):
            blamed = str(item.get("ctx", {}).get("field", "")) if item["type"] == "rule" else ""
            location = [*([at] if at else []), *item["loc"], *([blamed] if blamed else [])]
            problems.append((_path(location) or "object", item["msg"].removeprefix("Value error, ")))
    (field, reason), *others = problems[:REPORTED_PROBLEMS]
    reasons = [reason, *(f"{other}: {why}" for other, why in others)]
    raise InvalidResourceError(field, "; ".join(reasons))
