"""What does `outrider grafana` print? A dashboard that shows the daemon's metrics."""

from __future__ import annotations

import json

import click

from ..metrics.dashboard import dashboard


@click.command()
def grafana() -> None:
    """Print a Grafana dashboard for the metrics.

    Grafana imports it (Dashboards, New, Import); Prometheus has to read http://HOST:PORT/metrics
    of the daemon.
    """
    click.echo(json.dumps(dashboard(), indent=2))
