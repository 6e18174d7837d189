"""Does daemon/README.md tell all settings, and nothing else?"""

from __future__ import annotations

from pathlib import Path

import pytest
from outrider.daemon.config import Settings
from outrider.daemon.settings_table import render_settings, render_unused

pytestmark = pytest.mark.unit

README = Path(__file__).parents[2] / "daemon/README.md"
RENEW = "python -m outrider.daemon.settings_table prints what belongs into daemon/README.md"


def test_the_readme_has_the_table_of_the_settings() -> None:
    text = README.read_text("utf-8")
    assert render_settings() in text, RENEW
    assert render_unused() in text, RENEW


def test_every_setting_has_a_line() -> None:
    lines = render_settings().splitlines()
    variables = {str(field.validation_alias) for field in Settings.model_fields.values()}
    missing = variables - {"PORT", "None"} - {line.split("`")[1] for line in lines[2:]}
    assert not missing
    assert "| `KEEP_ALIVE` | `5m` | how long" in render_settings()
