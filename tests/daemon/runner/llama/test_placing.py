"""Placement on several devices, which are processes of this machine here: the same text, and each
part where it should be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness import load_spec
from msgspec.structs import replace
from outrider.daemon.protocol import DeviceBytes, Load
from placing import NO_RPC, Placed, has_rpc, load_apart, serve_devices
from tiny import write_llama
from tiny_gemma import write_gemma4, write_gemma4_assistant

pytestmark = [pytest.mark.model, pytest.mark.skipif(not has_rpc(), reason=NO_RPC)]

LAYERS = 8
ROUNDING = 1 << 14  # bytes by which sizes of llama.cpp's log, in MiB with two decimals, may err


@dataclass(frozen=True, slots=True)
class Site:
    """Files, and two devices."""

    servers: tuple[str, ...]
    llama: Load
    gemma: Load  # with a drafter
    shared: Load  # the last half of its layers have no cache of their own; with a drafter
    experts: Load

    def load(self, load: Load, **changes: object) -> Placed:
        return load_apart(replace(load, **changes), self.servers)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("gguf")
    gemma = write_gemma4(folder / "gemma.gguf", layers=6)
    shared = write_gemma4(folder / "shared.gguf", layers=8, shared_kv_layers=4, per_layer_embd=16)
    with serve_devices(2) as servers:
        yield Site(
            servers,
            load_spec(write_llama(folder / "llama.gguf", layers=LAYERS)),
            _with_drafter(folder, gemma),
            _with_drafter(folder, shared),
            load_spec(write_gemma4(folder / "experts.gguf", layers=6, experts=4)),
        )


def _with_drafter(folder: Path, target: Path) -> Load:
    drafter = write_gemma4_assistant(folder / f"drafter-of-{target.name}", target)
    return replace(load_spec(target, draft=str(drafter)), speculation=None)


def parts(sizes: DeviceBytes) -> set[str]:
    return {
        name for name in sizes.__struct_fields__ if name.endswith("_bytes") if getattr(sizes, name)
    }


def sum_weights(placed: Placed) -> int:
    return sum(sizes.weights_bytes for sizes in placed.devices)


def sum_cache(placed: Placed) -> int:
    return sum(sizes.cache_bytes for sizes in placed.devices)


@pytest.fixture(scope="module")
def plain(site: Site) -> Placed:
    """Without devices."""
    return load_apart(site.llama)


def test_no_layer_means_no_device(site: Site, plain: Placed) -> None:
    assert site.load(site.llama, gpu_layers=0) == plain
    assert [sizes.device for sizes in plain.devices] == ["CPU"]


def test_all_layers_on_one_of_two(site: Site, plain: Placed) -> None:
    placed = site.load(site.llama, main_gpu=1)
    assert placed.text == plain.text
    assert set(placed.layers.values()) == {"RPC1"}
    assert [sizes.device for sizes in placed.devices] == ["CPU", "RPC1"]
    assert parts(placed.on("RPC1")) == {"weights_bytes", "cache_bytes", "compute_bytes"}
    assert parts(placed.on("CPU")) == {"weights_bytes", "compute_bytes"}  # the token embeddings
    assert placed.on("RPC1").cache_bytes == plain.on("CPU").cache_bytes
    assert abs(sum_weights(placed) - sum_weights(plain)) < ROUNDING


def test_the_last_layers_come_first(site: Site, plain: Placed) -> None:
    placed = site.load(site.llama, gpu_layers=1 + LAYERS // 2, main_gpu=0)
    assert placed.text == plain.text
    assert placed.layers == {layer: "CPU" if layer < 4 else "RPC0" for layer in range(LAYERS + 1)}
    assert placed.on("RPC0").cache_bytes == placed.on("CPU").cache_bytes
    assert abs(sum_weights(placed) - sum_weights(plain)) < ROUNDING


def test_layers_are_split_by_share(site: Site, plain: Placed) -> None:
    placed = site.load(site.llama, tensor_split=(1.0, 3.0))
    assert placed.text == plain.text
    assert placed.layers == {layer: "RPC0" if layer < 3 else "RPC1" for layer in range(LAYERS + 1)}
    assert sum_cache(placed) == sum_cache(plain)
    assert 3 * placed.on("RPC1").cache_bytes == 5 * placed.on("RPC0").cache_bytes
    alone = site.load(site.llama, main_gpu=0)
    # One compute buffer each, and not the four of pipeline parallelism.
    for device in ("RPC0", "RPC1"):
        assert placed.on(device).compute_bytes <= alone.on("RPC0").compute_bytes


@pytest.mark.parametrize("split", [(1.0,), (1.0, 1.0)])
def test_experts_stay_on_the_host(site: Site, split: tuple[float, ...]) -> None:
    whole = site.load(site.experts, tensor_split=split)
    placed = site.load(site.experts, tensor_split=split, host_experts=3)
    assert placed.text == whole.text == load_apart(site.experts).text
    assert placed.layers == whole.layers
    assert sum_cache(placed) == sum_cache(whole)
    assert placed.on("CPU").cache_bytes == 0
    moved = placed.on("CPU").weights_bytes - whole.on("CPU").weights_bytes
    assert moved > whole.on("CPU").weights_bytes
    assert abs(sum_weights(placed) - sum_weights(whole)) < ROUNDING


@pytest.mark.parametrize(
    "changes",
    [
        {"main_gpu": 1},
        {"gpu_layers": 4, "main_gpu": 0},
        {"tensor_split": (1.0, 3.0)},
        {"gpu_layers": 0},
    ],
)
@pytest.mark.parametrize("pair", ["gemma", "shared"])
def test_a_drafter_lies_beside_the_cache_that_it_shares(
    site: Site, pair: str, changes: dict[str, object]
) -> None:
    """Of the pair with shared layers, the split puts the two caches on two devices."""
    load = getattr(site, pair)
    placed = site.load(load, **changes)
    assert placed.text == load_apart(replace(load, draft="", speculation=0)).text
    assert placed.drafters == ("ngram", "assistant")
    assert not placed.refusal
    home = placed.cache_devices[0]
    held = {sizes.device: sizes.drafter_bytes for sizes in placed.devices}
    assert max(held, key=held.__getitem__) == home
    assert [device for device, size in held.items() if size] == list(dict.fromkeys(["CPU", home]))
