"""Is an Ollama folder served as it is, and never left worse than it was found?"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from ollama_folder import MEDIA, files, put_blob, put_model
from outrider.models import manifest as media
from outrider.models.blobs import Blob
from outrider.models.errors import (
    DamagedModel,
    InvalidName,
    ModelNotFound,
    NoSpace,
    UnreadableStore,
)
from outrider.models.lock import locked
from outrider.models.manifest import Layer, Manifest
from outrider.models.model import Config
from outrider.models.name import Name
from outrider.models.store import Store

pytestmark = pytest.mark.unit

LIBRARY = "registry.ollama.ai/library"
WEIGHTS = b"GGUF weights"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root)


def names(store: Store) -> list[str]:
    return [model.name.short for model in store.list()]


def written(store: Store, name: str, *contents: bytes) -> None:
    """Writes a model of these weights through the store's own door."""
    layers = tuple(store.blobs.add_bytes(data).layer(media.MODEL) for data in contents)
    config = store.blobs.add_bytes(b'{"model_format":"gguf"}').layer(media.CONFIG_TYPE)
    store.write(Name.parse(name), Manifest(config, layers))


def blob_path(root: Path, data: bytes) -> Path:
    return root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}"


def age(root: Path) -> None:
    """Makes everything two hours older."""
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 7200,) * 2)


def test_a_missing_folder_is_empty_and_stays_missing(store: Store) -> None:
    store.sweep()
    assert store.list() == []
    assert store.find(Name.parse("x")) is None
    with pytest.raises(ModelNotFound, match=r"^model 'x' not found$"):
        store.resolve("x")
    assert not store.root.exists()


def test_reads_everything_that_ollama_writes(root: Path, store: Store) -> None:
    config = {
        "model_format": "gguf",
        "model_family": "gemma3",
        "model_families": ["gemma3", "clip"],
        "model_type": "4.3B",
        "file_type": "Q4_K_M",
        "renderer": "gemma",
        "parser": "gemma",
        "requires": "0.14.0",
        "capabilities": ["vision"],
        "context_length": 8192,
        "embedding_length": 640,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["x"]},
    }
    path = put_model(
        root,
        f"{LIBRARY}/full/1b",
        [
            ("model", WEIGHTS),
            ("projector", b"eyes"),
            ("adapter", b"lora"),
            ("draft", b"drafter"),
            ("template", "{{ .Prompt }} ü".encode()),
            ("system", b"be kind"),
            ("params", b'{"stop": ["a", "b"], "temperature": 0.5}'),
            ("messages", b'[{"role": "user", "content": "hi"}]'),
            ("license", b"one"),
            ("license", b"two"),
            ("embed", b"obsolete"),
            ("from.the.future", b"?"),
        ],
        config=config,
        modified_s=1_700_000_000,
        source="/parent",
    )
    model = store.resolve("full:1b")

    def blob(data: bytes) -> Path:
        return root / "blobs" / f"sha256-{hashlib.sha256(data).hexdigest()}"

    wire = json.loads(path.read_bytes())
    assert model.name == Name.parse("full:1b")
    assert model.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.modified_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert model.modified_at.utcoffset() is not None
    assert model.size_bytes == sum(x["size"] for x in [wire["config"], *wire["layers"]])
    assert model.config == Config(
        model_format="gguf",
        model_family="gemma3",
        model_families=("gemma3", "clip"),
        model_type="4.3B",
        file_type="Q4_K_M",
        renderer="gemma",
        parser="gemma",
        requires="0.14.0",
        capabilities=("vision",),
        context_length=8192,
        embedding_length=640,
    )
    assert model.model_path == blob(WEIGHTS)
    assert model.parent_model == "/parent"
    assert model.projector_paths == (blob(b"eyes"),)
    assert model.adapter_paths == (blob(b"lora"),)
    assert model.draft_path == blob(b"drafter")
    assert model.template == "{{ .Prompt }} ü"
    assert model.system == "be kind"
    assert model.params == {"stop": ["a", "b"], "temperature": 0.5}
    assert model.messages == ({"role": "user", "content": "hi"},)
    assert model.licenses == ("one", "two")
    assert store.list() == [model]


