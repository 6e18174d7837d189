"""Is a header read from another host with no more bytes than it takes?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hub_server import SIGNATURE, HubServer, sha256
from outrider.models.sources.download import RemoteFile
from outrider.models.sources.hf_drafters import TOKENS
from outrider.models.sources.hf_header import read_remote_header
from outrider.models.sources.retry import RetryPolicy
from outrider.models.sources.transport import HttpClient
from outrider.quant.gguf import GGUFError, Header, read_header
from tiny import write_llama

pytestmark = pytest.mark.unit


@pytest.fixture
async def hub() -> AsyncIterator[HubServer]:
    async with HubServer().serve() as server:
        yield server


async def read(hub: HubServer, data: bytes, first_bytes: int) -> Header:
    hub.add("user/any", {"any.gguf": data})
    remote = RemoteFile(f"{hub.storage_url}/{sha256(data)}?{SIGNATURE}", None, len(data))
    async with HttpClient(insecure=True) as http:
        return await read_remote_header(
            http, RetryPolicy(1), remote, arrays={TOKENS}, first_bytes=first_bytes
        )


@pytest.mark.parametrize("first_bytes", [4, 100, 3_001, 12_000, 1 << 20])
async def test_the_header_is_that_of_the_file(
    hub: HubServer, tmp_path: Path, first_bytes: int
) -> None:
    path = write_llama(tmp_path / "tiny.gguf")
    expected = read_header(path, arrays={TOKENS})
    found = await read(hub, path.read_bytes(), first_bytes)
    assert dict(found.values) == dict(expected.values)
    assert (found.tensors, found.size_bytes) == (expected.tensors, expected.size_bytes)
    start = min(tensor.offset for tensor in expected.tensors)
    assert hub.sent_bytes < 4 * start or first_bytes >= start
    assert hub.sent_bytes <= max(first_bytes, 4 * start)


async def test_a_range_that_ends_anywhere_in_the_header_is_not_enough(
    hub: HubServer, tmp_path: Path
) -> None:
    """Zeros in place of the rest must never pass for a header."""
    path = write_llama(tmp_path / "tiny.gguf")
    data, expected = path.read_bytes(), read_header(path)
    start = min(tensor.offset for tensor in expected.tensors)
    for end in (*range(start - 130, start, 11), start - 1, start):
        assert (await read(hub, data, end)).tensors == expected.tensors


async def test_what_is_no_gguf_is_told_after_the_first_bytes(hub: HubServer) -> None:
    with pytest.raises(GGUFError, match="is not a GGUF file"):
        await read(hub, b"PK" + bytes(100_000), 1_000)
    assert hub.sent_bytes == 1_000


async def test_a_damaged_header(hub: HubServer, tmp_path: Path) -> None:
    data = write_llama(tmp_path / "tiny.gguf").read_bytes()
    with pytest.raises(GGUFError, match="no usable GGUF file"):
        await read(hub, data[:-8], 1 << 20)
