"""How does the prompt of `run` edit lines: history, completion, messages of several lines?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from ..errors import OutriderError
from .history import HistoryFile, is_unfinished
from .repl_words import MODEL_COMMANDS, MORE, PLACEHOLDER, candidates
from .text_editor import edit_text

DIM = "fg:ansibrightblack"

ModelNames = Callable[[], Awaitable[Sequence[str]]]
"""The names of the daemon's models. Raises OutriderError and TimeoutError."""


class LineEditor:
    """Reads messages with prompt_toolkit, in the event loop of `runner`."""

    def __init__(
        self,
        runner: asyncio.Runner,
        names: ModelNames,
        history: HistoryFile | None,
        editor: str,
    ) -> None:
        self._runner = runner
        self._history = RecordedHistory(history)
        self._session: PromptSession[str] = PromptSession(
            history=self._history,
            completer=CommandCompleter(names),
            complete_while_typing=False,
            multiline=Condition(self._goes_on),
            prompt_continuation=MORE,
            placeholder=[(DIM, PLACEHOLDER)],
            key_bindings=_keys(editor),
        )

    def read(self, prompt: str) -> str:
        """A message, with all its lines."""
        return self._runner.run(self._session.prompt_async(prompt))

    def set_recording(self, on: bool) -> None:
        """Whether lines typed from now on are added to the history."""
        self._history.is_recording = on

    def _goes_on(self) -> bool:
        return is_unfinished(self._session.default_buffer.text)


class RecordedHistory(History):
    """The history of prompt_toolkit in our file; None keeps it in memory alone."""

    def __init__(self, file: HistoryFile | None) -> None:
        super().__init__()
        self.is_recording = True
        self._file = file

    def append_string(self, string: str) -> None:
        """Adds an entry, unless nothing is recorded."""
        if self.is_recording:
            super().append_string(string)

    def load_history_strings(self) -> Iterable[str]:
        """The entries of earlier sessions, the newest first."""
        return reversed(self._file.read()) if self._file else ()

    def store_string(self, string: str) -> None:
        """Writes an entry to the file."""
        if self._file:
            self._file.append(string)


class CommandCompleter(Completer):
    """Completes /commands and what follows them."""

    def __init__(self, names: ModelNames) -> None:
        self._names = names

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        """Nothing: the daemon is asked for names, which takes the coroutine below."""
        return ()

    async def get_completions_async(
        self, document: Document, event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        """The words that fit at the cursor."""
        text = document.text_before_cursor
        models: Sequence[str] = ()
        if text.startswith(MODEL_COMMANDS):
            with suppress(OutriderError, TimeoutError):
                models = await self._names()
        last = text.rpartition(" ")[2]
        for word in candidates(text, models):
            yield Completion(word, start_position=-len(last))


def _keys(editor: str) -> KeyBindings:
    keys = KeyBindings()

    @keys.add("c-g", filter=~is_searching)
    async def _edit(event: KeyPressEvent) -> None:
        """Ctrl-G: the message goes on in a text editor."""
        buffer = event.current_buffer
        text = await run_in_terminal(lambda: edit_text(editor, buffer.text), in_executor=True)
        buffer.document = Document(text)

    return keys
