"""Which settings change while the daemon runs (SIGHUP), and which need a restart?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import Settings
from .environment_file import parse_environment
from .errors import ConfigError

Apply = Callable[[Settings], None]
NO_SETTINGS = frozenset({"warnings"})  # fields of Settings that nobody sets


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """What became of the settings that differ, by their variables without a prefix."""

    applied: tuple[str, ...]
    waiting: tuple[str, ...]  # for a restart

    def __str__(self) -> str:
        parts = [f"applied: {', '.join(self.applied)}"] if self.applied else []
        parts += [f"needs a restart: {', '.join(self.waiting)}"] if self.waiting else []
        return "settings were read again; " + ("; ".join(parts) or "none has changed")


def compare(old: Settings, new: Settings, live: Mapping[str, Apply]) -> ReloadOutcome:
    """Which of the settings that differ can change now: those with a function in `live`."""
    fields = Settings.model_fields
    names = [name for name in fields if getattr(old, name) != getattr(new, name)]
    names = [name for name in names if name not in NO_SETTINGS]
    applied = tuple(str(fields[name].validation_alias) for name in names if name in live)
    waiting = tuple(str(fields[name].validation_alias) for name in names if name not in live)
    return ReloadOutcome(applied, waiting)


@dataclass(slots=True)
class Reloader:
    """The settings in force, and how those that may change are put into force."""

    settings: Settings
    load: Callable[[], Settings]  # from the command line and the environment; raises ConfigError
    file: SettingsFile
    live: Mapping[str, Apply]  # by field of Settings

    def reload(self) -> ReloadOutcome:
        """Read all settings again. Raises ConfigError if one is bad; nothing has changed then."""
        self.file.refresh()
        try:
            new = self.load()
        except ConfigError:
            self.file.restore()
            raise
        outcome = compare(self.settings, new, self.live)
        fields = Settings.model_fields
        for name, apply in self.live.items():
            if str(fields[name].validation_alias) in outcome.applied:
                apply(new)
        changed = {name: getattr(new, name) for name in self.live}
        self.settings = self.settings.model_copy(update=changed)
        return outcome


@dataclass(slots=True)
class SettingsFile:
    """The file whose variables the service manager has put into the environment of the daemon."""

    path: Path
    _values: dict[str, str]
    _undo: tuple[dict[str, str], dict[str, str | None]] = ({}, {})

    @classmethod
    def open(cls, path: Path) -> SettingsFile:
        """The file, whose variables were set when the daemon started. Raises ConfigError if it
        cannot be read."""
        return cls(path, _read(path))

    def refresh(self) -> None:
        """Set the variables that the file has now, and unset those that it had. Raises
        ConfigError if it cannot be read."""
        values = _read(self.path)
        names = {*self._values, *values}
        self._undo = self._values, {name: os.environ.get(name) for name in names}
        _set({name: values.get(name) for name in names})
        self._values = values

    def restore(self) -> None:
        """Undo the last `refresh`."""
        self._values, before = self._undo
        _set(before)


def _read(path: Path) -> dict[str, str]:
    try:
        return parse_environment(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot read the settings in {path}: {error}") from None


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
