"""What can go wrong, and which HTTP status says so.

OutriderError                    500
├── ConfigError                  a setting that cannot be used
├── BadRequest                   400
├── NotFound                     404
├── TooLarge                     413
├── InvalidFormat                500, as Ollama has it
├── Busy                         503
├── Unsupported                  501
└── RunnerError                  500
    ├── LoadFailed               the model did not come up
    ├── RunnerDied               the runner process ended under its streams
    └── DecodeFailed             llama.cpp refused a step

A runner sends an error as its class name and text (protocol.Failed); `revive` turns that back.
"""

from __future__ import annotations

from typing import ClassVar


class OutriderError(Exception):
    """An error whose text may be shown to a user as it is."""

    status: ClassVar[int] = 500


class ConfigError(OutriderError):
    """A flag, variable or file has a value that cannot be used."""


class BadRequest(OutriderError):
    """The client sent something that no retry will mend."""

    status = 400


class NotFound(OutriderError):
    """The named model is not in the store."""

    status = 404


class TooLarge(OutriderError):
    """The request body is larger than the daemon reads."""

    status = 413


class Unsupported(OutriderError):
    """A part of the API that this version does not have yet."""

    status = 501


class InvalidFormat(OutriderError):
    """The format of an answer is neither "json" nor a JSON schema (CONTRACT 1.4)."""


class Busy(OutriderError):
    """Too many requests wait for a model to load."""

    status = 503


class RunnerError(OutriderError):
    """The runner could not do its work."""


class LoadFailed(RunnerError):
    """The model did not come up."""


class RunnerDied(RunnerError):
    """The runner process ended while streams depended on it."""


class DecodeFailed(RunnerError):
    """llama.cpp refused a step; the runner ends after saying so."""


def revive(kind: str, text: str) -> OutriderError:
    """The error that a runner named by its class; an unknown name stays a plain RunnerError."""
    known = {cls.__name__: cls for cls in (BadRequest, InvalidFormat, LoadFailed, DecodeFailed)}
    return known.get(kind, RunnerError)(text)
