"""Teachers: matching their channels, weighting their targets, and loading them."""

import json

import pytest
import torch

from bodyposenet.encryption import SealedKey
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.onnx import export_onnx
from bodyposenet.model.checkpoint import model_header, save_model
from bodyposenet.model.loss import Targets
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.distillation import Teacher, load_teacher, reduce_label_weight

from ..inference.exported_models import HEADER, PAFS, write_model

CPU = torch.device("cpu")
METADATA = {"bodyposenet": json.dumps(HEADER)}
ARM = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
FINGER = Skeleton("finger", ("knuckle", "tip"), ((0, 1),))
TINY = ModelConfig(
    backbone_attributes=BackboneAttributes(architecture="lightweight_openpose", width=0.125),
    stages=1,
)


def constant_teacher(skeleton):
    """Return a teacher whose heatmaps are 0, 1, 2, ... and whose PAFs are 10, 11, 12, ..."""

    def infer(images):
        maps = [
            torch.arange(first, first + count).float()[None, :, None, None].expand(1, -1, 2, 2)
            for first, count in ((0, skeleton.heatmap_channels), (10, skeleton.paf_channels))
        ]
        return maps[0], maps[1]

    return infer


def channels_of(teacher, student):
    targets = Teacher(constant_teacher(teacher), teacher, student, 0.5, CPU, CPU)(
        torch.zeros(1, 16, 16, 3)
    )
    return [
        [
            float(value) if mask else None
            for value, mask in zip(maps[0, :, 0, 0], known, strict=True)
        ]
        for maps, known in (
            (targets.heatmaps, targets.heatmap_mask.flatten()),
            (targets.pafs, targets.paf_mask.flatten()),
        )
    ]


def test_the_channels_of_the_same_skeleton_are_used_in_order():
    assert channels_of(ARM, ARM) == [[0, 1, 2, 3], [10, 11, 12, 13]]


def test_joints_and_limbs_are_matched_by_name_and_direction():
    ours = Skeleton("hand", ("wrist", "elbow", "thumb", "shoulder"), ((0, 1), (0, 2), (3, 1)))
    heatmaps, pafs = channels_of(ARM, ours)
    assert heatmaps == [2, 1, None, 0, None]  # the teacher has no thumb, so its background differs
    assert pafs == [-12, -13, None, None, 10, 11]


def test_channels_that_the_teacher_lacks_are_trained_on_the_labels():
    ours = Skeleton("hand", ("wrist", "elbow", "thumb", "shoulder"), ((0, 1), (0, 2), (3, 1)))
    teacher = Teacher(constant_teacher(ARM), ARM, ours, 0.75, CPU, CPU)
    one = torch.ones(())
    labels = Targets(torch.zeros(1, 5, 2, 2), torch.zeros(1, 6, 2, 2), one, one)
    targets = teacher(torch.zeros(1, 16, 16, 3))
    reduced = reduce_label_weight(labels, targets)
    for mask, rest in (
        (targets.heatmap_mask, reduced.heatmap_mask), (targets.paf_mask, reduced.paf_mask)
    ):  # fmt: skip
        torch.testing.assert_close(mask.square() + rest.square(), torch.ones_like(rest))
    assert targets.paf_mask.square().flatten().tolist() == [0.75, 0.75, 0, 0, 0.75, 0.75]


@pytest.fixture
def spec(write_train_spec):
    def load(teacher):
        return TrainSpec.load(write_train_spec(distillation={"teacher": str(teacher)}))

    return load


@pytest.fixture
def network(spec):
    torch.manual_seed(0)
    return BodyPoseNetwork(spec("none.tlt").skeleton, TINY).eval()


def test_a_tlt_and_an_onnx_teacher_give_the_same_targets(spec, network, tmp_path):
    save_model(tmp_path / "model.tlt", network)
    (tmp_path / "model.onnx").write_bytes(export_onnx(network, model_header(network)))
    images = torch.randint(256, (2, 40, 48, 3), dtype=torch.uint8)
    by_network, by_engine = (
        load_teacher(spec(tmp_path / name), "", CPU)(images) for name in ("model.tlt", "model.onnx")
    )
    with torch.no_grad():
        maps = network(network.normalize(images))
    assert torch.equal(by_network.heatmaps, maps.heatmaps[-1])
    torch.testing.assert_close(by_engine.pafs, maps.pafs[-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(by_engine.heatmaps, maps.heatmaps[-1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["model.tlt", "model.onnx"])
def test_a_teacher_with_another_sigma_is_a_warning(spec, network, tmp_path, caplog, name):
    network.heatmap_sigma = 14.0
    save_model(tmp_path / "model.tlt", network)
    (tmp_path / "model.onnx").write_bytes(export_onnx(network, model_header(network)))
    load_teacher(spec(tmp_path / name), "", CPU)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert all(fact in warning for fact in ("heatmap_gaussian_sigma", " 14", " 7", name))


def test_a_python_file_can_open_any_engine(spec, tmp_path):
    write_model(tmp_path / "model.onnx", metadata=METADATA)
    (tmp_path / "teacher.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from bodyposenet.inference.engines import onnx\n"
        "@dataclass\n"
        "class Mine:\n"
        "    path: Path\n"
        "def open_teacher():\n"
        "    return onnx.load(Mine(Path(__file__).with_name('model.onnx')).path)\n"
    )
    teacher = load_teacher(spec(tmp_path / "teacher.py"), "", CPU)
    assert teacher.num_limbs == PAFS // 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "open_teacher"),
        ("import nothing_such", "nothing_such"),
        ("1 +", "SyntaxError"),
        ("def open_teacher():\n    pass\n", "NoneType"),
    ],
)
def test_a_python_file_that_fails_is_an_error(spec, tmp_path, text, message):
    (tmp_path / "teacher.py").write_text(text)
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        load_teacher(spec(tmp_path / "teacher.py"), "", CPU)
    assert "distillation.teacher" in caught.value.what
    assert "open_teacher()" in caught.value.remedy or "an Engine" in caught.value.remedy


def test_a_python_file_is_not_executed_where_sealed_files_are_required(spec, tmp_path):
    (tmp_path / "teacher.py").write_text("raise AssertionError\n")
    with pytest.raises(BodyPoseNetError, match=r"(?s)teacher\.py.*--require_sealed"):
        load_teacher(spec(tmp_path / "teacher.py"), SealedKey("key"), CPU)


def test_a_python_file_is_logged_before_it_is_executed(spec, tmp_path, caplog):
    path = tmp_path / "teacher.py"
    path.write_text("raise SystemExit('executed')")
    with pytest.raises(SystemExit, match="executed"):
        load_teacher(spec(path), "", CPU)
    assert "distillation.teacher" in caplog.text
    assert str(path) in caplog.text


def test_a_teacher_of_other_joints_is_an_error(spec, tmp_path):
    save_model(tmp_path / "finger.tlt", BodyPoseNetwork(FINGER, TINY))
    with pytest.raises(BodyPoseNetError, match=r"finger\.tlt"):
        load_teacher(spec(tmp_path / "finger.tlt"), "", CPU)


def test_a_teacher_of_another_size_is_an_error(spec, tmp_path):
    write_model(tmp_path / "static.onnx", size=("batch", 40, 48), metadata=METADATA)
    with pytest.raises(BodyPoseNetError, match=r"static\.onnx takes images of 40 x 48"):
        load_teacher(spec(tmp_path / "static.onnx"), "", CPU)
