"""Tests of decoding inside a model: peaks and PAF scores equal the decoder's on both runtimes."""

import json

import numpy as np
import onnx
import pytest

from bodyposenet.decoding import common
from bodyposenet.decoding.accurate import connections, peaks
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting import decoding_graph
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions, append_decoding
from bodyposenet.exporting.decoding_verification import check_decoding, compare_decoding
from bodyposenet.inference.engines.exported import PAF_SCORES, PEAKS
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps
from tests.exporting.decoding_maps import (
    DEFAULT_MODELS,
    SKELETON,
    decoding_header,
    decoding_model,
    drawn_maps,
    maps_model,
    onnx_session,
    photo_maps,
    stack,
)

PAIR = Skeleton("pair", ("a", "b"), ((0, 1),))
STATIC = DecodingGraphOptions(max_peaks=16, static_shapes=True)


def on_onnxruntime(model):
    session = onnx_session(model)
    return lambda inputs: session.run([PEAKS, PAF_SCORES], inputs)


def on_openvino(model):
    openvino = pytest.importorskip("openvino")
    engine = pytest.importorskip("bodyposenet.inference.engines.openvino")
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    core = openvino.Core()
    network = core.read_model(model)
    engine.remove_quantization_before_elu(network)  # as in the engine that it is compared with
    compiled = core.compile_model(network, "CPU", options)

    def run(inputs):
        found = compiled(inputs)
        return found[PEAKS].copy(), found[PAF_SCORES].copy()

    return run


RUNTIMES = pytest.mark.parametrize("runtime", [on_onnxruntime, on_openvino])


def check_equal(maps, skeleton, found, options):
    """Check that coordinates differ by at most 1e-3 pixels and scores by at most 1e-4."""
    total, same = compare_decoding(maps, skeleton, *found, options, pixels=1e-3, score=1e-4)
    assert total == same
    return total


@RUNTIMES
@pytest.mark.parametrize("options", [DecodingGraphOptions(), STATIC], ids=["dynamic", "static"])
def test_drawn_people_have_the_decoders_peaks_and_scores(runtime, options):
    run = runtime(decoding_model(SKELETON, options))
    total = 0
    for maps in drawn_maps():
        (found_peaks,), (paf_scores,) = run(stack(maps))
        assert found_peaks.shape == (18, options.max_peaks, 3)
        assert paf_scores.shape == (19, options.max_peaks, options.max_peaks)
        assert found_peaks.dtype == paf_scores.dtype == np.float32
        total += check_equal(maps, SKELETON, (found_peaks, paf_scores), options)
    assert total > 1000


@pytest.mark.shared_data
@RUNTIMES
def test_photos_have_the_decoders_peaks_and_scores(runtime, shared):
    options = DecodingGraphOptions(max_peaks=128)  # one photo shows a crowd of spectators
    run = runtime(decoding_model(SKELETON, options))
    total = 0
    for maps in photo_maps(shared):
        (found_peaks,), (paf_scores,) = run(stack(maps))
        total += check_equal(maps, SKELETON, (found_peaks, paf_scores), options)
    assert total > 10_000


@RUNTIMES
def test_images_of_a_batch_do_not_mix(runtime):
    options = DecodingGraphOptions(max_peaks=20)
    random = np.random.default_rng(3)
    largest = max(maps.heatmaps.shape[1] for maps in drawn_maps())
    batch = []
    for maps in drawn_maps():
        missing = ((0, 0), (0, largest - maps.heatmaps.shape[1]), (0, 0))
        batch.append(Maps(np.pad(maps.heatmaps, missing), np.pad(maps.pafs, missing)))
    random.shuffle(batch)
    found = runtime(decoding_model(SKELETON, options))(stack(*batch))
    for maps, *outputs in zip(batch, *found, strict=True):
        check_equal(maps, SKELETON, outputs, options)


