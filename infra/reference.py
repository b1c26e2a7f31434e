"""The reference page of the infrastructure, read off the configuration's models and the components' sources.

Sources are parsed, not imported: importing every component would load the cloud's whole SDK.
"""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from infra.configuration import PROJECT, Configuration, Section

_FOLDER = Path(__file__).parent
_SDKS = ("aws", "kubernetes", "random")
_BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}


@dataclass(frozen=True)
class Described:
    """A component as its source says it."""

    name: str
    module: str
    summary: str
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]
    resources: tuple[str, ...]


def configuration_tables() -> str:
    """Every key of Pulumi.<stack>.yaml with default, bounds and meaning."""
    plain = {
        name: field
        for name, field in Configuration.model_fields.items()
        if _section(field.annotation) is None
    }
    parts = [_table("| key | default, bounds | meaning |", _rows(plain, f"{PROJECT}:"))]
    for name, field in Configuration.model_fields.items():
        section = _section(field.annotation)
        if section is not None:
            parts.append(f"### {name}")
            parts.append((section.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " "))
            parts.append(_table("| key | default, bounds | meaning |", _rows(section.model_fields)))
    return "\n\n".join(parts)


def component_sections() -> str:
    """Every component: what it is, its outputs, the resources that it may make."""
    parts = []
    for component in components():
        parts.append(f"### {component.name}")
        parts.append(f"`infra/{component.module}.py`. {component.summary}")
        parts.append(f"Inputs: {', '.join(component.inputs)}.")
        if component.outputs:
            rows = [f"| `{name}` | {_cell(meaning)} |" for name, meaning in component.outputs]
            parts.append(_table("| output | meaning |", rows))
        parts.append(
            "Resources: "
            + (", ".join(f"`{each}`" for each in component.resources) or "none of its own")
            + "."
        )
    return "\n\n".join(parts)


def export_list() -> str:
    """What `pulumi stack output` shows."""
    tree = ast.parse((_FOLDER.parent / "__main__.py").read_text(encoding="utf-8"))
    names = [
        str(call.args[0].value)
        for call in _calls(tree)
        if ast.unparse(call.func) == "pulumi.export" and isinstance(call.args[0], ast.Constant)
    ]
    return ", ".join(f"`{name}`" for name in names)


def components() -> list[Described]:
    """All components, in the order of their files' names."""
    return [each for path in sorted(_FOLDER.glob("*.py")) for each in _components_of(path)]


def _components_of(path: Path) -> Iterator[Described]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Component" for base in node.bases):
            yield Described(
                name=node.name,
                module=path.stem,
                summary=" ".join((ast.get_docstring(node) or "").split()),
                inputs=tuple(_inputs(tree, f"{node.name}Args")),
                outputs=tuple(_outputs(node)),
                resources=tuple(sorted({*_resources(tree), *_borrowed_resources(tree)})),
            )


def _inputs(tree: ast.Module, name: str) -> Iterator[str]:
    """Fields of the component's `…Args`, with defaults where they have one."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    optional = " (optional)" if item.value is not None else ""
                    yield f"`{item.target.id}`{optional}"


def _outputs(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Annotated attributes with the text below them."""
    for item, below in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(item, ast.AnnAssign)
            and isinstance(item.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield item.target.id, " ".join(str(below.value.value).split())


def _resources(tree: ast.AST) -> Iterator[str]:
    """`aws.ec2.Vpc(…)` → `aws.ec2.Vpc`; inputs' classes and data sources are no resources."""
    for call in _calls(tree):
        name = ast.unparse(call.func)
        last = name.rsplit(".", 1)[-1]
        if name.split(".", 1)[0] in _SDKS and last[:1].isupper() and not last.endswith("Args"):
            yield name


def _borrowed_resources(tree: ast.Module) -> Iterator[str]:
    """Resources of the functions of other modules that the component calls, `make_password`."""
    for node in tree.body:
        if not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("infra.")):
            continue
        path = _FOLDER / f"{(node.module or '').removeprefix('infra.')}.py"
        if not path.exists():
            continue
        wanted = {alias.name for alias in node.names}
        for item in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(item, ast.FunctionDef) and item.name in wanted:
                yield from _resources(item)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _section(annotation: Any) -> type[Section] | None:
    """The section that a field is, also where it may be absent."""
    candidates = typing.get_args(annotation) if _is_union(annotation) else (annotation,)
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None


def _rows(fields: dict[str, FieldInfo], prefix: str = "") -> Iterator[str]:
    for name, field in fields.items():
        section = _section(field.annotation)
        if section is not None:
            yield f"| `{prefix}{name}` | {_default(field)} | {_cell(field.description or '')} |"
            yield from _rows(section.model_fields, f"{prefix}{name}.")
            continue
        allowed = ", ".join([_default(field), *_allowed(field.annotation), *_bounds(field.metadata)])
        yield f"| `{prefix}{name}` | {allowed} | {_cell(field.description or '')} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`" if value else "empty"
    return "empty" if value in (None, "", {}) else f"`{value}`"


def _allowed(annotation: Any) -> Iterator[str]:
    for member in typing.get_args(annotation) if _is_union(annotation) else (annotation,):
        if typing.get_origin(member) is Literal:
            yield "one of " + ", ".join(f"`{value}`" for value in typing.get_args(member))
        elif member is SecretStr:
            yield "secret"


def _bounds(metadata: Iterable[Any]) -> Iterator[str]:
    for item in metadata:
        for attribute, words in _BOUNDS.items():
            if (value := getattr(item, attribute, None)) is not None:
                yield words.format(value)
        if (pattern := getattr(item, "pattern", None)) is not None:
            yield f"matches `{_cell(str(pattern))}`"


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (Union, types.UnionType)


def _table(header: str, rows: Iterable[str]) -> str:
    return "\n".join([header, "|" + " --- |" * (header.count("|") - 1), *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
