"""What can go wrong; each dialect of the API has a table that gives these a status and words.

OutriderError
├── ConfigError                  a setting that cannot be used
├── BadRequest                   a request that cannot be served as it is
│   └── RenderingKilled          its template took too much time or memory
├── Unauthorized                 a request without an API key of this daemon
├── TooManyRequests              more requests at a time than an API key may run
├── NotFound                     a model that is not in the store
├── CloudDisabled                a model or a service of a cloud
├── TooLarge                     a request body over the limit
├── InvalidFormat                a `format` that is neither "json" nor a JSON schema
│   └── InvalidSchema            a JSON schema that no answer can follow
├── Busy                         too many requests wait for a load
├── TemplateFailed               a model's template or renderer that cannot be used
├── Unsupported                  a part of the API that is not there yet
└── RunnerError
    ├── LoadFailed               the model did not come up
    │   └── DoesNotFit           the plan found no room for it, so it was not tried
    ├── RunnerDied               the runner process ended under its streams
    └── DecodeFailed             llama.cpp refused a step

A runner sends an error as class name and text (protocol.Failed); `revive` restores it.
"""

from __future__ import annotations


class OutriderError(Exception):
    """An error whose text may be shown to a user as it is."""


class ConfigError(OutriderError):
    """A flag, environment variable or file has an invalid value."""


class BadRequest(OutriderError):
    """The request is invalid; a retry fails in the same way."""


class RenderingKilled(BadRequest):
    """The process that rendered the prompt was stopped, or ended: of time or memory too much."""


class Unauthorized(OutriderError):
    """The request has no API key that the daemon takes."""


class TooManyRequests(OutriderError):
    """The API key of the request runs as many requests as it may."""


class NotFound(OutriderError):
    """The named model is not in the store."""


class CloudDisabled(OutriderError):
    """The request needs a cloud, and this daemon serves what is on its machine."""


class TooLarge(OutriderError):
    """The request body is larger than the daemon reads."""


class Unsupported(OutriderError):
    """The request needs a feature that this version lacks."""


class InvalidFormat(OutriderError):
    """The format of an answer is neither "json" nor a JSON schema (CONTRACT 1.4)."""


class InvalidSchema(InvalidFormat):
    """The format is an object, but no JSON schema, or one that no answer can follow."""


class TemplateFailed(OutriderError):
    """The template or renderer of a model cannot be used; what needs none still works."""


class Busy(OutriderError):
    """Too many requests wait for a model to load."""


class RunnerError(OutriderError):
    """A runner failed."""


class LoadFailed(RunnerError):
    """The model could not be loaded."""


class DoesNotFit(LoadFailed):
    """No plan for the model fits this machine's memory; the text names the nearest that would."""


class RunnerDied(RunnerError):
    """The runner process ended before its requests were done."""


class DecodeFailed(RunnerError):
    """llama_decode failed in a step; the runner reports that and ends."""


REVIVED = (
    *(BadRequest, RenderingKilled, InvalidFormat, InvalidSchema),
    *(TemplateFailed, LoadFailed, DecodeFailed),
)


def revive(kind: str, text: str) -> OutriderError:
    """The error of the class named `kind`; a RunnerError for an unknown name."""
    known = {cls.__name__: cls for cls in REVIVED}
    return known.get(kind, RunnerError)(text)
