"""The parts of a parsed GraphQL document, as the October 2021 specification names them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class GraphQLSyntaxError(ValueError):
    """The document is no GraphQL; line and column (from 1) say where."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the document, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class VariableReference:
    """`$name` where a value stands."""

    name: str


@dataclass(frozen=True, slots=True)
class EnumValue:
    """A bare name where a value stands."""

    name: str


@dataclass(frozen=True, slots=True)
class Directive:
    """`@include(if: $x)` and its kind."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field with its alias, arguments and selections (None: it has no braces)."""

    name: str
    alias: str | None
    arguments: dict[str, Any]
    directives: tuple[Directive, ...]
    selections: tuple[Selection, ...] | None
    location: Location

    @property
    def key(self) -> str:
        """The name under which the answer holds the field."""
        return self.alias or self.name


@dataclass(frozen=True, slots=True)
class InlineFragment:
    """`... on Type { … }`; without a type it holds for all."""

    type_name: str | None
    directives: tuple[Directive, ...]
    selections: tuple[Selection, ...]
    location: Location


@dataclass(frozen=True, slots=True)
class FragmentSpread:
    """`...Name`."""

    name: str
    directives: tuple[Directive, ...]
    location: Location


Selection = Field | InlineFragment | FragmentSpread


@dataclass(frozen=True, slots=True)
class VariableDefinition:
    """`$first: Int! = 10`; the type is kept as it is written."""

    name: str
    type_name: str
    has_default: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Operation:
    """A query or mutation."""

    kind: str
    name: str | None
    variables: tuple[VariableDefinition, ...]
    selections: tuple[Selection, ...]
    location: Location


@dataclass(frozen=True, slots=True)
class Fragment:
    """`fragment Name on Type { … }`."""

    name: str
    type_name: str
    selections: tuple[Selection, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """All operations and fragments of one request."""

    operations: tuple[Operation, ...]
    fragments: dict[str, Fragment]
