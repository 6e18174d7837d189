"""How does the table of all settings in daemon/README.md read? Generated from the settings."""

from __future__ import annotations

from .config import OLLAMAS, ONLY_FLAGS, ONLY_OURS, OURS, UNUSED, WITHOUT_PREFIX, Settings

HEAD = f"| variable, with `{OURS}` or `{OLLAMAS}` in front | default | meaning |\n|---|---|---|\n"
OF_COMMANDS = (("NOHISTORY", "false", "whether `run` keeps no history of its prompt"),)


def render_settings() -> str:
    """The table as Markdown, one line for each variable, in the order of the settings."""
    fields = [field for field in Settings.model_fields.values() if field.validation_alias]
    rows = [
        (str(field.validation_alias), field.default, field.description or "")
        for field in fields
        if field.validation_alias not in ONLY_FLAGS
    ]
    return HEAD + "".join(_row(*row) for row in (*rows, *OF_COMMANDS))


def render_unused() -> str:
    """The variables of Ollama that change nothing, as a Markdown list."""
    return "".join(f"- `{OLLAMAS}{name}`: {reason}\n" for name, reason in sorted(UNUSED.items()))


def _row(name: str, default: object, meaning: str) -> str:
    shown = "-" if default in (None, "") else f"`{default}`"
    alone = " (without prefix)" if name in WITHOUT_PREFIX else ""
    alone = f" (`{OURS}` only)" if name in ONLY_OURS else alone
    return f"| `{name}`{alone} | {shown} | {meaning} |\n"


if __name__ == "__main__":
    print(render_settings() + "\n" + render_unused(), end="")
