"""The command `outrider top`: what is the daemon doing, shown anew each second?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
import termios
import tty
from collections.abc import Iterator

import click

from . import top_view
from .client import Client, Json
from .connect import with_client
from .environment import EnvironmentCommand

INTERVAL_S = 1.0  # between two snapshots
PATH = "/api/snapshot"
PIPE_COLUMNS = 200  # of a line where there is no terminal
# ECMA-48 and xterm: the other screen and back, the cursor away and back, home, erase to the end.
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, ERASE_LINE, ERASE_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
QUIT_KEYS = frozenset({b"q", b"Q", b"\x1b", b"\x03", b"\x04"})  # Escape, Ctrl-C and Ctrl-D, too


@click.command(cls=EnvironmentCommand)
@click.option("--once", is_flag=True, help="Print one snapshot, with the rates of one second.")
@click.option("--json", "as_json", is_flag=True, help="Print one snapshot as JSON.")
@with_client
async def top(client: Client, /, once: bool, as_json: bool) -> None:
    """Show what the daemon is doing: models, speculation, requests. q ends it."""
    if as_json:
        click.echo(json.dumps(await client.get(PATH), indent=2))
    elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
        before = await client.get(PATH)
        await asyncio.sleep(INTERVAL_S)
        width = shutil.get_terminal_size((PIPE_COLUMNS, 0)).columns
        click.echo(top_view.render(await client.get(PATH), before, width=width))
    else:
        await _watch(client)


async def _watch(client: Client) -> None:
    """Until a key ends it."""
    before, now = None, await client.get(PATH)  # an error is told on the usual screen
    with _screen(), _keys() as quit_:
        while not quit_.is_set():
            _paint(now, before)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(quit_.wait(), INTERVAL_S)
                return
            before, now = now, await client.get(PATH)


def _paint(now: Json, before: Json | None) -> None:
    width, height = shutil.get_terminal_size()
    lines = top_view.render(now, before, width=width, height=height - 1).split("\n")
    text = "\r\n".join(line + ERASE_LINE for line in lines)
    sys.stdout.write(f"{HOME}{text}{ERASE_BELOW}\x1b[{height};1Hq: quit{ERASE_LINE}")
    sys.stdout.flush()


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """The other screen of the terminal, which leaves what was there before as it was."""
    sys.stdout.write(ENTER)
    try:
        yield
    finally:
        sys.stdout.write(LEAVE)
        sys.stdout.flush()


@contextlib.contextmanager
def _keys() -> Iterator[asyncio.Event]:
    """An event that a key sets which ends the command; keys are read one by one, unseen."""
    quit_, loop, fd = asyncio.Event(), asyncio.get_running_loop(), sys.stdin.fileno()
    saved = termios.tcgetattr(fd)

    def read() -> None:
        pressed = os.read(fd, 64)
        if not pressed or pressed in QUIT_KEYS:
            quit_.set()

    tty.setcbreak(fd)
    loop.add_reader(fd, read)
    try:
        yield quit_
    finally:
        loop.remove_reader(fd)
        termios.tcsetattr(fd, termios.TCSADRAIN, saved)
