"""What can go wrong; each dialect of the API has a table that gives these a status and words.

OutriderError
├── ConfigError                  a setting that cannot be used
├── BadRequest                   a request that cannot be served as it is
├── NotFound                     a model that is not in the store
├── TooLarge                     a request body over the limit
├── InvalidFormat                a `format` that is no JSON schema
├── Busy                         too many requests wait for a load
├── Unsupported                  a part of the API that is not there yet
└── RunnerError
    ├── LoadFailed               the model did not come up
    ├── RunnerDied               the runner process ended under its streams
    └── DecodeFailed             llama.cpp refused a step

A runner sends an error as its class name and text (protocol.Failed); `revive` turns that back.
"""

from __future__ import annotations


class OutriderError(Exception):
    """An error whose text may be shown to a user as it is."""


class ConfigError(OutriderError):
    """A flag, variable or file has a value that cannot be used."""


class BadRequest(OutriderError):
    """The request cannot be served as it is; a retry fails too."""


class NotFound(OutriderError):
    """The named model is not in the store."""


class TooLarge(OutriderError):
    """The request body is larger than the daemon reads."""


class Unsupported(OutriderError):
    """A part of the API that this version does not have yet."""


class InvalidFormat(OutriderError):
    """The format of an answer is neither "json" nor a JSON schema (CONTRACT 1.4)."""


class Busy(OutriderError):
    """Too many requests wait for a model to load."""


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
