"""`doctor`: what has this machine, what will Outrider use, what is wrong, and how is it mended?"""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

import click
import msgspec

from ..config import Settings
from ..diagnosis.checks import diagnose
from ..diagnosis.facts import AddressUse
from ..diagnosis.survey import survey
from ..errors import OutriderError
from .client import Client
from .connect import with_client
from .doctor_view import render
from .environment import EnvironmentCommand

PORT_TIMEOUT_S = 2.0  # for another program to take a connection


@click.command(cls=EnvironmentCommand)
@click.option("--json", "as_json", is_flag=True, help="Print the facts and findings as JSON.")
@click.option(
    "--models",
    type=click.Path(),
    envvar=("OUTRIDER_MODELS", "OLLAMA_MODELS"),
    help="Where models are stored.",
)
@with_client
async def doctor(client: Client, /, as_json: bool, models: str | None) -> None:
    """Show what this machine has, what Outrider will use, and what is wrong.

    Exits with 1 if something is wrong. A daemon need not run.
    """
    folder = Settings.load(models=models).models
    facts = survey(folder, await who_answers(client), os.environ)
    findings = diagnose(facts)
    if as_json:
        told = msgspec.json.encode({"facts": facts, "findings": findings})
        click.echo(msgspec.json.format(told).decode())
    else:
        click.echo(render(facts, findings))
    if any(finding.is_problem for finding in findings):
        raise click.exceptions.Exit(1)


async def who_answers(client: Client) -> AddressUse:
    """The program at the address of the daemon: only Outrider sends a header with its version."""
    try:
        version = str((await client.get("/api/version")).get("version", ""))
    except OutriderError:
        return AddressUse(client.base_url, "other" if _is_listening(client.base_url) else "")
    if client.daemon_version is not None:
        return AddressUse(client.base_url, "outrider", client.daemon_version)
    return AddressUse(client.base_url, "ollama" if version else "other", version)


def _is_listening(url: str) -> bool:
    """Whether anything takes a TCP connection there."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), PORT_TIMEOUT_S):
            return True
    except OSError:
        return False
