"""How an error becomes an answer: each dialect has one table of statuses and wording."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web

from ...models.errors import InvalidName, ModelError
from ..errors import (
    BadRequest,
    Busy,
    CloudDisabled,
    DoesNotFit,
    InvalidFormat,
    NotFound,
    OutriderError,
    TemplateFailed,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unsupported,
)
from ..log_lines import shorten

MAX_TEXT_CHARS = 2_000  # of an error: some quote what the client or a model file says
INTERNAL = "internal error; the daemon's log has the details"

# What no retry can help has a status below 500, because the clients of OpenAI and Anthropic retry
# the others.
STATUSES_FOR_RETRIES: Mapping[type[Exception], int] = {
    BadRequest: 400,
    InvalidFormat: 400,
    InvalidName: 400,
    Unsupported: 400,
    TemplateFailed: 400,
    Unauthorized: 401,
    CloudDisabled: 403,
    NotFound: 404,
    TooLarge: 413,
    DoesNotFit: 400,
    TooManyRequests: 429,
    Busy: 503,
    OutriderError: 500,
    ModelError: 500,
}

HEADERS: Mapping[int, Mapping[str, str]] = {  # of error answers, by HTTP status
    401: {"WWW-Authenticate": 'Bearer realm="Outrider"'},  # RFC 6750 3
    429: {"Retry-After": "1"},  # seconds
}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The HTTP status and the JSON body of a failed request."""

    status: int
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class ErrorTable:
    """The errors that a dialect words; every other exception is an internal error."""

    statuses: Mapping[type[Exception], int]  # the first class that fits the error decides
    body: Callable[[int, str], dict[str, object]]  # from the HTTP status and the text

    def explain(
        self, error: Exception, request: web.Request, *, in_stream: bool = False
    ) -> ErrorReply:
        """The answer to a request that failed.

        The text of an internal error reaches the log alone. An expected error is logged only
        `in_stream`, where the HTTP status (200) does not show it.
        """
        for kind, status in self.statuses.items():
            if isinstance(error, kind):
                if in_stream:
                    log.warning("%s %s ended early: %s", request.method, request.path, error)
                return ErrorReply(status, self.body(status, shorten(str(error), MAX_TEXT_CHARS)))
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return ErrorReply(500, self.body(500, INTERNAL))
