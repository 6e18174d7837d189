"""What may a Jinja chat template do? A sandbox with bounds on what one operation makes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_indent, do_join
from jinja2.nodes import EvalContext
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Characters of a prompt, or of a text that one operation makes: at most 64 MiB of memory.
MAX_CHARS = 16 << 20
MAX_ITEMS = 1 << 20  # of a list that one operation makes
MAX_BITS = 1 << 16  # of an integer that one operation makes
MAX_JSON_INDENT = 64  # blanks
UNBOUNDED_FILTERS = ("batch", "slice", "wordwrap", "xmlattr")  # chat templates do not need these
UNBOUNDED_GLOBALS = ("lipsum",)
PERCENT_WIDTHS = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\d*)\.?(\d*)")
BRACE_WIDTHS = re.compile(r"\{[^{}]*:[^{}]*?(\d+)\.?(\d*)")


def make_environment() -> jinja2.Environment:
    """An environment that compiles templates as Hugging Face's `apply_chat_template` does."""
    env = BoundedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, GenerationTag]
    )
    for name in UNBOUNDED_FILTERS:
        del env.filters[name]
    for name in UNBOUNDED_GLOBALS:
        del env.globals[name]
    env.filters.update(FILTERS)
    env.globals["raise_exception"] = _refuse
    env.globals["strftime_now"] = lambda layout: datetime.now().strftime(layout)
    return env


def bounded_join(pieces: Iterable[str]) -> str:
    """All pieces as one text. Raises OverflowError as soon as it is longer than MAX_CHARS."""
    taken, size = [], 0
    for piece in pieces:
        size += len(piece)
        _check(size)
        taken.append(piece)
    return "".join(taken)


