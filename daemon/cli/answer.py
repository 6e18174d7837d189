"""How is a streamed answer shown in the terminal (CONTRACT 10.2)?"""

from __future__ import annotations

import shutil
import unicodedata
from dataclasses import dataclass
from typing import TextIO

from . import humanize
from .client import Json

DIM, PLAIN = "\x1b[2m", "\x1b[0m"
VALUE_COLUMN = 22  # of the footer
FOOTER = (
    *("total_duration", "load_duration"),
    *("prompt_eval_count", "prompt_eval_duration", "prompt_eval_rate"),
    *("eval_count", "eval_duration", "eval_rate"),
)


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """Which parts of an answer are shown, and how."""

    verbose: bool = False
    hide_thinking: bool = False
    word_wrap: bool = True


class AnswerView:
    """Writes one answer as it streams in, and keeps its parts and metrics."""

    def __init__(self, out: TextIO, view: ViewOptions) -> None:
        self.content = ""
        self.thinking = ""
        self.tool_calls: list[Json] = []
        self.metrics: Json = {}
        self._out = out
        self._view = view
        self._dim, self._plain = (DIM, PLAIN) if out.isatty() else ("", "")
        columns = shutil.get_terminal_size().columns if out.isatty() and view.word_wrap else 0
        self._wrap = WordWrap(columns)
        self._thinking = False
        self._began = False

    def add(self, chunk: Json) -> None:
        """Shows one line of POST /api/chat; a line may end the thinking and begin the content."""
        message = chunk.get("message") or {}
        self._add_thinking(str(message.get("thinking") or ""))
        self._add_content(str(message.get("content") or ""))
        self.tool_calls += message.get("tool_calls") or []
        self._out.flush()
        if chunk.get("done"):
            self.metrics = chunk

    @property
    def message(self) -> Json:
        """The answer so far, as a message of the conversation (CONTRACT 1.3)."""
        parts = {"thinking": self.thinking, "tool_calls": self.tool_calls}
        given = {name: part for name, part in parts.items() if part}
        return {"role": "assistant", "content": self.content, **given}

    def finish(self) -> None:
        """Ends the last line, whether the answer is complete or was cancelled."""
        self._end_thinking()
        self._write(self._wrap.end())
        self._write("\n" if self._began else "")
        self._out.flush()

    def _add_thinking(self, text: str) -> None:
        self.thinking += text
        if not text or self._view.hide_thinking:
            return
        if not self._thinking:
            self._write("Thinking...\n" + self._dim)
            self._thinking = True
        self._write(self._wrap.add(text))

    def _add_content(self, text: str) -> None:
        if not text:
            return
        self._end_thinking()
        self.content += text
        self._write(self._wrap.add(text))

    def _end_thinking(self) -> None:
        if not self._thinking:
            return
        rest = self._wrap.end()
        self._write(rest + self._plain + "\n...done thinking.\n\n")
        self._thinking = False

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._began = self._began or bool(text)


class WordWrap:
    """Breaks a stream of text between words at `columns`; 0 means no wrapping."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._used = 0
        self._word = ""
        self._is_overlong = False  # inside a word longer than a line, which the terminal breaks

    def add(self, text: str) -> str:
        """The text that can be written now; an unfinished word is held back."""
        return "".join(map(self._step, text)) if self._columns else text

    def end(self) -> str:
        """The held-back word; the next text starts a new line."""
        rest = self._release()
        self._used, self._is_overlong = 0, False
        return rest

    def _step(self, char: str) -> str:
        if char == "\n":
            return self.end() + char
        if char.isspace():
            return self._release() + self._blank(char)
        if self._is_overlong:
            self._used = (self._used + _width(char) - 1) % self._columns + 1
            return char
        self._word += char
        # Scripts without blanks between words may break after every character.
        self._is_overlong = _width(self._word) >= self._columns
        return self._release() if self._is_overlong or _width(char) == 2 else ""

    def _blank(self, char: str) -> str:
        """A blank that does not fit becomes the line break."""
        self._is_overlong = False
        self._used = 0 if self._used >= self._columns else self._used + 1
        return char if self._used else "\n"

    def _release(self) -> str:
        word, self._word = self._word, ""
        width = _width(word)
        broken = word and self._used and self._used + width > self._columns
        self._used = width if broken else self._used + width
        return "\n" + word if broken else word


def _width(text: str) -> int:
    """Terminal columns: East Asian wide characters take two, combining ones none."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def footer(metrics: Json) -> str:
    """The lines of `--verbose`: a label, and its value from column 23."""
    rows = ((name.replace("_", " ") + ":", _figure(metrics, name)) for name in FOOTER)
    return "\n".join(f"{label:{VALUE_COLUMN}}{value}" for label, value in rows if value)


def _figure(metrics: Json, name: str) -> str:
    """A count, duration or rate with its unit; empty if it is missing or 0."""
    phase, _, kind = name.rpartition("_")
    tokens, duration_ns = metrics.get(f"{phase}_count"), metrics.get(f"{phase}_duration")
    if kind == "count":
        return f"{tokens} token(s)" if tokens else ""
    if not duration_ns:
        return ""
    if kind == "duration":
        return humanize.go_duration(duration_ns)
    return f"{tokens / duration_ns * 1e9:.2f} tokens/s" if tokens else ""
