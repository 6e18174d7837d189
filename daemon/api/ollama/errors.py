"""How Ollama's dialect words errors: `{"error": text}` and the HTTP status (CONTRACT 0 and 1)."""

from __future__ import annotations

from ....models.errors import CreateRefused, DigestMismatch, InvalidDigest, InvalidName, ModelError
from ....quant.gguf import GGUFError
from ...errors import (
    BadRequest,
    Busy,
    CloudDisabled,
    InvalidSchema,
    NotFound,
    OutriderError,
    TemplateFailed,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unsupported,
)
from ..error_table import ErrorTable

ERRORS = ErrorTable(
    {
        BadRequest: 400,
        InvalidSchema: 400,
        CreateRefused: 400,
        DigestMismatch: 400,
        InvalidDigest: 400,
        InvalidName: 400,
        Unauthorized: 401,
        CloudDisabled: 403,
        NotFound: 404,
        TooLarge: 413,
        TooManyRequests: 429,
        Unsupported: 501,
        Busy: 503,
        TemplateFailed: 500,
        OutriderError: 500,
        ModelError: 500,
        GGUFError: 500,
    },
    lambda status, text: {"error": "unauthorized" if status == 401 else text},
)
