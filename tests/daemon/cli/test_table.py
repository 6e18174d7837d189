"""Tables as the terminal shows them."""

from datetime import UTC, datetime

import pytest
from outrider.daemon.cli import table

pytestmark = pytest.mark.unit

NOW = datetime(2026, 3, 3, 12, tzinfo=UTC)
STORED = {
    "models": [
        {
            "name": "llama3.2:1b",
            "digest": "baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878",
            "size": 1_321_098_329,
            "modified_at": "2026-03-01T13:00:00.123456789+01:00",
        },
        {"name": "Cloudy:latest", "digest": "a" * 64, "size": 300, "remote_model": "big"},
    ]
}


def test_columns_are_left_aligned_with_gutters_of_four() -> None:
    assert table.render([("A", "LONG", "C"), ("four", "b", "")]) == "A       LONG    C\nfour    b"


def test_list() -> None:
    assert table.stored(STORED, "", NOW).splitlines() == [
        "NAME             ID              SIZE      MODIFIED",
        "llama3.2:1b      baf6a787fdff    1.3 GB    47 hours ago",
        "Cloudy:latest    aaaaaaaaaaaa    -         -",
    ]


def test_a_prefix_chooses_whatever_its_case() -> None:
    lines = table.stored(STORED, "cLOUD", NOW).splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "Cloudy:latest"]


def test_an_empty_store_has_a_header() -> None:
    assert table.stored({"models": []}, "", NOW) == "NAME    ID    SIZE    MODIFIED"


def test_ps() -> None:
    model = {
        "name": "m:latest",
        "digest": "0123456789abcdef",
        "size": 100_000_000,
        "size_vram": 69_000_000,
        "context_length": 8192,
        "expires_at": "2026-03-03T12:04:30Z",
    }
    kept = {**model, "name": "k:1", "size_vram": 100_000_000, "expires_at": "2318-01-01T00:00:00Z"}
    gone = {**model, "name": "g:1", "size_vram": 0, "expires_at": "0001-01-01T00:00:00Z"}
    assert table.loaded({"models": [model, kept, gone]}, "", NOW).splitlines() == [
        "NAME        ID              SIZE      PROCESSOR          CONTEXT    UNTIL",
        "m:latest    0123456789ab    100 MB    31%/69% CPU/GPU    8192       4 minutes from now",
        "k:1         0123456789ab    100 MB    100% GPU           8192       Forever",
        "g:1         0123456789ab    100 MB    100% CPU           8192       Stopping...",
    ]


def test_ps_shows_the_drafters() -> None:
    model = {"name": "m:latest", "digest": "0123456789abcdef", "size": 100, "expires_at": ""}
    busy = {"drafters": ["ngram", "assistant"], "drafted": 200, "accepted": 82}
    refused = {"drafters": ["ngram"], "refusal": "no drafter: ...", "drafted": 0, "accepted": 0}
    models = [
        model,
        {**model, "speculation": {**busy, "mean_length": 3.21, "estimated_speedup": 1.204}},
        {**model, "speculation": {**refused, "mean_length": 0.0, "estimated_speedup": 1.0}},
    ]
    header, *rows = table.loaded({"models": models}, "", NOW).splitlines()
    assert header.endswith("    UNTIL    DRAFTER")
    assert rows[0].endswith("    -        -")
    assert rows[1].endswith("    ngram+assistant 41% of 3.2, 1.20x")
    assert rows[2].endswith("    ngram (no drafter: ...)")


def test_a_time_that_cannot_be_read_is_a_dash() -> None:
    models = [{"name": "a", "modified_at": text} for text in ("yesterday", "2026-03-01T13:00:00")]
    for line in table.stored({"models": models}, "", NOW).splitlines()[1:]:
        assert line.endswith("    -")
