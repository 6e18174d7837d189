"""Are manifests read as Ollama writes them, and hostile ones refused?"""

import json

import pytest
from outrider.models.errors import DamagedModel, InvalidDigest
from outrider.models.manifest import (
    CONFIG_TYPE,
    LICENSE,
    MODEL,
    Layer,
    Manifest,
    check_digest,
    dump_manifest,
    parse_manifest,
)

pytestmark = pytest.mark.unit

DIGEST = "sha256:" + "ab" * 32
CONFIG = {"mediaType": CONFIG_TYPE, "digest": DIGEST, "size": 5}


def manifest_with(**layer: object) -> bytes:
    wire = {"mediaType": MODEL, "digest": DIGEST, "size": 7} | layer
    return json.dumps({"schemaVersion": 2, "config": CONFIG, "layers": [wire]}).encode()


def test_reads_what_ollama_writes() -> None:
    parsed = parse_manifest(manifest_with(name="tensor", unknown={"a": 1}, **{"from": "/x"}))
    assert parsed == Manifest(
        Layer(CONFIG_TYPE, DIGEST, 5), (Layer(MODEL, DIGEST, 7, source="/x"),)
    )


def test_null_layers_are_none() -> None:
    assert parse_manifest(json.dumps({"config": CONFIG, "layers": None}).encode()).layers == ()


def test_written_as_the_registry_format() -> None:
    layers = (Layer(MODEL, DIGEST, 7, source="/parent"), Layer(LICENSE, DIGEST, 1))
    manifest = Manifest(Layer(CONFIG_TYPE, DIGEST, 5), layers)
    data = dump_manifest(manifest)
    assert parse_manifest(data) == manifest
    assert json.loads(data) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": CONFIG_TYPE, "digest": DIGEST, "size": 5},
        "layers": [
            {"mediaType": MODEL, "digest": DIGEST, "size": 7, "from": "/parent"},
            {"mediaType": LICENSE, "digest": DIGEST, "size": 1},
        ],
    }


def test_layers_by_type_keep_their_order() -> None:
    one, two = Layer(LICENSE, DIGEST, 1), Layer(LICENSE, DIGEST, 2)
    manifest = Manifest(Layer(CONFIG_TYPE, DIGEST, 5), (one, Layer(MODEL, DIGEST, 7), two))
    assert manifest.of(LICENSE) == (one, two)
    assert manifest.blobs == (manifest.config, *manifest.layers)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"{}", b'"x"', b"\xff\xfe", b"\x00" * 64,
        b'{"config": null, "layers": []}', b'{"layers": []}',
        manifest_with(digest="sha256:../../etc/passwd"), manifest_with(digest="../../etc/passwd"),
        manifest_with(digest="sha256:" + "a" * 63), manifest_with(digest="sha256:" + "g" * 64),
        manifest_with(digest=DIGEST + "\n"), manifest_with(digest="md5:" + "a" * 64),
        manifest_with(digest=3), manifest_with(size="7"), manifest_with(mediaType=None),
    ],
)  # fmt: skip
def test_anything_else_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(DamagedModel, match=r"^not a model manifest: "):
        parse_manifest(data)


@pytest.mark.parametrize("text", [DIGEST, DIGEST.replace(":", "-"), DIGEST.upper().lower()])
def test_good_digests(text: str) -> None:
    assert check_digest(text) == text


@pytest.mark.parametrize("text", ["", "sha256:", "ab" * 32, DIGEST + "0", "SHA256:" + "ab" * 32])
def test_bad_digests(text: str) -> None:
    with pytest.raises(InvalidDigest, match=r"^invalid digest format$"):
        check_digest(text)
