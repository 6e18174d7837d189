"""On which device a layer, its cache and its weights lie, and what a GPU needs besides."""

from __future__ import annotations

import pytest
from gemma_shapes import assistant_header, gemma_header
from outrider.quant.graph_buffer import HOST
from outrider.quant.memory import (
    CUDA_CONTEXT_BYTES,
    ContextShape,
    ModelHeaders,
    PartBytes,
    Placement,
    estimate_memory,
)
from outrider.quant.placement import device_of_layer, largest_host_matrix, weights_by_device

pytestmark = pytest.mark.unit

MOE = gemma_header("26B-A4B")
CONTEXT = ContextShape(8192, 2, 512, "f16")
SIZES = {tensor.name: tensor.size_bytes for tensor in MOE.tensors}
ALL = 31  # 30 layers and the output


def devices(placement: Placement, layers: int = 4) -> list[int]:
    return [device_of_layer(placement, layers, layer) for layer in range(layers + 1)]


def test_layers_go_to_a_gpu_from_the_output_on() -> None:
    assert devices(Placement()) == [HOST] * 5
    assert devices(Placement(1)) == [HOST] * 4 + [0]
    assert devices(Placement(3)) == [HOST, HOST, 0, 0, 0]
    assert devices(Placement(5)) == devices(Placement(99)) == [0] * 5


def test_gpus_share_layers_by_their_parts() -> None:
    assert devices(Placement(5, (3.0, 2.0))) == [0, 0, 0, 1, 1]
    assert devices(Placement(4, (1.0, 1.0))) == [HOST, 0, 0, 1, 1]
    assert devices(Placement(5, (0.0, 1.0))) == [1] * 5


def test_embeddings_that_are_the_output_too_lie_twice() -> None:
    found = weights_by_device(MOE, Placement(ALL))
    assert found[HOST] == SIZES["token_embd.weight"]
    assert found[0] == sum(SIZES.values())
    assert weights_by_device(MOE, Placement()) == {HOST: sum(SIZES.values())}


def test_experts_of_the_first_layers_stay_on_the_host() -> None:
    experts = sum(size for name, size in SIZES.items() if "_exps" in name and name < "blk.1")
    found = weights_by_device(MOE, Placement(ALL, host_experts=1))
    assert found[HOST] == SIZES["token_embd.weight"] + experts
    copied = largest_host_matrix(MOE, Placement(ALL, host_experts=1))
    assert copied == SIZES["blk.0.ffn_gate_up_exps.weight"]
    assert largest_host_matrix(MOE, Placement(ALL)) == 0 == largest_host_matrix(MOE, Placement())


def test_the_parts_of_a_split_model_add_up() -> None:
    host = estimate_memory(ModelHeaders(MOE), CONTEXT)
    split = estimate_memory(ModelHeaders(MOE), CONTEXT, Placement(ALL, (1.0, 1.0)))
    assert len(split.gpus) == 2
    assert sum(gpu.cache_bytes for gpu in split.gpus) == host.host.cache_bytes
    assert split.host.cache_bytes == 0
    assert all(gpu.overhead_bytes == CUDA_CONTEXT_BYTES for gpu in split.gpus)
    assert all(gpu.compute_bytes > 0 for gpu in split.gpus)


def test_several_gpus_keep_copies_of_what_they_read() -> None:
    alone = estimate_memory(ModelHeaders(MOE), CONTEXT, Placement(ALL)).gpus[0]
    first, second = estimate_memory(ModelHeaders(MOE), CONTEXT, Placement(ALL, (1.0, 1.0))).gpus
    mask_bytes = 2 * 512 * 8192
    assert first.compute_bytes > alone.compute_bytes - 64 * 262_144 * 4 + 3 * mask_bytes
    apart = estimate_memory(ModelHeaders(MOE), CONTEXT, Placement(ALL, (1.0, 1.0), host_experts=1))
    assert apart.gpus[1].compute_bytes < second.compute_bytes


def test_a_drafter_lies_where_the_last_layer_of_its_target_lies() -> None:
    model = ModelHeaders(MOE, assistant_header("26B-A4B"))
    embeddings = next(t.size_bytes for t in assistant_header("26B-A4B").tensors)
    split = estimate_memory(model, CONTEXT, Placement(ALL, (1.0, 1.0)))
    assert split.gpus[0].drafter_bytes == 0 < split.gpus[1].drafter_bytes
    assert split.host.drafter_bytes > embeddings
    host = estimate_memory(model, CONTEXT).host
    assert host.drafter_bytes == pytest.approx(
        split.gpus[1].drafter_bytes + split.host.drafter_bytes - embeddings, rel=0.01
    )


def test_a_projector_takes_more_than_its_file_and_lies_on_the_first_gpu() -> None:
    model = ModelHeaders(MOE, projectors=(assistant_header("E2B"),))
    size = round(1.4 * assistant_header("E2B").size_bytes)
    assert estimate_memory(model, CONTEXT).host.projector_bytes == size
    found = estimate_memory(model, CONTEXT, Placement(ALL, (1.0, 1.0)))
    parts = [part.projector_bytes for part in (found.host, *found.gpus)]
    assert parts == [0, size, 0]


def test_an_adapter_lies_beside_the_weights() -> None:
    model = ModelHeaders(MOE, adapter_bytes=1000)
    found = estimate_memory(model, CONTEXT, Placement(ALL, (1.0, 1.0)))
    parts: list[PartBytes] = [found.host, *found.gpus]
    assert sum(part.adapter_bytes for part in parts) == pytest.approx(1000, abs=3)
