"""Checks a parsed request against the schema and makes a plan of it: arguments filled in, fragments opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from import_local.samples.shopify.schema import ENUMS, SCALARS, TYPES, FieldType
from import_local.samples.shopify.syntax import (
    Directive,
    Document,
    EnumValue,
    Field,
    FragmentSpread,
    Location,
    Operation,
    Selection,
    VariableDefinition,
    VariableReference,
)

Error = dict[str, Any]
MAX_FIRST = 250


@dataclass(frozen=True, slots=True)
class PlannedField:
    """One field to answer: its key in the answer, its arguments, and `only`, the types it is asked of."""

    key: str
    name: str
    parent: str
    returns: FieldType
    arguments: dict[str, Any]
    children: tuple[PlannedField, ...]
    only: frozenset[str] | None
    location: Location


@dataclass(slots=True)
class Plan:
    """The checked request; with errors, it must not be executed."""

    kind: str
    fields: tuple[PlannedField, ...] = ()
    errors: list[Error] = field(default_factory=list)


def error_at(message: str, location: Location, path: list[str], code: str, **extensions: Any) -> Error:
    """Return an error in the form of Shopify's GraphQL server."""
    return {
        "message": message,
        "locations": [{"line": location.line, "column": location.column}],
        "path": path,
        "extensions": {"code": code, **extensions},
    }


def plan_request(
    document: Document, operation_name: str | None, variables: dict[str, Any], *, bulk: bool = False
) -> Plan:
    """Return the plan of the named (or only) operation; `bulk` lets connections go without `first`."""
    chosen = [item for item in document.operations if operation_name in {None, item.name}]
    if len(chosen) != 1:
        message = "An operation name is required" if len(chosen) > 1 else "No operation has this name"
        return Plan("query", errors=[{"message": message}])
    planner = _Planner(document, chosen[0], variables, bulk)
    return planner.plan()


