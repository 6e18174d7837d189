"""Which options a request may set, and their defaults (CONTRACT 1.5)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from contextlib import suppress

from .errors import BadRequest, OutriderError
from .protocol import Limits, Sampling

INTEGERS = range(-(1 << 63), 1 << 64)  # of 64 bits, with a sign or without
MAX_LOGGED = 8  # unknown names of one request
MAX_STOPS = 256  # stop strings: each is looked for in every piece of text

log = logging.getLogger(__name__)


class OptionError(OutriderError):
    """An option has the wrong JSON type; Ollama answers that with status 500."""


class Options(Sampling, frozen=True):
    """Every option that llama.cpp can honour, by Ollama's names and defaults."""

    stop: tuple[str, ...] = ()
    num_predict: int = -1
    num_keep: int = 4
    draft_num_predict: int | None = None  # most tokens of one draft; None: as many as pay off
    draft_fixed: int | None = None  # exact length of every draft in tokens, for measurements
    num_ctx: int = 0  # 0: the daemon's default
    num_batch: int = 512
    num_gpu: int = -1  # -1: as many layers as fit
    main_gpu: int | None = None  # None: the one with the most free memory
    num_thread: int = 0  # 0: as many as physical cores
    use_mmap: bool | None = None

    @classmethod
    def merge(cls, *layers: Mapping[str, object]) -> Options:
        """Options from layers of JSON values; a later layer wins, null means "not set".

        An empty `stop` means that too: clients send it of their own accord, and a model without
        its stop strings goes on and on. Raises OptionError for a wrong type. Unknown names are
        logged and left out.
        """
        values: dict[str, object] = {}
        for layer in layers:
            _log_unknown(layer)
            for name, value in layer.items():
                if name in OPTION_TYPES and value is not None and (name, value) != ("stop", []):
                    values[name] = _convert(name, OPTION_TYPES[name], value)
        return cls(**values)  # type: ignore[arg-type]

    def sampling(self) -> Sampling:
        return Sampling(**{name: getattr(self, name) for name in Sampling.__struct_fields__})

    def limits(self, *, truncate: bool, shift: bool, num_ctx: int = 0) -> Limits:
        return Limits(self.num_predict, self.num_keep, self.stop, truncate, shift, num_ctx)


OPTION_TYPES: Mapping[str, str] = {
    name: str(kind)
    for layer in (Sampling, Options)
    for name, kind in layer.__annotations__.items()
    if name != "logit_bias"
}
"""The annotation of each option, by its name."""


def _log_unknown(layer: Mapping[str, object]) -> None:
    """Log the names that mean nothing, the first ones of many."""
    unknown = [name for name in layer if name not in OPTION_TYPES]
    for name in unknown[:MAX_LOGGED]:
        log.warning("invalid option provided: %s", name)
    if len(unknown) > MAX_LOGGED:
        log.warning("and %d more invalid options", len(unknown) - MAX_LOGGED)


def _seed(value: int) -> int:
    """A seed in 31 bits; different wide seeds, such as times in milliseconds, stay different.

    Negative means "any".
    """
    if value < 0:
        return -1
    while value >= 1 << 31:
        value = (value & 0x7FFFFFFF) ^ (value >> 31)
    return value


def _check_integer(name: str, value: int | float) -> None:
    """Raises BadRequest for what no integer of 64 bits holds; a wide float is kept in bounds."""
    if value not in INTEGERS if isinstance(value, int) else not math.isfinite(value):
        raise BadRequest(f'option "{name}" must be an integer of 64 bits')


def _convert(name: str, kind: str, value: object) -> object:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and kind.startswith("int"):
        _check_integer(name, value)  # type: ignore[arg-type]
    if name == "seed" and is_number:
        return _seed(int(value))  # type: ignore[call-overload]
    if kind.startswith("int") and is_number:
        # JSON numbers are truncated, and kept inside what llama.cpp's int32 holds.
        return int(min(max(value, -(2**31)), 2**31 - 1))  # type: ignore[call-overload]
    if kind == "float" and is_number:
        with suppress(OverflowError):  # JSON integers are unbounded
            return float(value)  # type: ignore[arg-type]
    if kind.startswith("bool") and isinstance(value, bool):
        return value
    if kind.startswith("tuple") and isinstance(value, list):
        if len(value) > MAX_STOPS:
            raise BadRequest(f'option "{name}" has {len(value):,} items; at most {MAX_STOPS}')
        if all(isinstance(item, str) for item in value):
            return tuple(value)
        raise OptionError(f'option "{name}" must be of an array of strings')
    names = {"int": "integer", "float": "float32", "bool": "boolean"}
    raise OptionError(f'option "{name}" must be of type {names.get(kind.split()[0], "array")}')
