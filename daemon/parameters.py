"""Which options a model may set, and how PARAMETER values are parsed (CONTRACT 7.1)."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping

from .errors import BadRequest
from .options import OPTION_TYPES, OptionError, Options

# Names that are accepted and ignored (CONTRACT 7.1).
DEPRECATED = ("f16_kv", "logits_all", "low_vram", "penalize_newline", "use_mlock", "vocab_only")
KINDS = {name: kind.split()[0] for name, kind in OPTION_TYPES.items()}
INTEGER = re.compile(r"[+-]?\d+")
FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Go's strconv.ParseBool.
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")

log = logging.getLogger(__name__)


def read_parameters(texts: Iterable[tuple[str, str]]) -> dict[str, object]:
    """The values of PARAMETER lines: the last one of a name counts, except that `stop` accumulates.

    Raises BadRequest with the contract's texts. Deprecated names are logged and left out.
    """
    values: dict[str, object] = {}
    stops: list[str] = []
    for name, text in texts:
        if not _is_known(name):
            continue
        if name == "stop":
            stops.append(text)
            values[name] = stops
        else:
            values[name] = _read(KINDS[name], text)
    return values


def check_parameters(values: Mapping[str, object]) -> dict[str, object]:
    """The values without nulls and deprecated names; raises BadRequest as `read_parameters`."""
    checked = {name: v for name, v in values.items() if v is not None and _is_known(name)}
    for name, value in checked.items():
        try:
            Options.merge({name: value})
        except OptionError as error:
            raise _invalid(KINDS[name], json.dumps(value), str(error)) from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _invalid(KINDS[name], str(value), "")
    return checked


def _is_known(name: str) -> bool:
    if name in DEPRECATED:
        log.warning("parameter %s is deprecated", name)
        return False
    if name not in KINDS:
        raise BadRequest(f"unknown parameter '{name}'")
    return True


def _read(kind: str, text: str) -> object:
    if kind == "int" and INTEGER.fullmatch(text):
        return int(text)
    if kind == "float" and FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    if kind == "bool" and text in TRUE + FALSE:
        return text in TRUE
    raise _invalid(kind, text, "")


def _invalid(kind: str, value: str, other_text: str) -> BadRequest:
    is_scalar = kind in ("int", "float", "bool")
    return BadRequest(f"invalid {kind} value [{value}]" if is_scalar else other_text)
