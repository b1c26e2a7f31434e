"""The part of the small gateway that is about dead letters; every body goes through the real models."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from import_core.domain.dead_letters import DeadStep, advice_for, item_id, letter_id
from import_core.domain.steps import StepKind
from import_gateway.api.dead_letter_models import (
    DeadLetterDetail,
    DeadLetterPage,
    DeadLetterReasons,
    DeadLettersChanged,
    DeadLettersRequest,
)
from import_gateway.api.models import ApiModel

if TYPE_CHECKING:
    from stand_in import StandIn

Json = dict[str, Any]
PAGE = 50
AT_ONCE = 40
GOING_ON = "1767312000000000.import.6a"
CHOICES = {
    "companyId": "companyId",
    "job": "jobId",
    "step": "step",
    "reason": "reason",
    "product": "productId",
}


def dead_letter(
    product_id: str, reason: str = "Timeout", *, step: str = "generate-embedding", **values: Any
) -> Json:
    """A dead letter with all that is known of it."""
    return {
        "id": letter_id(product_id, StepKind(step)),
        "productId": product_id,
        "externalId": f"gid-{product_id}",
        "importSource": "shopify",
        "title": f"Tea {product_id}",
        "companyId": "acme",
        "jobId": "job-1",
        "step": step,
        "reason": reason,
        "message": "no answer",
        "attempts": 4,
        "retryable": True,
        "recordedAt": "2026-01-01T00:00:00Z",
        "diedAt": "2026-01-02T00:00:00Z",
        "field": "installation",
        "fix": "Mend it.",
        "product": {
            "title": f"Tea {product_id}",
            "price": "19.90",
            "currency": "EUR",
            "vendor": None,
            "productType": None,
            "status": "ACTIVE",
            "images": 3,
        },
        "steps": [
            {
                "step": step,
                "state": "Dead",
                "attempts": 4,
                "reason": reason,
                "message": "no answer",
                "changedAt": "2026-01-02T00:00:00Z",
            }
        ],
        **values,
    }


def failed_item(external_id: str, reason: str = "InvalidField", **values: Any) -> Json:
    """A product that an import gave up, and that was never imported."""
    made = dead_letter(external_id, reason, retryable=False, attempts=1, **values)
    own = {"id": item_id("job-1", external_id), "externalId": external_id, "step": "import"}
    return {**made, **own, "productId": None, "title": None, "product": None, "steps": []}


def dead_letter_routes(stand_in: StandIn) -> list[Route]:
    """The routes of `/v1/dead-letters`."""
    gateway = DeadLetters(stand_in)
    return [
        Route("/v1/dead-letters", gateway.page),
        Route("/v1/dead-letters/reasons", gateway.reasons),
        Route("/v1/dead-letters/{action}", gateway.act_on_all, methods=["POST"]),
        Route("/v1/dead-letters/{letter}", gateway.one),
        Route("/v1/dead-letters/{letter}/{action}", gateway.act, methods=["POST"]),
    ]


class DeadLetters:
    """Answers with the stand-in's letters, and takes those away that are acted on."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in

    async def page(self, request: Request) -> Response:
        if refusal := self._asked(request):
            return refusal
        found = self._matching(dict(request.query_params))
        start = int(request.query_params.get("cursor", "0"))
        inside = ("field", "fix", "product", "steps", "stays")
        shown = [{k: v for k, v in each.items() if k not in inside} for each in found[start : start + PAGE]]
        following = str(start + PAGE) if start + PAGE < len(found) else None
        return _answer(DeadLetterPage, {"items": shown, "next": following})

    async def reasons(self, request: Request) -> Response:
        if refusal := self._asked(request):
            return refusal
        most = self._stand_in.letters_counted
        found = self._matching(dict(request.query_params))[:most]
        counts = Counter((each["step"], each["reason"], each["retryable"]) for each in found)
        items = []
        for (step, reason, retryable), number in counts.most_common():
            advice = advice_for(reason, retryable=retryable, step=DeadStep(step))
            row = {"step": step, "reason": reason, "count": number, "retryable": retryable}
            items.append(
                {**row, "newestAt": "2026-01-02T00:00:00Z", "field": advice.field, "fix": advice.fix}
            )
        body = {
            "items": items,
            "more": False,
            "total": len(found),
            "isAtLeast": most is not None,
            "asOf": "1767312000000000",
        }
        return _answer(DeadLetterReasons, body)

    async def one(self, request: Request) -> Response:
        if refusal := self._asked(request):
            return refusal
        found = [each for each in self._stand_in.letters if each["id"] == request.path_params["letter"]]
        if not found:
            return _gone(404)
        return _answer(DeadLetterDetail, {k: v for k, v in found[0].items() if k != "stays"})

    async def act(self, request: Request) -> Response:
        if refusal := self._stand_in.written(request, None):
            return refusal
        left = [each for each in self._stand_in.letters if each["id"] != request.path_params["letter"]]
        if len(left) == len(self._stand_in.letters):
            return _gone(409)
        self._stand_in.letters = left
        return _answer(DeadLettersChanged, {"changed": 1})

    async def act_on_all(self, request: Request) -> Response:
        body = json.loads(await request.body())
        DeadLettersRequest.model_validate(body)
        if refusal := self._stand_in.written(request, body):
            return refusal
        found = self._matching({key: value for key, value in body.items() if key in CHOICES})
        if "cursor" in body:
            found = [each for each in found if "stays" not in each]
        now = found[:AT_ONCE]
        stay = [each["stays"] for each in now if "stays" in each]
        ids = {each["id"] for each in now if "stays" not in each}
        self._stand_in.letters = [each for each in self._stand_in.letters if each["id"] not in ids]
        more = len(found) > AT_ONCE
        answer = {"changed": len(ids), "more": more, "next": GOING_ON if more else None}
        return _answer(DeadLettersChanged, {**answer, "skipped": len(stay), "why": stay[0] if stay else None})

    def _asked(self, request: Request) -> Response | None:
        refusal = self._stand_in.refusal(request)
        if refusal is None:
            self._stand_in.calls.letters.append((request.url.path, dict(request.query_params)))
        return refusal

    def _matching(self, wanted: dict[str, str]) -> list[Json]:
        return [
            each
            for each in self._stand_in.letters
            if all(each[CHOICES[name]] == value for name, value in wanted.items() if name in CHOICES)
        ]


def _answer(model: type[ApiModel], body: Json) -> Response:
    return JSONResponse(model.model_validate_json(json.dumps(body)).model_dump(mode="json", by_alias=True))


def _gone(status: int) -> Response:
    body = {
        "type": "about:blank",
        "title": "Gone",
        "status": status,
        "detail": "It is no dead letter any more",
    }
    return JSONResponse(body, status, media_type="application/problem+json")
