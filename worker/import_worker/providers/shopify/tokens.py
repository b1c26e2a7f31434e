"""Access tokens for Shopify: a static one, or one by the client-credentials grant that is renewed in time."""

from __future__ import annotations

import asyncio

from import_core.domain.errors import CredentialsError, ProviderUnavailableError
from import_worker.providers.base import Connection
from import_worker.providers.http import ApiClient, Call
from import_worker.providers.shopify.queries import TOKEN_PATH

RENEW_BEFORE = 300.0
"""Seconds before its end at which a token is renewed; a call and its retries fit in."""
SHORTEST_LIFE = 30.0


class AccessToken:
    """The token of one account (credentials keys `accessToken`, or `clientId` and `clientSecret`)."""

    def __init__(self, connection: Connection, api: ApiClient) -> None:
        self._token = connection.credential("accessToken")
        self._client_id = connection.credential("clientId")
        self._client_secret = connection.credential("clientSecret")
        self._api = api
        self._renew_at: float | None = None
        self._lock = asyncio.Lock()
        self.renewable = not self._token
        if self.renewable and not (self._client_id and self._client_secret):
            raise CredentialsError(
                "The provider's Secret needs the key accessToken, or clientId and clientSecret."
            )

    async def get(self) -> str:
        """A valid token; fetches one when there is none or it ends soon."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._token and (self._renew_at is None or now < self._renew_at):
                return self._token
            self._token = await self._grant(now)
            return self._token

    def drop(self, token: str) -> None:
        """Forget a token that Shopify refused, unless it has been renewed meanwhile."""
        if self.renewable and self._token == token:
            self._token = None

    async def _grant(self, now: float) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": self._client_id or "",
            "client_secret": self._client_secret or "",
        }
        answer = await self._api.send(Call("POST", TOKEN_PATH, form=form))
        payload = answer.payload if isinstance(answer.payload, dict) else {}
        if answer.status in {400, 401, 403}:
            words = self._api.quote(payload.get("error_description") or payload.get("error"))
            raise CredentialsError(
                f"{self._api.host} gave no access token (HTTP {answer.status}): check clientId and "
                f"clientSecret in the provider's Secret, and that the app is installed.{words}"
            )
        if answer.status != 200:
            raise self._api.refusal(answer, hint="check clientId and clientSecret.")
        token, seconds = payload.get("access_token"), payload.get("expires_in")
        if not isinstance(token, str) or not token:
            raise ProviderUnavailableError(f"{self._api.host} gave an access token that can't be read.")
        life = float(seconds) if isinstance(seconds, int | float) else 0.0
        self._renew_at = now + max(life - min(RENEW_BEFORE, life / 2), SHORTEST_LIFE) if life else None
        return token
