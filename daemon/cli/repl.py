"""What does a line typed at the prompt of `outrider run` do (CONTRACT 10.3)?"""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TextIO

from ..errors import OutriderError
from ..options import OPTION_TYPES
from . import operations, show_view, table
from .answer import AnswerView, ViewOptions, footer
from .attachments import attach
from .client import Client, Json
from .history import QUOTABLE, QUOTES, is_unfinished
from .line_reader import LineReader
from .repl_words import HELP, HELP_TOPICS, MORE, PROMPT, THINK_LEVELS
from .session import ChatSession
from .tool_loop import Toolbox, answer_last

KINDS: Mapping[str, type] = {"int": int, "float": float, "bool | None": bool}
"""By the annotation of an option: the type of its value. All others are lists of strings."""


class UsageError(OutriderError):
    """A command at the prompt is unknown or has invalid arguments."""


class Repl:
    """Reads messages and commands, and keeps the session between them."""

    def __init__(
        self,
        runner: asyncio.Runner,
        client: Client,
        session: ChatSession,
        view: ViewOptions,
        out: TextIO,
        toolbox: Toolbox,
        reader: LineReader,
    ) -> None:
        self._runner = runner
        self._client = client
        self._session = session
        self._view = view
        self._out = out
        self._toolbox = toolbox
        self._reader = reader
        self._open = True
        self._commands: dict[str, Callable[[str], None]] = {
            "/set": self._set,
            "/show": self._show,
            "/load": self._load,
            "/save": self._save,
            "/list": self._list,
            "/clear": self._clear,
            "/?": self._help,
            "/help": self._help,
            "/bye": self._leave,
            "/exit": self._leave,
        }
        self._settings: dict[str, Callable[[str], None]] = {
            "parameter": self._set_parameter,
            "system": lambda text: self._change(system=text),
            "format": self._set_format,
            "noformat": lambda _: self._change(format=None),
            "think": self._set_think,
            "nothink": lambda _: self._change(think=False),
            "verbose": lambda _: self._change_view(verbose=True),
            "quiet": lambda _: self._change_view(verbose=False),
            "wordwrap": lambda _: self._change_view(word_wrap=True),
            "nowordwrap": lambda _: self._change_view(word_wrap=False),
            "history": lambda _: self._reader.set_recording(True),
            "nohistory": lambda _: self._reader.set_recording(False),
        }

    def loop(self) -> None:
        """Runs until /bye or the end of the input."""
        while self._open:
            try:
                text = read_message(self._reader.read)
            except KeyboardInterrupt:
                self._print("\nUse Ctrl-D or /bye to leave.")
                continue
            except EOFError:
                self._print("")
                return
            self._handle(text.strip())

    def _handle(self, text: str) -> None:
        word, _, rest = text.partition(" ")
        try:
            if not text:
                return
            if word in self._commands:
                self._commands[word](rest.strip())
            elif is_command(word):
                raise UsageError(f"there is no command {word}; /? lists them")
            else:
                self._answer(text)
        except OutriderError as error:
            print(f"Error: {error}", file=sys.stderr)
        except KeyboardInterrupt:
            self._print("")

    def _answer(self, text: str) -> None:
        """Streams an answer. Ctrl-C keeps the part received so far; a failed answer is dropped."""
        sent = attach(text, self._session.model, self._session.capabilities)
        asked = self._session.with_message("user", sent.text, sent.files)
        answering = answer_last(self._client, asked, self._toolbox, self._new_view, self._keep)
        metrics: Json = {}
        with suppress(KeyboardInterrupt):  # Ctrl-C cancels the coroutine, which ends its connection
            metrics = self._runner.run(answering).metrics
        if self._view.verbose and metrics:
            print(footer(metrics), file=sys.stderr)
        self._print("")

    def _new_view(self) -> AnswerView:
        return AnswerView(self._out, self._view)

    def _keep(self, session: ChatSession) -> None:
        self._session = session

    def _set(self, text: str) -> None:
        name, _, value = text.partition(" ")
        if not name:
            return self._help("set")
        if name not in self._settings:
            raise UsageError(f"there is no /set {name}; /? set lists them")
        return self._settings[name](value.strip())

    def _set_parameter(self, text: str) -> None:
        try:
            name, *values = shlex.split(text)
        except ValueError:
            raise UsageError("write it as /set parameter NAME VALUE") from None
        self._change(options={**self._session.options, name: parameter(name, values)})

    def _set_format(self, value: str) -> None:
        if value != "json":
            raise UsageError("write it as /set format json")
        self._change(format=value)

    def _set_think(self, level: str) -> None:
        if level and level not in THINK_LEVELS:
            raise UsageError(f"/set think takes nothing or one of {', '.join(THINK_LEVELS)}")
        self._change(think=level or True)

    def _change(self, **changes: Any) -> None:
        self._session = replace(self._session, **changes)

    def _change_view(self, **changes: bool) -> None:
        self._view = replace(self._view, **changes)

    def _show(self, part: str) -> None:
        if not part:
            return self._help("show")
        if part != "info" and part not in show_view.PARTS:
            raise UsageError(f"/show takes one of info, {', '.join(show_view.PARTS)}")
        shown = self._runner.run(self._client.post("/api/show", {"model": self._session.model}))
        text = self._part(shown, part) if part != "info" else show_view.render(shown, verbose=False)
        return self._print(text)

    def _part(self, shown: Json, part: str) -> str:
        text = str(shown.get(part) or "").rstrip()
        if part == "system" and self._session.system:
            return self._session.system
        if part == "parameters" and self._session.options:
            own = "\n".join(f"{name:30} {value}" for name, value in self._session.options.items())
            return f"Set here:\n{own}\n\nOf the model:\n{text or 'none'}"
        return text or f"The model has no {part}."

    def _load(self, model: str) -> None:
        if not model or " " in model:
            raise UsageError("/load takes the name of a model")
        shown = self._runner.run(self._client.post("/api/show", {"model": model}))
        fresh = replace(
            self._session, model=model, messages=(), capabilities=operations.capabilities(shown)
        )
        self._runner.run(operations.load(self._client, fresh))
        self._session = fresh

    def _save(self, model: str) -> None:
        if not model or " " in model:
            raise UsageError("/save takes the name of the new model")
        self._runner.run(operations.save(self._client, model, self._session))
        self._print(f"Created new model '{model}'")

    def _list(self, prefix: str) -> None:
        models = self._runner.run(self._client.get("/api/tags"))
        self._print(table.stored(models, prefix, datetime.now(UTC)))

    def _clear(self, _: str) -> None:
        self._change(messages=())
        self._print("The conversation is cleared.")

    def _help(self, topic: str) -> None:
        if topic and topic not in HELP_TOPICS:
            raise UsageError(f"/? takes nothing or one of {', '.join(HELP_TOPICS)}")
        self._print(HELP_TOPICS.get(topic, HELP))

    def _leave(self, _: str) -> None:
        self._open = False

    def _print(self, text: str) -> None:
        print(text, file=self._out, flush=True)