def test_what_is_not_there_is_empty(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/stub/latest", [], config={"remote_host": "h", "remote_model": "m"})
    model = store.resolve("stub")
    assert model.model_path is None
    assert model.draft_path is None
    assert model.template is None
    assert (model.projector_paths, model.adapter_paths, model.licenses, model.messages) == ((),) * 4
    assert (model.system, model.parent_model, dict(model.params)) == ("", "", {})
    assert (model.config.remote_host, model.config.model_families) == ("h", None)


def test_the_old_name_of_a_template_counts(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/old/latest", [("model", WEIGHTS), ("prompt", b"{{ .Prompt }}")])
    assert store.resolve("old").template == "{{ .Prompt }}"


def test_lists_all_hosts_newest_first(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/a/latest", [("model", b"1")], modified_s=100)
    put_model(root, "hf.co/u/r/Q4_K_M", [("model", b"2")], modified_s=300)
    put_model(root, "registry.ollama.ai/user/x/1b", [("model", b"3")], modified_s=200)
    put_model(root, "localhost:5000/library/y/latest", [("model", b"4")], modified_s=50)
    assert names(store) == [
        "hf.co/u/r:Q4_K_M",
        "user/x:1b",
        "a:latest",
        "localhost:5000/library/y:latest",
    ]


def test_damaged_models_are_left_out_with_a_warning(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    put_model(root, f"{LIBRARY}/good/latest", [("model", WEIGHTS)])
    put_model(root, f"{LIBRARY}/corrupt/latest", []).write_bytes(b"{")
    put_model(root, f"{LIBRARY}/.hidden/latest", [])
    put_model(root, f"{LIBRARY}/hollow/latest", [("model", b"gone")])
    (root / "blobs" / f"sha256-{hashlib.sha256(b'gone').hexdigest()}").unlink()
    (root / "manifests" / "registry.ollama.ai" / "stray").write_text("a file where a folder goes")
    with caplog.at_level(logging.WARNING):
        assert names(store) == names(store) == ["good:latest"]
    assert len(caplog.records) == 2  # once each, and nothing about .hidden
    assert all(word in caplog.text for word in ("corrupt:latest", "hollow:latest"))


@pytest.mark.parametrize("text", ["MIXED:TAG", "mixed:tag", "Library/mixed:Tag"])
def test_lookup_ignores_case(root: Path, store: Store, text: str) -> None:
    put_model(root, "Registry.Ollama.AI/library/Mixed/Tag", [("model", WEIGHTS)])
    assert store.resolve(text).name == Name("Registry.Ollama.AI", "library", "Mixed", "Tag")


def test_the_exact_case_wins(root: Path, store: Store) -> None:
    for tag in ("B", "a", "b"):
        put_model(root, f"{LIBRARY}/m/{tag}", [("model", tag.encode())])
    assert store.resolve("m:b").name.tag == "b"
    assert store.resolve("m:B").name.tag == "B"


def test_bad_names_are_refused(store: Store) -> None:
    with pytest.raises(InvalidName):
        store.resolve("../../etc/passwd")


def test_corrupt_manifest_says_what_to_do(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/x/latest", []).write_bytes(b"{")
    with pytest.raises(DamagedModel, match=r"'x:latest' is damaged: not a model manifest.*remove"):
        store.resolve("x")


def test_missing_and_truncated_blobs_are_named(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/x/latest", [("model", WEIGHTS)])
    blob = root / "blobs" / f"sha256-{hashlib.sha256(WEIGHTS).hexdigest()}"
    blob.write_bytes(WEIGHTS[:4])
    with pytest.raises(DamagedModel, match=f"{blob} has 4 bytes instead of {len(WEIGHTS)}"):
        store.resolve("x")
    blob.unlink()
    with pytest.raises(DamagedModel, match=f"{blob} is missing"):
        store.resolve("x")


@pytest.mark.parametrize(
    ("kind", "data"), [("params", b"[1]"), ("params", b"{"), ("messages", b"{}")]
)
def test_unreadable_layers_are_named(root: Path, store: Store, kind: str, data: bytes) -> None:
    put_model(root, f"{LIBRARY}/x/latest", [("model", WEIGHTS), (kind, data)])
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(DamagedModel, match=f"sha256-{digest} is not readable"):
        store.resolve("x")


def test_a_hostile_manifest_reads_nothing_outside(root: Path, store: Store) -> None:
    manifest = put_model(root, f"{LIBRARY}/x/latest", [("system", b"s")])
    wire = json.loads(manifest.read_bytes())
    wire["layers"][0] = {"mediaType": MEDIA + "system", "digest": "sha256-/../../secret", "size": 1}
    (root / "secret").write_bytes(b"s")
    manifest.write_text(json.dumps(wire))
    with pytest.raises(DamagedModel, match="invalid digest format"):
        store.resolve("x")
    store.delete(Name.parse("x"))
    assert (root / "secret").exists()


def test_write_lays_out_as_ollama_does(store: Store) -> None:
    written(store, "user/x:1b", WEIGHTS)
    config, weights = (hashlib.sha256(d).hexdigest() for d in (b'{"model_format":"gguf"}', WEIGHTS))
    assert files(store.root) == {
        "manifests/registry.ollama.ai/user/x/1b",
        f"blobs/sha256-{config}",
        f"blobs/sha256-{weights}",
    }
    assert store.resolve("user/x:1b").model_path == store.root / "blobs" / f"sha256-{weights}"


def test_write_reuses_the_case_that_is_there(store: Store) -> None:
    written(store, "Foo:Big", b"1")
    written(store, "foo:big", b"2")
    written(store, "FOO:small", b"3")
    assert sorted(names(store)) == ["Foo:Big", "Foo:small"]


def test_write_refuses_absent_blobs(store: Store) -> None:
    layer = Layer(media.MODEL, "sha256:" + "0" * 64, 3)
    with pytest.raises(DamagedModel, match="is missing"):
        store.write(Name.parse("x"), Manifest(layer, ()))
    assert files(store.root) == set()


def test_replacing_a_model_frees_what_it_alone_used(store: Store) -> None:
    written(store, "x", b"alone", b"shared")
    written(store, "y", b"shared")
    written(store, "x", b"new")
    kept = {path.read_bytes() for path in store.blobs.root.iterdir()}
    assert kept == {b"shared", b"new", b'{"model_format":"gguf"}'}


def test_copy_keeps_the_digest(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/a/latest", [("model", WEIGHTS)], modified_s=100)
    store.copy(Name.parse("A"), Name.parse("hf.co/user/b:2"))
    one, two = store.resolve("a"), store.resolve("hf.co/user/b:2")
    assert one.digest == two.digest
    assert two.modified_at > one.modified_at
    store.copy(Name.parse("a"), Name.parse("a"))
    assert store.resolve("a").digest == one.digest


def test_copy_of_nothing(store: Store) -> None:
    with pytest.raises(ModelNotFound) as caught:
        store.copy(Name.parse("a"), Name.parse("b"))
    assert caught.value.name == "a:latest"


def test_delete_spares_shared_blobs(store: Store) -> None:
    written(store, "x", b"alone", b"shared")
    written(store, "y", b"shared")
    store.delete(Name.parse("X"))
    assert names(store) == ["y:latest"]
    kept = {path.read_bytes() for path in store.blobs.root.iterdir()}
    assert kept == {b"shared", b'{"model_format":"gguf"}'}
    store.delete(Name.parse("y"))
    assert files(store.root) == set()
    assert list((store.root / "manifests").iterdir()) == []


def test_delete_keeps_siblings_folders(store: Store) -> None:
    written(store, "x:1", b"1")
    written(store, "x:2", b"2")
    store.delete(Name.parse("x:1"))
    assert names(store) == ["x:2"]


def test_delete_of_nothing(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        store.delete(Name.parse("x"))


def test_delete_takes_damaged_models_too(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/x/latest", []).write_bytes(b"{")
    store.delete(Name.parse("x"))
    assert store.find(Name.parse("x")) is None


def test_no_blob_goes_while_a_part_of_a_manifest_is_there(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """What the lost part named is not known; the warning says which file is in the way."""
    put_model(root, f"{LIBRARY}/x/latest", [("model", WEIGHTS)])
    part = put_model(root, f"{LIBRARY}/corrupt/latest", [])
    part.write_bytes(part.read_bytes()[:60])
    store.delete(Name.parse("x"))
    assert blob_path(root, WEIGHTS).exists()
    assert f"unused blobs are kept: {part} is damaged" in caplog.text


STRAYS = {".DS_Store": b"Bud1", "latest.meta": b"notes", "latest": b""}


@pytest.mark.parametrize("name", STRAYS)
def test_a_stray_file_disturbs_nobody(root: Path, store: Store, name: str) -> None:
    written(store, "x", WEIGHTS)
    stray = root / "manifests" / LIBRARY / "stray" / name
    stray.parent.mkdir()
    stray.write_bytes(STRAYS[name])
    (root / "manifests" / ".DS_Store").write_bytes(b"Bud1")
    (root / "manifests" / LIBRARY / "Thumbs.db").write_bytes(b"")
    (root / "blobs" / ".DS_Store").write_bytes(b"Bud1")
    age(root)
    store.prune()
    assert names(store) == ["x:latest"]
    store.copy(Name.parse("x"), Name.parse("y"))
    store.delete(Name.parse("x"))
    store.delete(Name.parse("y"))
    assert {path.name for path in store.blobs.root.iterdir()} == {".DS_Store"}
    assert stray.read_bytes() == STRAYS[name]


def test_prune_spares_what_is_new_or_named(root: Path, store: Store) -> None:
    written(store, "x", WEIGHTS)
    old, new, claimed = (put_blob(root, data) for data in (b"old", b"new", b"claimed"))
    (root / "manifests" / LIBRARY / "killed").mkdir()
    age(root)
    os.utime(store.blobs.path(new))
    assert store.blobs.claim(claimed)
    assert store.prune().num_files == 1
    assert [store.blobs.has(digest) for digest in (old, new, claimed)] == [False, True, True]
    assert names(store) == ["x:latest"]
    assert not (root / "manifests" / LIBRARY / "killed").exists()


def test_a_store_that_another_process_changes_is_not_pruned(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    put_blob(root, b"old")
    age(root)
    with locked(root):
        assert store.prune(patience_s=0).num_files == 0
    assert "is not pruned: another process" in caplog.text
    assert store.prune(patience_s=0).num_files == 1


def test_deleting_prunes_too(root: Path, store: Store) -> None:
    written(store, "x", WEIGHTS)
    digest = put_blob(root, b"of a refused create")
    age(root)
    store.delete(Name.parse("x"))
    assert not store.blobs.has(digest)


def test_without_pruning_only_the_blobs_of_a_deleted_model_go(root: Path) -> None:
    store = Store(root, prunes=False)
    written(store, "x", b"1")
    written(store, "x", b"2")
    age(root)
    store.prune()
    assert blob_path(root, b"1").exists()
    store.delete(Name.parse("x"))
    assert blob_path(root, b"1").exists()
    assert not blob_path(root, b"2").exists()


def test_a_missing_blob_cannot_be_claimed(store: Store) -> None:
    assert not store.blobs.claim("sha256:" + "0" * 64)


def test_a_folder_that_is_none_is_one_clear_error(root: Path, store: Store) -> None:
    root.write_text("a file")
    for use in (store.list, lambda: store.find(Name.parse("x"))):
        with pytest.raises(
            UnreadableStore, match=rf"{root}/\S* cannot be used \(Not a directory\)"
        ):
            use()


@pytest.mark.parametrize("depth", range(4))
def test_a_link_that_leads_nowhere_is_one_clear_error(root: Path, store: Store, depth: int) -> None:
    """Models may lie on a disk that is not mounted: an empty list would hide that."""
    link = root / Path(*f"manifests/{LIBRARY}".split("/")[:depth])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(root.parent / "unmounted")
    with pytest.raises(UnreadableStore, match=rf"{link} leads nowhere .*; check the path"):
        store.list()


def test_a_manifest_that_leads_nowhere_is_one_clear_error(
    root: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    written(store, "x", WEIGHTS)
    link = root / "manifests" / LIBRARY / "x" / "broken"
    link.symlink_to(root / "nowhere")
    with pytest.raises(UnreadableStore, match=f"{link} leads nowhere"):
        store.resolve("x:broken")
    assert names(store) == ["x:latest"]
    assert f"{link} leads nowhere" in caplog.text
    store.delete(Name.parse("x:broken"))
    assert store.find(Name.parse("x:broken")) is None


def test_an_unreadable_model_is_left_out_unless_it_is_the_only_one(
    root: Path, store: Store
) -> None:
    written(store, "x", WEIGHTS)
    path = root / "manifests" / LIBRARY / "x" / "latest"
    path.unlink()
    path.symlink_to(root / "nowhere")
    with pytest.raises(UnreadableStore, match=f"{path} leads nowhere"):
        store.list()
    written(store, "y", b"2")
    assert names(store) == ["y:latest"]


def test_blobs_out_of_reach_are_one_clear_error(root: Path, store: Store) -> None:
    written(store, "x", WEIGHTS)
    (root / "blobs").rename(root / "away")
    assert names(store) == []  # the blobs are missing: x is damaged
    (root / "blobs").symlink_to(root / "unmounted")
    with pytest.raises(UnreadableStore, match=f"{root}/blobs leads nowhere"):
        store.list()
    (root / "blobs").unlink()
    (root / "blobs").write_text("a file")
    with pytest.raises(UnreadableStore, match=rf"{root}/blobs cannot be used \(Not a directory\)"):
        store.list()


LISTER = """
import sys
from pathlib import Path
from outrider.models.errors import UnreadableStore
from outrider.models.store import Store
for folder in map(Path, sys.argv[2:]):
    folder.chmod(0)
    try:
        print(Store(Path(sys.argv[1])).list())
    except UnreadableStore as error:
        print(error)
    finally:
        folder.chmod(0o755)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="drops the rights of root")
def test_what_nobody_may_read_is_one_clear_error(root: Path, store: Store) -> None:
    written(store, "x", WEIGHTS)
    folders = [root / name for name in ("manifests", f"manifests/{LIBRARY}/x", "blobs")]
    rights = "--bounding-set=-dac_override,-dac_read_search"
    command = ["setpriv", rights, sys.executable, "-c", LISTER, str(root), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    reason = "cannot be used (Permission denied); check the path and its permissions"
    assert done.stdout.splitlines() == [f"{folder} {reason}" for folder in folders]


def test_a_folder_of_which_nobody_may_read_is_one_clear_error(
    root: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the operating system's refusal is made here."""
    written(store, "x", WEIGHTS)
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path == root / "manifests" / LIBRARY:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for use in (store.list, lambda: store.resolve("x"), lambda: store.delete(Name.parse("x"))):
        with pytest.raises(
            UnreadableStore, match=rf"{LIBRARY} cannot be used \(Permission denied\)"
        ):
            use()
    assert store.prune().num_files == 0


def test_a_write_that_does_not_fit_changes_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = store.blobs.add_bytes(WEIGHTS).layer(media.MODEL)
    config = Blob.of(b"{}").layer(media.CONFIG_TYPE)
    before = files(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(NoSpace, match=r"2 B are needed for the model x:latest, 1 B are free"):
        store.write(Name.parse("x"), Manifest(config, (weights,)), [b"{}"])
    assert files(store.root) == before


def test_blobs_are_found_in_either_spelling(root: Path, store: Store) -> None:
    """A dash and a colon name the same blob, so it is shared."""
    put_model(root, f"{LIBRARY}/x/latest", [("model", WEIGHTS)])
    path = put_model(root, f"{LIBRARY}/y/latest", [("model", WEIGHTS)])
    path.write_text(path.read_text().replace("sha256:", "sha256-"))
    store.delete(Name.parse("x"))
    assert store.resolve("y").model_path is not None


def test_sweep_takes_only_what_is_abandoned(root: Path, store: Store) -> None:
    written(store, "x", b"1")
    digest = put_blob(root, b"unreferenced")
    before = files(root)
    (root / "blobs" / ".outrider-0000-partial").write_bytes(b"half")
    (root / "manifests" / ".outrider-0000-partial").write_bytes(b"half")
    (root / ".outrider-pull-0000").mkdir()
    (root / ".outrider-pull-0000" / "wheel").write_bytes(b"half")
    store.sweep()
    assert files(root) == before
    assert not (root / ".outrider-pull-0000").exists()
    assert store.blobs.has(digest)
