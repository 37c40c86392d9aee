"""A small ONNX file with the signature of NVIDIA's models and easily computed maps."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bodyposenet.inference.engines.base import Engine
from bodyposenet.specs.pose import load_skeleton

HEATMAPS, PAFS = 19, 38
RANDOM = np.random.default_rng(0)
WEIGHTS = {"heatmap": RANDOM.normal(size=(HEATMAPS, 3)), "paf": RANDOM.normal(size=(PAFS, 3))}

HEADER = {
    "skeleton": load_skeleton("bpnet_18joints.json").to_pose_configuration(),
    "normalization": {"image_scale": [256, 256, 256], "image_offset": [0.5, 0.5, 0.5]},
    "network": {"stages": 3},
    "stride": 8,
    "epoch": 5,
}


def write_model(
    path: Path,
    *,
    repeats: int = 4,
    size: tuple = ("batch", "height", "width"),
    channels_last: bool = True,
    heatmaps: str = "heatmap_out/BiasAdd:0",
    pafs: str = "conv2d_transpose_1/BiasAdd:0",
    metadata: dict[str, str] | None = None,
    dtype: int = TensorProto.FLOAT,
    works_at: tuple[int, int] | None = None,
) -> Path:
    """Write a model whose maps are the mean colors of the cells times `WEIGHTS`.

    Args:
        path: Path of the file.
        repeats: Upsampling factor of the PAFs, as in a model for DeepStream.
        size: Batch size, height and width: names of dynamic dimensions or fixed numbers.
        channels_last: Use NVIDIA's layout, else channels first.
        heatmaps: Name of the output.
        pafs: Name of the output.
        metadata: Metadata of the file.
        dtype: Type of the input; except for float32, the model contains the normalization.
        works_at: The only height and width at which the model can run, despite `size`.
    """
    count, height, width = size
    kernel = np.einsum("oi,hw->oihw", np.eye(PAFS), np.ones((repeats, repeats)))
    arrays = {name: array[:, :, None, None] for name, array in WEIGHTS.items()} | {"all": kernel}
    inner = [
        helper.make_node("Add", ["image", "tiny"], ["sum"]),
        helper.make_node("Reshape", ["sum", "same shape"], ["whole"]),
        helper.make_node("AveragePool", ["whole"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["cells", "heatmap"], ["heatmaps"], name="heat"),
        helper.make_node("Conv", ["cells", "paf"], ["fields"], name="paf"),
        helper.make_node("ConvTranspose", ["fields", "all"], ["pafs"], strides=[repeats, repeats]),
    ]
    kind = "Transpose" if channels_last else "Identity"
    arrays["tiny"] = np.full((1, 3, *(works_at or (1, 1))), 1e-9)  # 0 would be optimized away
    arrays["same shape"] = np.zeros(4, np.int64)
    after = {"perm": [0, 2, 3, 1]} if channels_last else {}
    before = {"perm": [0, 3, 1, 2]} if channels_last else {}
    outer = [
        helper.make_node(kind, ["input_1:0"], ["image"], **before),
        *inner,
        helper.make_node(kind, ["heatmaps"], [heatmaps], **after),
        helper.make_node(kind, ["pafs"], [pafs], **after),
    ]
    if dtype != TensorProto.FLOAT:  # the model contains the normalization
        arrays |= {"scale": np.array(1 / 256), "offset": np.array(-0.5)}
        outer[:0] = [
            helper.make_node("Cast", ["input_1:0"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["normalized"]),
        ]
        outer[3].input[0] = "normalized"

    def tensor(name: str, channels: int, *sides: object, dtype: int = TensorProto.FLOAT):
        shape = [count, *sides, channels] if channels_last else [count, channels, *sides]
        return helper.make_tensor_value_info(name, dtype, shape)

    graph = helper.make_graph(
        outer,
        "model",
        [tensor("input_1:0", 3, height, width, dtype=dtype)],
        [tensor(heatmaps, HEATMAPS, None, None), tensor(pafs, PAFS, None, None)],
        [
            numpy_helper.from_array(a if a.dtype == np.int64 else a.astype(np.float32), name)
            for name, a in arrays.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


def expected_maps(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the maps of an image of whole cells, normalized as (x - 128) / 256."""
    height, width = image.shape[:2]
    pixels = (image.astype(np.float64) - 128) / 256
    cells = pixels.reshape(height // 8, 8, width // 8, 8, 3).mean(axis=(1, 3))
    heatmaps, pafs = (np.einsum("hwi,oi->ohw", cells, WEIGHTS[name]) for name in ("heatmap", "paf"))
    return heatmaps, pafs


def images(*shape: int) -> np.ndarray:
    """Return random uint8 images of shape (*shape, 3)."""
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def check_maps(engine: Engine, pixels: np.ndarray):
    """Check that an engine returns the expected maps."""
    results = engine.infer(pixels)
    assert len(results) == len(pixels)
    for maps, image in zip(results, pixels, strict=True):
        heatmaps, pafs = expected_maps(image)
        np.testing.assert_allclose(maps.heatmaps, heatmaps, atol=1e-5)
        np.testing.assert_allclose(maps.pafs, pafs, atol=1e-5)