@RUNTIMES
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (2, 2), (31, 5)])
@pytest.mark.parametrize("sigma", [3.0, 7.0])
def test_noise_at_borders_and_in_small_maps(runtime, shape, sigma):
    random = np.random.default_rng(0)
    options = DecodingGraphOptions(max_peaks=128)
    run = runtime(decoding_model(PAIR, options, sigma))
    for scale in (1.0, 0.1, 1e-3):
        heatmaps = (random.random((3, *shape)) ** 4 * scale + 0.05).astype(np.float32)
        heatmaps[random.random(heatmaps.shape) < 0.3] = 0
        pafs = random.normal(0, 1, (2, *shape)).astype(np.float32) + 0.5
        maps = Maps(heatmaps, pafs, heatmap_sigma=sigma)
        found = [output[0] for output in run(stack(maps))]
        check_equal(maps, PAIR, found, options)


@RUNTIMES
def test_the_first_of_equal_cells_is_the_peak(runtime):
    heatmaps = np.zeros((3, 9, 12), np.float32)
    heatmaps[0, 2:4, 3:5] = 0.5
    heatmaps[0, 6, 8:11] = heatmaps[1, :, 4] = heatmaps[1, 8] = 0.7
    heatmaps[0, 8, 0] = np.float32(0.05)  # rounded up, so above the threshold 0.05
    maps = Maps(heatmaps, np.ones((2, 9, 12), np.float32))
    found = [output[0] for output in runtime(decoding_model(PAIR))(stack(maps))]
    assert (found[0][0, :, 2] > 0).sum() == 3
    check_equal(maps, PAIR, found, DecodingGraphOptions())


@RUNTIMES
def test_broken_values_count_as_0(runtime):
    maps = drawn_maps()[2]
    broken = Maps(maps.heatmaps.copy(), maps.pafs.copy())
    clean = Maps(maps.heatmaps.copy(), maps.pafs.copy())
    random = np.random.default_rng(0)
    for field in ("heatmaps", "pafs"):
        for value in (np.nan, np.inf, -np.inf, 1e6, -2e9):
            places = random.random(maps.heatmaps.shape[1:]) < 0.01
            getattr(broken, field)[:, places] = value
            getattr(clean, field)[:, places] = 0
    found = [output[0] for output in runtime(decoding_model(SKELETON))(stack(broken))]
    check_equal(clean, SKELETON, found, DecodingGraphOptions())


@RUNTIMES
def test_outputs_of_images_without_people_are_0(runtime):
    empty = Maps(np.zeros((19, 4, 4), np.float32), np.zeros((38, 4, 4), np.float32))
    for output in runtime(decoding_model(SKELETON))(stack(empty, empty)):
        assert not output.any()


def test_only_the_highest_peaks_are_kept_in_the_order_of_their_cells():
    maps = drawn_maps()[9]
    session = onnx_session(decoding_model(SKELETON, DecodingGraphOptions(max_peaks=64)))
    (everything,), (all_scores,) = session.run(None, stack(maps))
    session = onnx_session(decoding_model(SKELETON, DecodingGraphOptions(max_peaks=3)))
    (few,), (few_scores,) = session.run(None, stack(maps))
    np.testing.assert_allclose(few, everything[:, :3], atol=1e-6)
    np.testing.assert_allclose(few_scores, all_scores[:, :3, :3], atol=1e-6)
    exist = everything[:, :, 2] > 0
    assert (np.diff(exist.astype(int), axis=1) <= 0).all()
    assert not everything[~exist].any()


def test_file_has_standard_operators_and_a_header_for_clients():
    model = decoding_model(SKELETON, DecodingGraphOptions(max_peaks=40, max_people=5))
    read = onnx.load_model_from_string(model)
    onnx.checker.check_model(read, full_check=True)
    assert [(entry.domain, entry.version) for entry in read.opset_import] == [("", 18)]
    assert {node.domain for node in read.graph.node} == {""}
    shapes = {
        output.name: [
            side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim
        ]
        for output in read.graph.output
    }
    assert shapes == {PEAKS: ["batch", 18, 40, 3], PAF_SCORES: ["batch", 19, 40, 40]}
    assert decoding_header(model) == {
        "joints": list(SKELETON.joints),
        "limbs": [list(limb) for limb in SKELETON.limbs],
        "auxiliary_limbs": list(SKELETON.auxiliary),
        "max_peaks": 40,
        "max_people": 5,
        "static_shapes": False,
        "heatmap_threshold": 0.05,
        "paf_threshold": 0.02,
    }


