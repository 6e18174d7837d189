"""Is an Ollama folder served as it is, and never left worse than it was found?"""

import hashlib
import json
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ollama_folder import MEDIA, files, put_blob, put_model
from outrider.models import manifest as media
from outrider.models.errors import DamagedModel, InvalidName, ModelNotFound
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
        assert names(store) == ["good:latest"]
    assert len(caplog.records) == 3
    assert all(word in caplog.text for word in ("corrupt:latest", "hollow:latest", ".hidden"))


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


def test_no_blob_goes_while_some_manifest_is_unreadable(root: Path, store: Store) -> None:
    put_model(root, f"{LIBRARY}/x/latest", [("model", WEIGHTS)])
    put_model(root, f"{LIBRARY}/corrupt/latest", []).write_bytes(b"{")
    store.delete(Name.parse("x"))
    assert (root / "blobs" / f"sha256-{hashlib.sha256(WEIGHTS).hexdigest()}").exists()


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