def read_message(read: Callable[[str], str]) -> str:
    """What is read at once, or all lines between triple quotes; errors of `read` pass through."""
    line = read(PROMPT)
    start = next((start for start in QUOTABLE if line.startswith(start + QUOTES)), None)
    if start is None:
        return line
    while is_unfinished(line):
        line += "\n" + read(MORE)
    text = line.removeprefix(start + QUOTES).rstrip().removesuffix(QUOTES)
    return start + text.strip("\n")


def is_command(word: str) -> bool:
    """Whether it is a /command and not the /path/of/a/file that begins a message."""
    return word.startswith("/") and "/" not in word[1:]


def parameter(name: str, values: Sequence[str]) -> object:
    """The value of an option in its type. Raises UsageError."""
    if name not in OPTION_TYPES:
        known = ", ".join(sorted(OPTION_TYPES))
        raise UsageError(f"there is no parameter {name}; there are {known}")
    kind = KINDS.get(OPTION_TYPES[name], list)
    if kind is list:
        return list(values)
    if len(values) == 1:
        with suppress(ValueError, KeyError):
            return {"true": True, "false": False}[values[0]] if kind is bool else kind(values[0])
    expected = {int: "one whole number", float: "one number", bool: "true or false"}[kind]
    raise UsageError(f"{name} takes {expected}")
