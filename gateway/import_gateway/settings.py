"""What the gateway's environment may set; everything else belongs to the custom resources."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from import_core.adapters.models.settings import EmbeddingSettings
from import_core.adapters.search.settings import SearchSettings
from import_core.adapters.settings import DatabaseSettings, FolderSettings, RedisSettings
from import_core.adapters.vectors.settings import VectorSettings
from import_gateway.admission.settings import AdmissionSettings


class GatewaySettings(
    EmbeddingSettings,
    VectorSettings,
    SearchSettings,
    AdmissionSettings,
    DatabaseSettings,
    RedisSettings,
    FolderSettings,
):
    """Read once, at start."""

    http_port: int = Field(
        default=8000,
        validation_alias="HTTP_PORT",
        ge=0,
        le=65535,
        description="Port of the HTTP API and the live page on the pod's address",
    )
    shared_address: str = Field(
        default="",
        validation_alias="SHARED_ADDRESS",
        description="Address on which all replicas serve API and webhook together, instead of each on its pod's "
        "own: where pods are processes of one machine, and nothing else leads to them",
    )
    watch_namespace: str = Field(
        default="",
        validation_alias="WATCH_NAMESPACE",
        description="Namespace whose imports are served; the pod's own by default",
    )
    tokens_file: str = Field(
        default="",
        validation_alias="TOKENS_FILE",
        description="Without Kubernetes: YAML file with the callers, hashes of their tokens and their rights; needed "
        "with PROVIDERS_PATH",
    )
    token_audience: str = Field(
        default="import-gateway",
        validation_alias="TOKEN_AUDIENCE",
        min_length=1,
        description="Audience that a caller's token must be made for: `kubectl create token NAME --audience=…`",
    )
    public_url: str = Field(
        default="",
        validation_alias="PUBLIC_URL",
        pattern=r"^(https?://[^/\s?#]+)?$",
        description="Address that browsers use, such as https://imports.example.com: writes with a cookie must "
        "come from there. Empty: from the address that the request names as its host",
    )
    calls_per_minute: float = Field(
        default=600.0,
        validation_alias="CALLS_PER_MINUTE",
        gt=0,
        description="Requests of one caller in a minute, on average, for each replica",
    )
    calls_burst: int = Field(
        default=100,
        validation_alias="CALLS_BURST",
        ge=1,
        description="Requests that one caller may send at once, for each replica",
    )
    request_seconds: float = Field(
        default=15.0,
        validation_alias="REQUEST_SECONDS",
        gt=0,
        description="Longest time for an answer; event streams are not meant",
    )
    listeners_limit: int = Field(
        default=2000,
        validation_alias="LISTENERS_LIMIT",
        ge=1,
        description="Event streams that a replica holds open at most",
    )
    caller_listeners_limit: int = Field(
        default=50,
        validation_alias="CALLER_LISTENERS_LIMIT",
        ge=1,
        description="Event streams that one caller holds open at most, in each replica",
    )
    heartbeat_seconds: float = Field(
        default=15.0,
        validation_alias="HEARTBEAT_SECONDS",
        gt=0,
        description="Silence on an event stream after which a comment is sent, so that nobody hangs up",
    )
    reread_seconds: float = Field(
        default=5.0,
        validation_alias="REREAD_SECONDS",
        gt=0,
        description="Seconds after which all that somebody follows is read again, for hints that were lost and "
        "places in the queue",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias="REDIS_URL",
        description="Redis that keeps sellers' links, and answers of searches for an hour: redis://… or, for TLS, "
        "rediss://…; without it and REDIS_HOST there are no links, and each search is done anew",
    )
    search_cache_entries: int = Field(
        default=4096,
        validation_alias="SEARCH_CACHE_ENTRIES",
        ge=0,
        le=1_000_000,
        description="Answers of searches that are kept at most, by all replicas together, of up to 12 kB each; 0: none",
    )
    search_seconds: float = Field(
        default=2.0,
        validation_alias="SEARCH_SECONDS",
        gt=0,
        description="Time that a search leaves each index for its answer; then it goes on without it",
    )
    drain_seconds: float = Field(
        default=5.0,
        validation_alias="DRAIN_SECONDS",
        ge=0,
        description="Seconds from SIGTERM, when the gateway calls itself unready, until it takes no more "
        "connections: so long may others still send some",
    )

    @model_validator(mode="after")
    def _check_callers(self) -> Self:
        if self.providers_path and not self.tokens_file:
            raise PydanticCustomError("tokens", "TOKENS_FILE: is missing, and no API server knows any caller")
        return self

    @property
    def is_standalone(self) -> bool:
        """Whether there is no Kubernetes."""
        return bool(self.providers_path)

    @property
    def address(self) -> str:
        """The address that API and webhook listen on."""
        return self.shared_address or self.pod_ip

    @property
    def namespace(self) -> str:
        """The namespace that is served."""
        return self.watch_namespace or self.pod_namespace
