"""Which search index is used, and where it is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SearchSettings(BaseSettings):
    """Read once, at start; an address may hold a password and never appears in a repr."""

    model_config = SettingsConfigDict(extra="ignore", defer_build=True, populate_by_name=True)

    search_index: Literal["postgres", "opensearch"] = Field(
        default="postgres",
        validation_alias="SEARCH_INDEX",
        description="Where products' words are indexed: postgres (full text) or opensearch",
    )
    opensearch_url: SecretStr | None = Field(
        default=None,
        validation_alias="OPENSEARCH_URL",
        description="https://[user:password@]host:port of OpenSearch; needed where SEARCH_INDEX is opensearch",
    )
    opensearch_index: str = Field(
        default="imports-products",
        validation_alias="OPENSEARCH_INDEX",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,127}$",
        description="Name of the alias in OpenSearch; where it is missing, it is made with the index NAME-000001",
    )

    @model_validator(mode="after")
    def _has_an_address(self) -> SearchSettings:
        if self.search_index == "opensearch" and self.opensearch_url is None:
            raise ValueError("SEARCH_INDEX is opensearch, but OPENSEARCH_URL is not set")
        return self