class _Planner:
    def __init__(
        self, document: Document, operation: Operation, variables: dict[str, Any], bulk: bool
    ) -> None:
        self._document = document
        self._operation = operation
        self._bulk = bulk
        self._used: set[str] = set()
        self._errors: list[Error] = []
        self._values = self._variable_values(variables)
        self._open: list[str] = []

    def plan(self) -> Plan:
        operation = self._operation
        root = "Mutation" if operation.kind == "mutation" else "QueryRoot"
        label = " ".join(part for part in (operation.kind, operation.name) if part)
        fields = self._selections(operation.selections, root, [label], None)
        for definition in operation.variables:
            if definition.name not in self._used:
                self._errors.append(
                    error_at(
                        f"Variable ${definition.name} is declared by {operation.name or 'anonymous query'} "
                        "but not used",
                        operation.location,
                        [label],
                        "variableNotUsed",
                        variableName=definition.name,
                    )
                )
        return Plan(operation.kind, fields, self._errors)

    def _variable_values(self, given: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for definition in self._operation.variables:
            if definition.name in given:
                values[definition.name] = given[definition.name]
            elif definition.has_default:
                values[definition.name] = _constant(definition.default)
            problem = _variable_problem(definition, values.get(definition.name))
            if problem:
                location = self._operation.location
                self._errors.append(
                    {
                        "message": f"Variable ${definition.name} of type {definition.type_name} "
                        "was provided invalid value",
                        "locations": [{"line": location.line, "column": location.column}],
                        "extensions": {
                            "value": values.get(definition.name),
                            "problems": [{"path": [], "explanation": problem}],
                        },
                    }
                )
        return values

    def _selections(
        self, selections: tuple[Selection, ...], type_name: str, path: list[str], only: frozenset[str] | None
    ) -> tuple[PlannedField, ...]:
        planned: list[PlannedField] = []
        for selection in selections:
            if not self._wanted(selection.directives):
                continue
            if isinstance(selection, Field):
                one = self._field(selection, type_name, path, only)
                planned.extend([one] if one else [])
                continue
            if isinstance(selection, FragmentSpread):
                planned.extend(self._spread(selection, type_name, path, only))
                continue
            inner = selection.type_name or type_name
            planned.extend(
                self._fragment(selection.selections, inner, type_name, path, only, selection.location)
            )
        return tuple(planned)

    def _spread(
        self, spread: FragmentSpread, type_name: str, path: list[str], only: frozenset[str] | None
    ) -> tuple[PlannedField, ...]:
        fragment = self._document.fragments.get(spread.name)
        if fragment is None or spread.name in self._open:
            reason = "was used, but not defined" if fragment is None else "contains an infinite loop"
            message = f"Fragment {spread.name} {reason}"
            self._errors.append(error_at(message, spread.location, path, "useAndDefineFragment"))
            return ()
        self._open.append(spread.name)
        fields = self._fragment(
            fragment.selections, fragment.type_name, type_name, path, only, spread.location
        )
        self._open.pop()
        return fields

    def _fragment(  # noqa: PLR0917 – where the fragment stands
        self,
        selections: tuple[Selection, ...],
        inner: str,
        outer: str,
        path: list[str],
        only: frozenset[str] | None,
        location: Location,
    ) -> tuple[PlannedField, ...]:
        if inner not in TYPES:
            message = f"No such type {inner}, so it can't be a fragment condition"
            self._errors.append(error_at(message, location, path, "undefinedType", typeName=inner))
            return ()
        inner_kinds = frozenset(TYPES[inner].kinds or (inner,))
        outer_kinds = frozenset(TYPES[outer].kinds or (outer,))
        if not inner_kinds & outer_kinds:
            message = f"Fragment on {inner} can't be spread inside {outer}"
            self._errors.append(error_at(message, location, path, "cannotSpreadFragment", typeName=inner))
            return ()
        narrowed = inner_kinds if only is None else inner_kinds & only
        condition = only if outer == inner else narrowed
        return self._selections(selections, inner, [*path, f"... on {inner}"], condition)

    def _field(
        self, selection: Field, type_name: str, path: list[str], only: frozenset[str] | None
    ) -> PlannedField | None:
        path = [*path, selection.key]
        if selection.name == "__typename":
            scalar = FieldType("String")
            return PlannedField(
                selection.key, "__typename", type_name, scalar, {}, (), only, selection.location
            )
        returns = TYPES[type_name].fields.get(selection.name)
        if returns is None:
            message = f"Field '{selection.name}' doesn't exist on type '{type_name}'"
            names = {"typeName": type_name, "fieldName": selection.name}
            self._errors.append(error_at(message, selection.location, path, "undefinedField", **names))
            return None
        if not self._leaf_matches(selection, returns, path):
            return None
        arguments = self._arguments(selection, returns, path)
        children: tuple[PlannedField, ...] = ()
        if selection.selections is not None:
            children = self._selections(selection.selections, returns.type_name, path, None)
        return PlannedField(
            selection.key, selection.name, type_name, returns, arguments, children, only, selection.location
        )

    def _leaf_matches(self, selection: Field, returns: FieldType, path: list[str]) -> bool:
        leaf = returns.type_name in SCALARS
        if leaf == (selection.selections is None):
            return True
        if leaf:
            message = (
                f"Selections can't be made on scalars (field '{selection.name}' "
                f"returns {returns.type_name} but has selections)"
            )
        else:
            message = (
                f"Field must have selections (field '{selection.name}' returns {returns.type_name} but has "
                f"no selections. Did you mean '{selection.name} {{ ... }}'?)"
            )
        self._errors.append(error_at(message, selection.location, path, "selectionMismatch"))
        return False

    def _arguments(self, selection: Field, returns: FieldType, path: list[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        known_errors = len(self._errors)
        for name, raw in selection.arguments.items():
            if name not in returns.arguments:
                message = f"Field '{selection.name}' doesn't accept argument '{name}'"
                details = {"name": selection.name, "argumentName": name}
                self._errors.append(
                    error_at(message, selection.location, path, "argumentNotAccepted", **details)
                )
                continue
            value = self._value(raw, selection.location, path)
            if value is None:
                continue
            problem = _argument_problem(returns.arguments[name], value, literal=not _has_variable(raw))
            if problem:
                message = f"Argument '{name}' on Field '{selection.name}' has an invalid value. {problem}"
                self._errors.append(
                    error_at(message, selection.location, path, "argumentLiteralsIncompatible")
                )
                continue
            values[name] = value.name if isinstance(value, EnumValue) else value
        missing = [name for name in returns.required if name not in values]
        if missing:
            message = f"Field '{selection.name}' is missing required arguments: {', '.join(missing)}"
            self._errors.append(error_at(message, selection.location, path, "missingRequiredArguments"))
        if returns.connection and len(self._errors) == known_errors:
            self._check_page(selection, values, path)
        return values

    def _check_page(self, selection: Field, values: dict[str, Any], path: list[str]) -> None:
        sizes = [values[name] for name in ("first", "last") if isinstance(values.get(name), int)]
        if not sizes and not self._bulk:
            message = "you must provide one of first or last"
            self._errors.append(error_at(message, selection.location, path, "BAD_REQUEST"))
        elif len(sizes) > 1:
            message = "providing both first and last is not supported"
            self._errors.append(error_at(message, selection.location, path, "BAD_REQUEST"))
        elif sizes and not 0 < sizes[0] <= MAX_FIRST:
            message = f"first and last must be between 1 and {MAX_FIRST}, given {sizes[0]}"
            self._errors.append(error_at(message, selection.location, path, "BAD_REQUEST"))

    def _wanted(self, directives: tuple[Directive, ...]) -> bool:
        for directive in directives:
            location = self._operation.location
            value = self._value(directive.arguments.get("if"), location, [])
            if directive.name == "skip" and value is True:
                return False
            if directive.name == "include" and value is not True:
                return False
        return True

    def _value(self, raw: Any, location: Location, path: list[str]) -> Any:
        if isinstance(raw, VariableReference):
            self._used.add(raw.name)
            if raw.name not in {definition.name for definition in self._operation.variables}:
                name = self._operation.name or "anonymous query"
                message = f"Variable ${raw.name} is used by {name} but not declared"
                self._errors.append(
                    error_at(message, location, path, "variableNotDefined", variableName=raw.name)
                )
            return self._values.get(raw.name)
        if isinstance(raw, list):
            return [self._value(item, location, path) for item in raw]
        if isinstance(raw, dict):
            return {key: self._value(item, location, path) for key, item in raw.items()}
        return raw


def _constant(value: Any) -> Any:
    return value.name if isinstance(value, EnumValue) else value


def _has_variable(raw: Any) -> bool:
    if isinstance(raw, list):
        return any(_has_variable(item) for item in raw)
    return isinstance(raw, VariableReference)


def _argument_problem(kind: str, value: Any, *, literal: bool) -> str | None:
    """Return why `value` is no `kind`, or None; enum values are bare names as literals, strings in variables."""
    if kind in ENUMS:
        name = value.name if isinstance(value, EnumValue) else None if literal else value
        return None if name in ENUMS[kind] else f"Expected type '{kind}'."
    if kind.startswith("["):
        items = value if isinstance(value, list) else [value]
        problems = (_argument_problem(kind[1:-1].rstrip("!"), item, literal=literal) for item in items)
        return next((problem for problem in problems if problem), None)
    matches = {
        "Int": isinstance(value, int) and not isinstance(value, bool),
        "Boolean": isinstance(value, bool),
        "String": isinstance(value, str),
        "ID": isinstance(value, (str, int)) and not isinstance(value, bool),
    }
    return None if matches[kind] else f"Expected type '{kind}'."


def _variable_problem(definition: VariableDefinition, value: Any) -> str | None:
    kind = definition.type_name
    if value is None:
        return "Expected value to not be null" if kind.endswith("!") else None
    bare = kind.rstrip("!")
    if bare.startswith("["):
        return None if isinstance(value, list) else "Expected value to be a list"
    if bare in ENUMS:
        return None if value in ENUMS[bare] else f"Expected {value!r} to be one of: {', '.join(ENUMS[bare])}"
    if bare not in {"Int", "Boolean", "String", "ID"}:
        return f"{bare} isn't a defined input type"
    problem = _argument_problem(bare, value, literal=False)
    return f"Could not coerce value {value!r} to {bare}" if problem else None