class GenerationTag(Extension):
    """Accepts `{% generation %}…{% endgeneration %}`, which marks what a training run learns."""

    tags = {"generation"}  # noqa: RUF012  the base class declares it as a variable of instances

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _BoundedCode(CodeGenerator):
    """Has `~` call the environment, as the sandbox intercepts only the other operators."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat(map(str, (")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write(")))")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Refuses an operation with OverflowError before it makes something large.

    The bounds are those of single operations: what many of them use in all, and their time, must be
    bounded from outside of the process.
    """

    intercepted_binops = frozenset(("*", "**", "+", "%"))
    code_generator_class = _BoundedCode
    concat = staticmethod(bounded_join)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        BINARY[operator](left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        if isinstance(owner := getattr(__obj, "__self__", None), str | bytes | int):
            size = METHODS.get(getattr(__obj, "__name__", ""))
            if size is not None:
                args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
                # Compiled templates add keywords of their own, which begin with "_".
                own = {name: value for name, value in kwargs.items() if name[0] != "_"}
                _check(size(owner, *args, **own))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None
        source = str(value.__self__)

        def bounded(*args: Any, **kwargs: Any) -> str:
            _check(_brace_size(source, [*args, *kwargs.values()]))
            return wrapped(*args, **kwargs)

        return bounded


def _check(size: int, value: object = "") -> None:
    """Refuse to make so many characters, or so many items if `value` is no text."""
    limit = MAX_CHARS if isinstance(value, str | bytes) else MAX_ITEMS
    if size > limit:
        raise OverflowError(f"one operation makes more than {limit} characters or items")


def _check_bits(bits: int) -> None:
    if bits > MAX_BITS:
        raise OverflowError(f"one operation makes a number of more than {MAX_BITS} bits")


def _times(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    for value, count in ((left, right), (right, left)):
        if isinstance(count, int) and hasattr(value, "__len__"):
            _check(len(value) * count, value)


def _power(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _plus(left: Any, right: Any) -> None:
    if hasattr(left, "__len__") and hasattr(right, "__len__"):
        _check(len(left) + len(right), left)


def _percent(left: Any, right: Any) -> None:
    if isinstance(left, str | bytes):
        _check(_percent_size(left if isinstance(left, str) else left.decode("latin-1"), right))


def _percent_size(source: str, values: Any) -> int:
    """At most so many characters does `source % values` have."""
    fields = source.count("%")
    size = len(source) + fields * _length(values) + _widths(PERCENT_WIDTHS, source)
    return size + (fields * _largest(values) if "*" in source else 0)


def _brace_size(source: str, values: list[Any]) -> int:
    """At most so many characters does `source.format(…)` with these values have."""
    fields = source.count("{")
    size = len(source) + fields * _length(values) + _widths(BRACE_WIDTHS, source)
    return size + (fields * _largest(values) if re.search(r":[^{}]*\{", source) else 0)


def _length(values: Any) -> int:
    return sum(len(str(value)) for value in _each(values))


def _largest(values: Any) -> int:
    return max((abs(value) for value in _each(values) if isinstance(value, int)), default=0)


def _each(values: Any) -> Iterable[Any]:
    if isinstance(values, Mapping):
        return values.values()
    return values if isinstance(values, tuple | list) else (values,)


def _widths(pattern: re.Pattern[str], source: str) -> int:
    found = (number for groups in pattern.findall(source) for number in groups if number)
    return sum(int(number) for number in found)


def _width_size(text: Any, width: int, *_: Any) -> int:
    return max(len(text), width)


def _replace_size(text: Any, old: Any, new: Any, count: int = -1) -> int:
    places: int = text.count(old)
    return len(text) + len(new) * (places if count < 0 else min(places, count))


def _join_size(separator: Any, items: Iterable[Any]) -> int:
    return sum(len(separator) + len(str(item)) for item in items)


def _translate_size(text: Any, table: Any) -> int:
    values = table.values() if isinstance(table, Mapping) else table
    return len(text) * max((len(str(value)) for value in values), default=1)


BINARY: Mapping[str, Callable[[Any, Any], None]] = {
    "*": _times,
    "**": _power,
    "+": _plus,
    "%": _percent,
}
# At most so many characters does the method return, by its name. The first argument is its object.
METHODS: Mapping[str, Callable[..., int]] = {
    "center": _width_size,
    "ljust": _width_size,
    "rjust": _width_size,
    "zfill": _width_size,
    "expandtabs": lambda text, tabsize=8: len(text) + text.count("\t") * tabsize,
    "replace": _replace_size,
    "join": _join_size,
    "translate": _translate_size,
    "to_bytes": lambda _number, length=1, *_, **__: length,
}


def _refuse(text: str) -> NoReturn:
    raise jinja2.TemplateError(text)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON with the options of Hugging Face; the filter of jinja2 would escape for HTML."""
    if (len(indent) if isinstance(indent, str) else indent or 0) > MAX_JSON_INDENT:
        raise OverflowError(f"JSON is indented by more than {MAX_JSON_INDENT} blanks")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
        default=_listed,
    )


def _listed(value: object) -> list[object]:
    """What `map` and `selectattr` give, which some templates print as JSON."""
    if not isinstance(value, Iterator):
        raise TypeError(f"{type(value).__name__} is not JSON")
    return list(value)


def _replace(text: object, old: str, new: str, count: int | None = None) -> str:
    text, limit = str(text), -1 if count is None else count
    _check(_replace_size(text, old, new, limit))
    return text.replace(old, new, limit)


@jinja2.pass_eval_context
def _join(
    context: EvalContext,
    value: Iterable[Any],
    d: str = "",
    attribute: str | int | None = None,
) -> str:
    items = list(value)
    _check(_join_size(d, items))
    return str(do_join(context, items, d, attribute))


def _center(text: object, width: int = 80) -> str:
    _check(width)
    return str(text).center(width)


def _indent(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    size = len(width) if isinstance(width, str) else width
    _check(len(text) + (text.count("\n") + 1) * size)
    return do_indent(text, width, first, blank)


def _format(source: object, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise jinja2.TemplateError("`format` takes either positional or named values")
    text = str(source)
    _check(_percent_size(text, kwargs or args))
    return text % (kwargs or args)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "tojson": _to_json,
    "from_json": json.loads,
    "fromjson": json.loads,
    "replace": _replace,
    "join": _join,
    "center": _center,
    "indent": _indent,
    "format": _format,
}
