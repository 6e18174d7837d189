"""How are the steps of an installation carried out, and undone where one fails?"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import OutriderError
from .installation import CommandStep, RemoveFile, Step, WriteFile

COMMAND_S = 900.0  # a start may have to wait for the streams of the daemon before it
ERROR = "Error: "  # how the daemon begins when it cannot start
Undo = Callable[[], None]


class ServiceFailed(OutriderError):
    """The service could not be installed, removed or asked."""


def carry_out(steps: Sequence[Step], tell: Callable[[str], None]) -> None:
    """Do the steps in turn, and tell each. Raises ServiceFailed; all is as it was then."""
    undos: list[Undo] = []
    try:
        for step in steps:
            if told := _do(step, undos):
                tell(told)
    except (ServiceFailed, OSError, KeyboardInterrupt) as error:
        for undo in reversed(undos):
            undo()
        if isinstance(error, OSError):
            raise ServiceFailed(f"{error.filename}: {error.strerror}") from None
        raise


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a command. Raises ServiceFailed if there is no such command."""
    try:
        return subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=COMMAND_S, check=False
        )
    except FileNotFoundError:
        raise ServiceFailed(f"there is no command {argv[0]} on this machine") from None
    except subprocess.TimeoutExpired:
        raise ServiceFailed(f"`{' '.join(argv)}` has not come to an end") from None


def _do(step: Step, undos: list[Undo]) -> str:
    """What was done, or nothing if nothing had to be."""
    if isinstance(step, CommandStep):
        return _run(step, undos)
    before = _read(step.path)
    if isinstance(step, RemoveFile):
        if before is None:
            return ""
        undos.append(lambda: _write(WriteFile(step.path, before)))
        step.path.unlink()
        return f"removed {step.path}"
    step.path.parent.mkdir(parents=True, exist_ok=True)
    undos.append(lambda: _restore(step, before))
    _write(step)
    return f"{'kept' if before == step.text else 'wrote'} {step.path}"


def _run(step: CommandStep, undos: list[Undo]) -> str:
    if step.undo:
        undos.append(lambda: _ignore_outcome(step.undo))
    done = run(*step.argv)
    if done.returncode == 0:
        return step.told
    if step.may_fail:
        return ""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    why = _reason(step.log) or (lines[0] if lines else f"exit status {done.returncode}")
    raise ServiceFailed(f"`{' '.join(step.argv)}` failed: {why}")


def _reason(log: Sequence[str]) -> str:
    """The last error that a log shows."""
    lines = run(*log).stdout.splitlines() if log else []
    errors = [line for line in lines if line.startswith(ERROR)]
    return errors[-1].removeprefix(ERROR) if errors else ""


def _ignore_outcome(argv: Sequence[str]) -> None:
    run(*argv)


def _read(path: Path) -> str | None:
    return path.read_text("utf-8") if path.exists() else None


def _write(step: WriteFile) -> None:
    """In one piece, and with its mode from the start: it may hold keys."""
    fresh = step.path.with_name(f".{step.path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(step.text)
    if step.group:
        shutil.chown(fresh, group=step.group)
    fresh.chmod(step.mode)
    fresh.replace(step.path)


def _restore(step: WriteFile, before: str | None) -> None:
    if before is None:
        step.path.unlink(missing_ok=True)
    else:
        _write(WriteFile(step.path, before, step.mode, step.group))
