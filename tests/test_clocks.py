"""Do clocks that jump disturb anything? Not what waits or measures: that uses the monotonic clock.

The time of day is for what people and other machines read, and for the age of files, which the file
system has by it. Each use is listed with its reason.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
CODE = ("daemon", "models", "quant")
WALL_CLOCK = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")}
WALL_CLOCK |= {("datetime", "today"), ("date", "today"), ("time", "localtime")}

USES = {  # by file: how often, and what for
    "daemon/api/live.py": (1, "the page shows when a request came"),
    "daemon/api/ollama/answer.py": (1, "created_at"),
    "daemon/api/ollama/library.py": (1, "expires_at"),
    "daemon/api/openai/envelope.py": (1, "created"),
    "daemon/api/openai/responses.py": (1, "created_at"),
    "daemon/api/openai/responses_answer.py": (1, "completed_at"),
    "daemon/api/recent.py": (1, "the page shows when a request came"),
    "daemon/chat/render/builtin/harmony.py": (1, "dates in prompts"),
    "daemon/chat/render/go_template.py": (2, "dates in prompts"),
    "daemon/chat/render/jinja.py": (1, "dates in prompts"),
    "daemon/chat/render/sandbox.py": (1, "dates in prompts"),
    "daemon/cli/list_commands.py": (2, "ages of models in a table"),
    "daemon/cli/repl.py": (1, "ages of models in a table"),
    "daemon/tracing/spans.py": (2, "spans have the time of day"),
    "models/manifest_folder.py": (1, "the age of empty folders"),
    "models/prune.py": (1, "the age of files"),
    "models/sources/resumable.py": (1, "the age of files"),
    "models/sources/token.py": (1, "a time that a registry checks"),
    "models/sources/transport.py": (1, "a date in Retry-After"),
}


def find_uses() -> dict[str, int]:
    """How often each file asks for the time of day."""
    found: dict[str, int] = defaultdict(int)
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    found[str(path.relative_to(ROOT))] += (node.value.id, node.attr) in WALL_CLOCK
    return {path: count for path, count in found.items() if count}


def test_the_time_of_day_is_used_where_it_is_listed() -> None:
    assert find_uses() == {path: count for path, (count, _) in USES.items()}


def test_nobody_imports_the_time_of_day_under_another_name() -> None:
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == "time":
                    names = {alias.name for alias in node.names}
                    assert not names & {"time", "time_ns", "localtime"}, path
