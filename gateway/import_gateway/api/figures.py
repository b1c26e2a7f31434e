"""Figures of the last days over HTTP."""

from __future__ import annotations

from starlette.responses import Response

from import_gateway.api.figure_models import FiguresQuery
from import_gateway.api.operation import Call, get_json_response
from import_gateway.api.reading import read_query


async def get_figures(call: Call) -> Response:
    """Answer how many jobs ended and how, how long they took, and why they failed."""
    query = read_query(call.request, FiguresQuery)
    return get_json_response(await call.services.figures.report(query.days))
