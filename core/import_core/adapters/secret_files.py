"""Secrets from a folder of files, as Docker and Kubernetes mount them: settings by variable, credentials by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from import_core.observability.redaction import hide_secret

LARGEST_FILE = 65_536
"""Bytes; a secret is smaller, and anything larger is another kind of file."""


class SecretFilesSource(PydanticBaseSettingsSource):
    """A file whose name is a setting's variable, in upper or lower case, holds its value; its line's end is no part."""

    def __init__(self, settings_cls: type[BaseSettings], folder: str) -> None:
        super().__init__(settings_cls)
        self._folder = Path(folder) if folder else None

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value in the file, or None; values are never JSON."""
        variable = str(field.validation_alias or field_name)
        value = self._read(variable)
        if value is not None and SecretStr in (field.annotation, *get_args(field.annotation)):
            hide_secret(value)
        return value, variable, False

    def __call__(self) -> dict[str, Any]:
        """All settings that there are files for."""
        found = {}
        for name, field in self.settings_cls.model_fields.items():
            value, variable, _ = self.get_field_value(field, name)
            if value is not None:
                found[variable] = value
        return found

    def _read(self, variable: str) -> str | None:
        if self._folder is None:
            return None
        for name in (variable, variable.lower()):
            path = self._folder / name
            text = read_secret_file(path)
            if text is not None:
                return text
            if path.exists():
                raise ValidationError.from_exception_data("settings", [_unreadable(variable, path)])
        return None


def _unreadable(variable: str, path: Path) -> InitErrorDetails:
    problem = PydanticCustomError("secret_file", "{path} can't be read, or is no text", {"path": str(path)})
    return InitErrorDetails(type=problem, loc=(variable,), input=None)


def read_secret_file(path: Path) -> str | None:
    """A secret's text without the end of its last line; None where there is no such file, or none of text."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        return content.decode().rstrip("\r\n") if len(content) <= LARGEST_FILE else None
    except (OSError, UnicodeDecodeError):
        return None


def read_credentials(folder: Path, name: str) -> dict[str, str] | None:
    """The values of the secret `name`, by key; None where there is none.

    They are in files `NAME.KEY` (Docker secrets, which know no folders), or in a folder `NAME` with a file for each
    key, as Kubernetes mounts a Secret.
    """
    found = {}
    for key, path in _files_of(folder, name):
        text = read_secret_file(path)
        if text is not None:
            found[key] = text
    return found or None


def _files_of(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    prefix = f"{name}."
    try:
        for path in folder.iterdir():
            key = path.name.removeprefix(prefix)
            if path.name.startswith(prefix) and key and "." not in key:
                yield key, path
        inner = folder / name
        if inner.is_dir():
            for path in inner.iterdir():
                if not path.name.startswith("."):
                    yield path.name, path
    except OSError:
        return
