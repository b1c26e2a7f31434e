"""A recursive-descent parser for GraphQL requests: operations, variables, aliases, fragments, directives."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from import_local.samples.shopify.syntax import (
    Directive,
    Document,
    EnumValue,
    Field,
    Fragment,
    FragmentSpread,
    GraphQLSyntaxError,
    InlineFragment,
    Location,
    Operation,
    Selection,
    VariableDefinition,
    VariableReference,
)

MAX_DEPTH = 50
TOKEN = re.compile(
    r"""(?P<skip>[\s,\ufeff]+|\#[^\n]*)
      | (?P<block>\"\"\"(?:\\\"\"\"|[^"]|"(?!""))*\"\"\")
      | (?P<string>"(?:\\.|[^"\\\n])*")
      | (?P<number>-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?![\w.])
      | (?P<name>[_A-Za-z]\w*)
      | (?P<mark>\.\.\.|[!$&()\[\]{}:=@|])""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word of the document; kind is a group of TOKEN or "end"."""

    kind: str
    text: str
    location: Location


def tokens_of(source: str) -> list[Token]:
    """Return the document's tokens with an "end" token; GraphQLSyntaxError at an unknown character."""
    tokens: list[Token] = []
    position, line, line_start = 0, 1, 0
    while position < len(source):
        match = TOKEN.match(source, position)
        location = Location(line, position - line_start + 1)
        if match is None:
            raise GraphQLSyntaxError(
                f"Unexpected character: {source[position]!r}", location.line, location.column
            )
        text = match[0]
        if match.lastgroup != "skip":
            tokens.append(Token(str(match.lastgroup), text, location))
        breaks = text.count("\n")
        if breaks:
            line += breaks
            line_start = position + text.rindex("\n") + 1
        position = match.end()
    tokens.append(Token("end", "", Location(line, position - line_start + 1)))
    return tokens


def parse(source: str) -> Document:
    """Return the parsed document; GraphQLSyntaxError says what was not understood and where."""
    return _Parser(tokens_of(source)).document()


def block_text(token: str) -> str:
    """Return the value of a `\"\"\"` string: common indentation and blank first and last lines removed."""
    lines = token[3:-3].replace('\\"""', '"""').splitlines()
    indents = [len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()]
    indent = min(indents, default=0)
    lines = lines[:1] + [line[indent:] for line in lines[1:]]
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join(lines)


class _Parser:
    """Holds the place in the token list; each method reads one rule of the grammar."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _fail(self, expected: str) -> GraphQLSyntaxError:
        token = self._token
        found = f"{token.text!r}" if token.text else "end of document"
        return GraphQLSyntaxError(
            f"Expected {expected}, actual: {found}", token.location.line, token.location.column
        )

    def _take(self, text: str) -> bool:
        if self._token.kind == "mark" and self._token.text == text:
            self._next += 1
            return True
        return False

    def _need(self, text: str) -> Token:
        token = self._token
        if not self._take(text):
            raise self._fail(text)
        return token

    def _name(self) -> str:
        token = self._token
        if token.kind != "name":
            raise self._fail("NAME")
        self._next += 1
        return token.text

    def document(self) -> Document:
        """Read the whole document."""
        operations: list[Operation] = []
        fragments: dict[str, Fragment] = {}
        while self._token.kind != "end":
            if self._token.text == "fragment":
                fragment = self._fragment()
                fragments[fragment.name] = fragment
            else:
                operations.append(self._operation())
        if not operations:
            raise self._fail("a query or mutation")
        return Document(tuple(operations), fragments)

    def _fragment(self) -> Fragment:
        self._next += 1
        name = self._name()
        if self._name() != "on":
            raise self._fail("on")
        return Fragment(name, self._name(), self._selections())

    def _operation(self) -> Operation:
        location = self._token.location
        if self._token.text == "{":
            return Operation("query", None, (), self._selections(), location)
        kind = self._token.text
        if kind not in {"query", "mutation"}:
            raise self._fail("one of QUERY, MUTATION, FRAGMENT, LCURLY")
        self._next += 1
        name = self._name() if self._token.kind == "name" else None
        variables: list[VariableDefinition] = []
        if self._take("("):
            while not self._take(")"):
                variables.append(self._variable())
        self._directives()
        return Operation(kind, name, tuple(variables), self._selections(), location)

    def _variable(self) -> VariableDefinition:
        self._need("$")
        name = self._name()
        self._need(":")
        type_name = self._type()
        has_default = self._take("=")
        return VariableDefinition(name, type_name, has_default, self._value() if has_default else None)

    def _type(self) -> str:
        if self._take("["):
            self._deeper()
            inner = self._type()
            self._depth -= 1
            self._need("]")
            text = f"[{inner}]"
        else:
            text = self._name()
        return text + ("!" if self._take("!") else "")

    def _directives(self) -> tuple[Directive, ...]:
        directives: list[Directive] = []
        while self._take("@"):
            directives.append(Directive(self._name(), self._arguments()))
        return tuple(directives)

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail(f"at most {MAX_DEPTH} levels")

    def _selections(self) -> tuple[Selection, ...]:
        self._deeper()
        self._need("{")
        selections: list[Selection] = []
        while not self._take("}"):
            selections.append(self._selection())
        if not selections:
            raise self._fail("at least one field")
        self._depth -= 1
        return tuple(selections)

    def _selection(self) -> Selection:
        location = self._token.location
        if not self._take("..."):
            return self._field(location)
        if self._token.kind == "name" and self._token.text != "on":
            return FragmentSpread(self._name(), self._directives(), location)
        type_name = None
        if self._token.text == "on":
            self._next += 1
            type_name = self._name()
        return InlineFragment(type_name, self._directives(), self._selections(), location)

    def _field(self, location: Location) -> Field:
        name, alias = self._name(), None
        if self._take(":"):
            name, alias = self._name(), name
        arguments = self._arguments()
        directives = self._directives()
        selections = self._selections() if self._token.text == "{" else None
        return Field(name, alias, arguments, directives, selections, location)

    def _arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {}
        if self._take("("):
            while not self._take(")"):
                name = self._name()
                self._need(":")
                arguments[name] = self._value()
        return arguments

    def _value(self) -> Any:
        self._deeper()
        value = self._bare_value()
        self._depth -= 1
        return value

    def _bare_value(self) -> Any:
        token = self._token
        if self._take("$"):
            return VariableReference(self._name())
        if self._take("["):
            items: list[Any] = []
            while not self._take("]"):
                items.append(self._value())
            return items
        if self._take("{"):
            entries: dict[str, Any] = {}
            while not self._take("}"):
                key = self._name()
                self._need(":")
                entries[key] = self._value()
            return entries
        if token.kind in {"mark", "end"}:
            raise self._fail("a value")
        self._next += 1
        return _scalar(token)


def _scalar(token: Token) -> Any:
    constants = {"true": True, "false": False, "null": None}
    match token.kind:
        case "name":
            return constants[token.text] if token.text in constants else EnumValue(token.text)
        case "block":
            return block_text(token.text)
        case "string":
            try:
                return json.loads(token.text, strict=False)
            except json.JSONDecodeError as error:
                raise GraphQLSyntaxError(
                    "Bad escape in string", token.location.line, token.location.column
                ) from error
        case _:
            return json.loads(token.text)
