"""JMESPath expressions from users: compiled once, checked as far as possible, bounded in what they build."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, Protocol

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

MAX_LENGTH = 1024
"""Characters of an expression."""
MAX_GROWTH = 64
"""An expression may build at most so many times its input; `[@,@]|[@,@]|…` would fill any memory."""
TO_STRING_GROWTH = 12
"""One character becomes at most so many when it is escaped as JSON (two surrogates of six each)."""

# What jmespath lets through from Python beside its own errors, for odd values (order of a text and a
# number, too deep a document, a number without bounds).
_EVALUATION_ERRORS = (
    JMESPathError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

Node = Mapping[str, Any]


class Expression(Protocol):
    """A compiled expression."""

    def search(self, value: Any) -> Any:
        """Evaluate on a JSON value."""


@dataclass(frozen=True, slots=True)
class PathExpression:
    """An expression that only goes down by names and indices, which nearly all are: no tree has to be walked."""

    steps: tuple[str | int, ...]

    def search(self, value: Any) -> Any:
        """What jmespath gives for the same path."""
        for step in self.steps:
            if isinstance(step, str):
                try:
                    value = value.get(step)
                except AttributeError:
                    return None
            else:
                try:
                    value = value[step] if isinstance(value, list) else None
                except IndexError:
                    return None
        return value


class ExpressionError(ValueError):
    """An expression can't be used, or fails on a document; the text says why."""


@lru_cache(maxsize=1024)
def compile_expression(text: str) -> Expression:
    """Compile and check; raises ExpressionError for bad syntax, functions, arity, or unbounded growth."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"is longer than {MAX_LENGTH} characters")
    try:
        compiled = jmespath.compile(text)
        factor, constant = _growth(compiled.parsed)
    except ExpressionError:
        raise
    except RecursionError as error:
        raise ExpressionError("is nested too deeply") from error
    except (JMESPathError, ValueError) as error:
        # The first line says what and where; the others draw the expression again.
        raise ExpressionError(f"is no valid JMESPath expression: {_first_line(error)}") from error
    if factor > MAX_GROWTH or constant > MAX_LENGTH * MAX_GROWTH:
        raise ExpressionError(f"could build more than {MAX_GROWTH} times the product's own size")
    path = _path(compiled.parsed)
    return compiled if path is None else PathExpression(path)


def _path(node: Node) -> tuple[str | int, ...] | None:
    """The names and indices of an expression that is nothing else; None for any other."""
    kind, children = node["type"], node["children"]
    if kind in {"field", "index"}:
        return (node["value"],)
    if kind not in {"subexpression", "index_expression"}:
        return None
    steps: tuple[str | int, ...] = ()
    for child in children:
        below = _path(child)
        if below is None:
            return None
        steps += below
    return steps


def evaluate(expression: Expression, document: Mapping[str, Any]) -> Any:
    """The expression's value; raises ExpressionError whatever goes wrong."""
    try:
        return expression.search(document)
    except _EVALUATION_ERRORS as error:
        raise ExpressionError(f"its expression fails on this product ({type(error).__name__})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _growth(node: Node) -> tuple[int, int]:
    """Bound of a node's value as (a, b): its size is at most a × the input's size + b.

    Nothing counts as shrinking, so the bound holds for every value on the way, too.
    """
    kind, children = node["type"], node["children"]
    if kind == "literal":
        value = node["value"]
        return 0, len(json.dumps(value)) if isinstance(value, list | dict) else 1
    if kind == "function_expression":
        return _function_growth(node)
    parts = [] if kind == "slice" else [_growth(child) for child in children]
    if kind in {"subexpression", "pipe", "index_expression"}:
        return reduce(_then, parts)
    if kind in {"projection", "value_projection", "filter_projection"}:
        (left_factor, left_constant), *rest = parts
        each = max(1, sum(factor + constant for factor, constant in rest))
        return left_factor * each, left_constant * each
    return (
        (sum(factor for factor, _ in parts), sum(constant + 1 for _, constant in parts)) if parts else (1, 0)
    )


def _then(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    return second[0] * first[0], second[0] * first[1] + second[1]


def _function_growth(node: Node) -> tuple[int, int]:
    name, arguments = node["value"], node["children"]
    _check_call(name, arguments)
    parts = [_growth(argument) for argument in arguments]
    if name == "map":
        (each_factor, each_constant), (factor, constant) = parts
        each = max(1, each_factor + each_constant)
        return each * factor, each * constant
    total = sum(factor for factor, _ in parts), sum(constant for _, constant in parts)
    if name == "to_string":
        return total[0] * TO_STRING_GROWTH, total[1] * TO_STRING_GROWTH
    if name == "join":
        # A long glue between many parts multiplies two things that the provider chooses.
        if arguments[0]["type"] != "literal":
            raise ExpressionError("uses join() with a separator that is not a literal")
        scale = 1 + len(str(arguments[0]["value"]))
        return total[0] * scale, total[1] * scale
    return total


def _check_call(name: str, arguments: Sequence[Node]) -> None:
    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise ExpressionError(f"uses an unknown function: {name}()")
    signature = known["signature"]
    variadic = bool(signature) and signature[-1].get("variadic", False)
    if len(arguments) < len(signature) or (len(arguments) > len(signature) and not variadic):
        raise ExpressionError(f"calls {name}() with {len(arguments)} arguments; it takes {len(signature)}")
    for position, (argument, parameter) in enumerate(zip(arguments, signature, strict=False), start=1):
        if (argument["type"] == "expref") != ("expref" in parameter["types"]):
            raise ExpressionError(
                f"calls {name}() with a wrong argument {position}: only map and the …_by "
                "functions take an expression (&name), and they need one"
            )
