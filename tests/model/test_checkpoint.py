"""Tests of model files: round trips, older versions, and damaged files."""

import json
from pathlib import Path

import pytest
import torch

from bodyposenet.encryption import write_container
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import (
    load_model,
    model_header,
    named_tensors,
    read_model,
    read_tensors,
    save_model,
    write_tensors,
)
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

TOY = Skeleton("toy", ("head", "left_hand", "right_hand"), ((0, 1), (0, 2)), (0.1, 0.2, 0.2))


def small_network(**options: object) -> BodyPoseNetwork:
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    spec = ModelConfig(stages=2, backbone_attributes=attributes)
    network = BodyPoseNetwork(TOY, spec, **options)
    network.train()(torch.rand(2, 3, 16, 16))  # changes the statistics
    return network.eval()


@pytest.mark.parametrize("key", ["", "key"])
def test_loaded_model_equals_the_saved_one(tmp_path: Path, key: str):
    normalization = Normalization((255.0, 254.0, 253.0), (0.1, 0.2, 0.3))
    network = small_network(normalization=normalization, heatmap_sigma=3.5)
    network = network.to(memory_format=torch.channels_last)
    save_model(tmp_path / "m.tlt", network, key=key, epoch=7, spec="num_epoch: 9")
    loaded = load_model(tmp_path / "m.tlt", key).eval()
    assert loaded.skeleton == TOY
    assert loaded.normalization == normalization
    assert loaded.heatmap_sigma == 3.5
    assert loaded.spec == network.spec
    image = torch.randint(0, 256, (1, 16, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        ours, theirs = (n(n.normalize(image)) for n in (network, loaded))
    torch.testing.assert_close(ours.heatmaps[-1], theirs.heatmaps[-1], rtol=0, atol=1e-6)
    header, _ = read_tensors(tmp_path / "m.tlt", key)
    assert (header["epoch"], header["spec"]) == (7, "num_epoch: 9")


def test_pruned_network_keeps_its_out_channels(tmp_path: Path):
    out_channels = {"channel_reduction_conv": 24, "context_c_conv_1": 24, "stage2/paf/conv6": 5}
    save_model(tmp_path / "m.tlt", small_network(out_channels=out_channels))
    layers = load_model(tmp_path / "m.tlt").layers()
    assert layers["channel_reduction_conv"].out_channels == 24
    assert layers["paf_out"].in_channels == 5


def test_the_same_network_gives_the_same_bytes(tmp_path: Path):
    network = small_network()
    save_model(tmp_path / "a.tlt", network)
    save_model(tmp_path / "b.tlt", network.to(memory_format=torch.channels_last))
    save_model(tmp_path / "c.tlt", load_model(tmp_path / "a.tlt"))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_tensors_of_any_type_are_restored(tmp_path: Path):
    tensors = {
        "momentum|x": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "random": torch.get_rng_state(),
        "step": torch.tensor(3.0),
        "half": torch.randn(4).bfloat16(),
        "empty": torch.zeros(0, 2),
        "gradient": torch.ones(2, requires_grad=True),
    }
    write_tensors(tmp_path / "m.state", {"epoch": 3}, tensors, key="key")
    header, found = read_tensors(tmp_path / "m.state", "key")
    assert header == {"epoch": 3}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_writing_into_tensors_changes_the_network():
    network = small_network()
    named_tensors(network)["heatmap_out.bias"].fill_(5)
    assert network.layers()["heatmap_out"].bias.eq(5).all()


def test_file_without_a_model_is_an_error(tmp_path: Path):
    write_tensors(tmp_path / "m.state", {"epoch": 3}, {"a": torch.zeros(1)})
    with pytest.raises(BodyPoseNetError, match=r"m\.state"):
        load_model(tmp_path / "m.state")


def test_wrong_key_and_truncated_file_are_errors(tmp_path: Path):
    save_model(tmp_path / "m.tlt", small_network(), key="right")
    with pytest.raises(BodyPoseNetError, match="wrong key"):
        load_model(tmp_path / "m.tlt", "wrong")
    content = (tmp_path / "m.tlt").read_bytes()
    (tmp_path / "m.tlt").write_bytes(content[: len(content) // 2])
    with pytest.raises(BodyPoseNetError, match="truncated"):
        load_model(tmp_path / "m.tlt", "right")


@pytest.mark.parametrize(
    ("spec", "sigma"),
    [("label_processor_config: {heatmap_gaussian_sigma: 3.5}\ndataloader: {}\n", 3.5), ("", 14.0)],
)
def test_sigma_of_older_versions_is_that_of_their_spec_or_the_given_one(
    tmp_path: Path, spec: str, sigma: float
):
    save_model(tmp_path / "m.tlt", small_network(), spec=spec)
    header, tensors = read_tensors(tmp_path / "m.tlt")
    del header["heatmap_sigma"]
    write_tensors(tmp_path / "m.tlt", header, tensors)
    found, network = read_model(tmp_path / "m.tlt", training={"heatmap_sigma": 14.0})
    assert found["heatmap_sigma"] == network.heatmap_sigma == sigma


def test_keys_of_other_versions_are_ignored(tmp_path: Path):
    """`add_final_c128_conv` was a key of the model block; a later version may have more."""
    save_model(tmp_path / "m.tlt", small_network())
    header, tensors = read_tensors(tmp_path / "m.tlt")
    header["network"] |= {"add_final_c128_conv": True, "attention": {"heads": 2}}
    header["network"]["backbone_attributes"]["depth"] = 3
    write_tensors(tmp_path / "m.tlt", header, tensors)
    assert load_model(tmp_path / "m.tlt").spec == small_network().spec.model_copy(
        update={"add_final_c128_conv": True}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network": {"stages": 2, "backbone_attributes": {"architecture": "vit"}}},
            "backbone_attributes.architecture",
        ),
        ({"normalization": {"mean": [1]}}, "normalization.image_scale"),
        ({"widths": {"stage2/paf/conv6": 3}}, "do not fit"),
        ({"stride": 16}, "stride"),
        ({"heatmap_sigma": 0}, "heatmap_sigma"),
        ({"heatmap_sigma": None}, "heatmap_sigma"),
        ({"widths": {"stage2/paf/conv6": 2**63}}, "widths.stage2/paf/conv6"),
        ({"widths": dict.fromkeys(("stage2/paf/conv5", "stage2/paf/conv6"), 2**14)}, "do not fit"),
        ({"widths": []}, "widths"),
        ({"skeleton": {"categories": []}}, "skeleton"),
        ({"epoch": -1}, "epoch"),
        ({"spec": ["\ud800"]}, "header"),
    ],
)
def test_header_that_does_not_fit_is_an_error(tmp_path: Path, change: dict, message: str):
    save_model(tmp_path / "m.tlt", small_network())
    header, tensors = read_tensors(tmp_path / "m.tlt")
    write_tensors(tmp_path / "m.tlt", header | change, tensors)
    with pytest.raises(BodyPoseNetError, match=message):
        load_model(tmp_path / "m.tlt")


def test_header_with_huge_sizes_takes_no_memory(tmp_path: Path):
    """A network of 2^14 channels would need gigabytes; shapes are checked before it is built."""
    resource = pytest.importorskip("resource")
    save_model(tmp_path / "m.tlt", network := small_network())
    header, tensors = read_tensors(tmp_path / "m.tlt")
    write_tensors(
        tmp_path / "m.tlt",
        header | {"widths": dict.fromkeys(network.out_channels(), 2**14)},
        tensors,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BodyPoseNetError, match=r"m\.tlt"):
        load_model(tmp_path / "m.tlt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


def test_tensors_of_another_type_are_an_error(tmp_path: Path):
    save_model(tmp_path / "m.tlt", small_network())
    header, tensors = read_tensors(tmp_path / "m.tlt")
    integers = {name: tensor.to(torch.int64) for name, tensor in tensors.items()}
    write_tensors(tmp_path / "m.tlt", header, integers)
    with pytest.raises(BodyPoseNetError, match="do not fit"):
        load_model(tmp_path / "m.tlt")


@pytest.mark.parametrize("dtype", ["F4", "F6_E2M3", "F8_E8M0", "F8_E4M3", "C64", "BOOL", "X"])
def test_tensors_of_unsupported_types_are_an_error(tmp_path: Path, dtype: str):
    bits = {"F4": 4, "F6_E2M3": 6, "C64": 64}.get(dtype, 8)
    entry = {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}
    names = json.dumps({"a": entry}).encode()
    body = len(names).to_bytes(8, "little") + names + bytes(bits)
    write_container(tmp_path / "m.tlt", model_header(small_network()), body)
    with pytest.raises(BodyPoseNetError, match=r"m\.tlt"):
        load_model(tmp_path / "m.tlt")
