"""Which words does the prompt of `run` know: commands, help, completion (CONTRACT 10.3)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..options import OPTION_TYPES
from .history import QUOTES
from .show_view import PARTS

PROMPT, MORE = ">>> ", "... "
PLACEHOLDER = "Send a message (/? for help)"
THINK_LEVELS = ("low", "medium", "high", "max")
MODEL_COMMANDS = ("/load ", "/save ")  # a model's name follows

HELP = f"""\
Commands:
  /set            Change the settings of this session, see /? set
  /show           Show properties of the model, see /? show
  /load MODEL     Switch to another model and a new conversation
  /save MODEL     Create a model from this session: settings and conversation
  /list           List the models in the store
  /clear          Clear the conversation
  /bye, /exit     Leave
  /?, /help       This text; more under /? set, /? show and /? shortcuts

Use {QUOTES} to begin and to end a message of several lines.
A path such as ./cat.png in a message sends that image, to a model that can see.
"""

HELP_TOPICS = {
    "set": f"""\
/set parameter NAME VALUE...   Set an option, such as temperature 0.2
/set system TEXT               Set the system message
/set format json               Answer in JSON; /set noformat turns that off
/set think [{"|".join(THINK_LEVELS)}]
                               Think first; /set nothink turns that off
/set verbose                   Show the speed of each answer; /set quiet turns that off
/set wordwrap                  Break lines between words; /set nowordwrap turns that off
/set history                   Record typed lines; /set nohistory turns that off
""",
    "show": """\
/show info         Architecture, size and capabilities
/show license      Its license
/show modelfile    Its Modelfile
/show parameters   Its options, and those set here
/show system       The system message
/show template     Its prompt template
""",
    "shortcuts": """\
Ctrl-A   To the beginning of the line; Ctrl-E to the end
Alt-B    Back by a word; Alt-F forward by a word
Ctrl-K   Delete to the end of the line; Ctrl-U to the beginning
Ctrl-W   Delete the word before the cursor
Ctrl-R   Search in the lines typed before
Ctrl-L   Clear the screen
Ctrl-G   Write the message in a text editor
Ctrl-C   Stop the answer
Ctrl-D   Leave
Tab      Complete a command
""",
}

Words = Mapping[str, Any]  # what may follow each word: again Words

_NOTHING: Words = {}
_SETTINGS: Words = {
    "parameter": dict.fromkeys(OPTION_TYPES, _NOTHING),
    "system": _NOTHING,
    "format": {"json": _NOTHING},
    "think": dict.fromkeys(THINK_LEVELS, _NOTHING),
    **dict.fromkeys(("history", "nohistory", "wordwrap", "nowordwrap", "noformat"), _NOTHING),
    **dict.fromkeys(("verbose", "quiet", "nothink"), _NOTHING),
}
_TOPICS: Words = dict.fromkeys(HELP_TOPICS, _NOTHING)
WORDS: Words = {
    "/set": _SETTINGS,
    "/show": dict.fromkeys(("info", *PARTS), _NOTHING),
    "/load": _NOTHING,
    "/save": _NOTHING,
    "/list": _NOTHING,
    "/clear": _NOTHING,
    "/bye": _NOTHING,
    "/exit": _NOTHING,
    "/?": _TOPICS,
    "/help": _TOPICS,
}


def candidates(text: str, models: Sequence[str]) -> list[str]:
    """The words that complete the last word of a line; none for a message to the model."""
    if not text.startswith("/"):
        return []
    *before, last = text.split(" ")
    fitting: Words = WORDS
    for word in before:
        fitting = fitting.get(word, _NOTHING)
    words = models if text.startswith(MODEL_COMMANDS) and len(before) == 1 else fitting
    return sorted(word for word in words if word.startswith(last))
