"""Where a process finds its database, queue, store and itself: read from the environment once, at start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from import_core.adapters.redis.address import DEFAULT_PORT, redis_address
from import_core.adapters.secret_files import SecretFilesSource
from import_core.domain.errors import InvalidInputError


class SecretFilesSettings(BaseSettings):
    """Settings that may also come from a folder of files, each named as its variable; the environment wins."""

    model_config = SettingsConfigDict(
        extra="ignore", defer_build=True, populate_by_name=True, env_ignore_empty=True
    )

    secrets_path: str = Field(
        default="",
        validation_alias="SECRETS_PATH",
        description="Folder of secret files (Docker secrets): a file named as a variable here, such as DATABASE_URL, "
        "stands for it where the environment has it not",
    )

    @field_validator("secrets_path")
    @classmethod
    def _check_folder(cls, value: str) -> str:
        return check_folder(value)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the files of SECRETS_PATH."""
        files = SecretFilesSource(settings_cls, os.environ.get("SECRETS_PATH", ""))
        return init_settings, env_settings, files


def check_folder(value: str) -> str:
    """A setting that names a folder; nothing is none. Raises ValueError where there is no such folder."""
    if value and not Path(value).is_dir():
        raise ValueError("there is no such folder")
    return value


class DatabaseSettings(SecretFilesSettings):
    """The database alone, which is all that a migration needs; secrets never appear in a repr."""

    database_url: SecretStr = Field(
        validation_alias="DATABASE_URL", description="postgresql://user:password@host:port/database"
    )
    database_direct_url: SecretStr | None = Field(
        default=None,
        validation_alias="DATABASE_DIRECT_URL",
        description="Address of the server itself where DATABASE_URL leads to a pooler (RDS Proxy, PgBouncer): for "
        "LISTEN, signs of life and migrations; the same as DATABASE_URL by default",
    )

    def direct_url(self) -> str:
        """The address for what belongs to a session; never through a pooler."""
        direct = self.database_direct_url.get_secret_value() if self.database_direct_url else ""
        return direct or self.database_url.get_secret_value()


class RedisSettings(SecretFilesSettings):
    """Redis by one address, or by host, port and password; secrets never appear in a repr."""

    redis_needed: ClassVar[bool] = False
    """Whether the process can't do without."""

    redis_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="REDIS_URL",
        description="redis://[:password@]host:port/0, rediss:// for TLS; required where REDIS_HOST is not set, and "
        "the only one of the four that counts where it is",
    )
    redis_host: str = Field(
        default="",
        validation_alias="REDIS_HOST",
        description="Host of Redis, without TLS; for those who don't set REDIS_URL, which wins",
    )
    redis_port: str = Field(
        default=DEFAULT_PORT, validation_alias="REDIS_PORT", description="Port of Redis, with REDIS_HOST"
    )
    redis_password: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="REDIS_PASSWORD",
        description="Password of Redis, with REDIS_HOST",
    )

    @model_validator(mode="after")
    def _find_redis(self) -> Self:
        url = self.redis_url.get_secret_value()
        if not (url or self.redis_host or self.redis_needed):
            return self
        try:
            address = redis_address(
                url=url,
                host=self.redis_host,
                port=self.redis_port,
                password=self.redis_password.get_secret_value(),
            )
        except InvalidInputError as error:
            raise PydanticCustomError("redis", "{problem}", {"problem": error.message}) from error
        self.redis_url = SecretStr(address)
        return self


class ConnectionSettings(DatabaseSettings, RedisSettings):
    """The outside systems that operator and workers can't do without."""

    redis_needed = True


class PodSettings(BaseSettings):
    """What the pod knows of itself, by fieldRef."""

    model_config = SettingsConfigDict(
        extra="ignore", defer_build=True, populate_by_name=True, env_ignore_empty=True
    )

    pod_name: str = Field(default="local", validation_alias="POD_NAME", description="Name of the pod")
    pod_uid: str = Field(
        default="",
        validation_alias="POD_UID",
        description="uid of the pod: ties a worker's claims to its end",
    )
    pod_namespace: str = Field(
        default="imports", validation_alias="POD_NAMESPACE", description="Namespace of the pod"
    )
    pod_ip: str = Field(
        default="127.0.0.1", validation_alias="POD_IP", description="Address that the health server binds to"
    )
    health_port: int = Field(
        default=8080,
        validation_alias="HEALTH_PORT",
        ge=0,
        le=65535,
        description="Port of /healthz, /readyz and /metrics on the pod's address",
    )
    log_level: str = Field(
        default="INFO",
        validation_alias="LOG_LEVEL",
        pattern=r"^(?i:debug|info|warning|error)$",
        description="Least severe level that is logged: DEBUG, INFO, WARNING or ERROR",
    )


class FolderSettings(SecretFilesSettings, PodSettings):
    """Where connections are where there is no Kubernetes."""

    providers_path: str = Field(
        default="",
        validation_alias="PROVIDERS_PATH",
        description="Without Kubernetes: folder of YAML files with ImportProviders (and ImportSchedules), read in the "
        "place of objects",
    )
    credentials_path: str = Field(
        default="",
        validation_alias="CREDENTIALS_PATH",
        description="Without Kubernetes, for workers: folder with the credentials of connections, in the place of "
        "Secrets: files NAME.KEY, or folders NAME with files KEY; SECRETS_PATH by default",
    )

    @property
    def credentials_folder(self) -> str:
        """Where credentials of connections are; empty: nowhere."""
        return self.credentials_path or self.secrets_path

    @field_validator("providers_path", "credentials_path")
    @classmethod
    def _check_providers(cls, value: str) -> str:
        return check_folder(value)

    def needed_providers_path(self) -> str:
        """The folder. Raises InvalidInputError where it is not set."""
        if not self.providers_path:
            raise InvalidInputError(
                "PROVIDERS_PATH", "must be set: a folder of YAML files, which may be empty"
            )
        return self.providers_path


def describe_problems(error: ValidationError) -> list[str]:
    """One line for each setting that is missing or wrong: its variable, and why; never its value."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    # What lies with several variables names them itself.
    return [
        "setting " + ": ".join([*filter(None, [".".join(map(str, problem["loc"]))]), problem["msg"]])
        for problem in problems
    ]


def shown_default(default: object) -> object:
    """A default as it may be shown."""
    return default.get_secret_value() if isinstance(default, SecretStr) else default


def describe_settings(settings: type[BaseSettings]) -> str:
    """The environment's variables with defaults and meaning, one a line, for --settings."""
    lines = []
    for field in settings.model_fields.values():
        default = "required" if field.is_required() else f"default {shown_default(field.default)!r}"
        lines.append(f"  {field.validation_alias:<24} {field.description or ''} ({default})")
    return "\n".join(lines)
