"""How is a conversation worded for a model, and its output read?"""

from __future__ import annotations

import msgspec

JINJA, GO = "jinja", "go"


class UnreadableTemplate(ValueError):
    """The text is no Go template; says where and why."""


class ChatFormat(msgspec.Struct, frozen=True):
    """The renderer and the parser of a model. Travels with each request to the runner.

    A built-in renderer goes before the template. Tags that are not empty belong to the template
    and serve the parsers that have none of their own.
    """

    renderer: str = ""  # a built-in renderer (CONTRACT 8.5); "": the template
    template: str = ""  # its text; "": the one in the GGUF file, or plain text if there is none
    language: str = JINJA  # of the template: JINJA or GO
    parser: str = ""  # an output parser (chat.parse.registry); "": the output is content
    think_open: str = ""  # the text before a thought
    think_close: str = ""  # the text after it
    call_tag: str = ""  # the text before a tool call
