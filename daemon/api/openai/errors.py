"""How OpenAI's dialect words errors (CONTRACT 2.1)."""

from __future__ import annotations

from ..error_table import STATUSES_FOR_RETRIES, ErrorTable

KINDS = {400: "invalid_request_error", 404: "not_found_error"}  # by HTTP status


def _body(status: int, text: str) -> dict[str, object]:
    kind = KINDS.get(status, "api_error")
    return {"error": {"message": text, "type": kind, "param": None, "code": None}}


ERRORS = ErrorTable(STATUSES_FOR_RETRIES, _body)