@pytest.mark.parametrize("name", ["default-fp16.onnx", "default-int8.onnx"])
def test_models_of_other_data_types_are_decoded_inside(name):
    content = (DEFAULT_MODELS / name).read_bytes()
    options = DecodingGraphOptions(max_peaks=32)
    model = append_decoding(content, options)
    onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    assert check_decoding(name, content, model, (128, 192), options) > 0.98


# ONNX Runtime rounds the maps of the fp16 file to float16, but not those that are decoded inside.
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "runtime", "pixels"),
    [
        ("default-fp16.onnx", "onnx", 0.05),
        ("default-fp16.onnx", "openvino", 1e-3),
        ("default-int8.onnx", "onnx", 1e-3),
        ("default-int8.onnx", "openvino", 1e-3),
    ],
)
def test_photos_through_network_and_decoding(name, runtime, pixels, shared):
    content = (DEFAULT_MODELS / name).read_bytes()
    engines = pytest.importorskip(f"bodyposenet.inference.engines.{runtime}")
    engine = engines.load(name, content=content, threads=1)
    model = append_decoding(content)
    run = on_openvino(model) if runtime == "openvino" else on_onnxruntime(model)
    folder = shared / "data" / "coco-person" / "images"
    total = same = 0
    for path in sorted(folder.iterdir())[:4]:
        photo = read_image(path)[:192, :256]
        height, width = (side // 8 * 8 for side in photo.shape[:2])
        images = photo[None, :height, :width]
        (found_peaks,), (paf_scores,) = run({"input_1:0": images})
        counts = compare_decoding(
            engine.infer(images)[0], SKELETON, found_peaks, paf_scores, DecodingGraphOptions(),
            pixels=pixels, score=2e-3,
        )  # fmt: skip
        total, same = total + counts[0], same + counts[1]
    assert total > 100
    assert same >= 0.99 * total


def test_wrong_decoding_is_refused():
    content = (DEFAULT_MODELS / "default-fp16.onnx").read_bytes()
    wrong = append_decoding(content, DecodingGraphOptions(heatmap_threshold=0.5))
    with pytest.raises(BodyPoseNetError, match=r"out\.onnx"):
        check_decoding("out.onnx", content, wrong, (128, 192))


@pytest.mark.parametrize(
    "options",
    [
        DecodingGraphOptions(max_peaks=0),
        DecodingGraphOptions(max_peaks=129),
        DecodingGraphOptions(max_people=0),
        DecodingGraphOptions(paf_threshold=-0.1),
    ],
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(BodyPoseNetError):
        append_decoding(maps_model(PAIR), options)


def test_upsampled_pafs_are_refused():
    model = onnx.load_model_from_string(maps_model(PAIR))
    for value in (*model.graph.node[1].output, model.graph.output[1].name):
        assert value == "paf_out/BiasAdd:0"
    model.graph.node[1].output[0] = model.graph.output[1].name = "conv2d_transpose_1/BiasAdd:0"
    with pytest.raises(BodyPoseNetError, match="sdk_compatible_model"):
        append_decoding(model.SerializeToString())


def test_the_constants_are_those_of_the_decoder():
    assert decoding_graph._LARGEST_MAX_PEAKS == common.MAX_PEAKS
    assert decoding_graph._SAMPLES == connections._SAMPLES
    assert decoding_graph._MIN_SAMPLES == connections._MIN_SAMPLES
    assert decoding_graph._MIN_VALUE == peaks._MIN_VALUE


def test_other_entries_of_the_header_are_kept():
    content = (DEFAULT_MODELS / "default-fp16.onnx").read_bytes()
    before, after = (
        json.loads(onnx.load_model_from_string(model).metadata_props[0].value)
        for model in (content, append_decoding(content))
    )
    assert after.pop("decoding")
    assert after == before
