"""Precomputed teacher maps give the gradients of a running teacher, and can be trained on."""

import json

import cv2
import numpy as np
import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines.pytorch import PyTorchEngine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.model.checkpoint import load_model, named_tensors, save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import BatchLoader
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.distillation import PrecomputedTeacher, load_teacher, open_teacher_maps
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.precompute_maps import Photo, compute_teacher_maps, training_photos
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import TrainStep

from ..overfitting import overfit

CPU = torch.device("cpu")
WHOLE_PHOTOS = {
    "dataloader.image_config": {"image_dims": {"height": 128, "width": 128}},
    "dataloader.augmentation_config": {"spatial_augmentation_mode": "standard"},
    "model.kernel_regularization_factor": 0.0,
}
SETTINGS = InferenceSpec(input_shape=(128, 128))


@pytest.fixture(scope="module")
def teacher(drawn_dataset):
    return overfit(drawn_dataset.spec)


@pytest.fixture
def make_spec(write_train_spec):
    def make(**changes):
        return TrainSpec.load(write_train_spec(**changes))

    return make


def predictor(network, settings=SETTINGS):
    return Predictor(PyTorchEngine(network, CPU), settings)


def step_of(spec, teacher, maps=None):
    """Return the gradients and the loss of one step on all samples, and the batch."""
    torch.manual_seed(0)
    network = BodyPoseNetwork(spec.skeleton, spec.model)
    state = TrainState(network, torch.optim.SGD(network.parameters(), lr=0.0))
    network.eval()
    samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()), maps)
    batch = next(BatchLoader(samples, 8, DistributedContext(CPU), seed=0).iterate(range(1)))
    loss = TrainStep(spec, state, DistributedContext(CPU), teacher=teacher)([batch]).losses.total
    return torch.cat([part.grad.flatten() for part in network.parameters()]), float(loss), batch


def test_maps_of_whole_photos_give_the_gradients_of_the_running_teacher(
    make_spec, teacher, tmp_path
):
    save_model(tmp_path / "teacher.tlt", teacher)
    spec = make_spec(distillation={"teacher": str(tmp_path / "teacher.tlt")}, **WHOLE_PHOTOS)
    photos = training_photos(spec)
    assert len(photos) == 12
    done = compute_teacher_maps(predictor(teacher), photos, tmp_path / "maps")
    assert (done.computed, done.kept, done.failed) == (12, 0, 0)
    expected, loss, _ = step_of(spec, load_teacher(spec, "", CPU))
    spec = make_spec(distillation={"maps": str(tmp_path / "maps")}, **WHOLE_PHOTOS)
    maps = open_teacher_maps(spec)
    gradients, loss_of_maps, batch = step_of(spec, PrecomputedTeacher(maps, 0.5, CPU), maps)
    assert batch.teacher_cells.all()
    with torch.no_grad():
        predicted = teacher(teacher.normalize(batch.image))
    for ours, theirs in (
        (batch.teacher_heatmaps, predicted.heatmaps[-1]), (batch.teacher_pafs, predicted.pafs[-1])
    ):  # fmt: skip
        assert (ours - theirs).abs().max() < 0.55 / 127 * theirs.abs().max()
    assert loss_of_maps == pytest.approx(loss, rel=0.002)
    difference = (gradients - expected).norm() / expected.norm()
    assert difference < 0.01
    by_labels, _, _ = step_of(spec, None)
    assert (by_labels - expected).norm() / expected.norm() > 0.1


def test_scales_and_the_flip_test_are_averaged_on_the_cells_of_scale_1(
    make_spec, teacher, tmp_path
):
    settings = SETTINGS.model_copy(
        update={"multi_scale_inference": True, "scales": (0.75, 1.0, 1.5), "flip_test": True}
    )
    spec = make_spec(distillation={"maps": str(tmp_path / "maps")}, **WHOLE_PHOTOS)
    photos = training_photos(spec)[:2]
    done = compute_teacher_maps(predictor(teacher, settings), photos, tmp_path / "maps")
    assert done.computed == 2 and done.megabytes > 0
    header = json.loads((tmp_path / "maps" / "teacher_maps.json").read_text())
    assert header["settings"]["scales"] == [0.75, 1.0, 1.5]
    maps = open_teacher_maps(spec)
    stored = maps.store.read(photos[0].path, 128, 128)
    assert stored.heatmaps.shape[1:] == (16, 16)
    with torch.no_grad():
        pixels = torch.from_numpy(cv2.imread(str(photos[0].path))[None, ..., ::-1].copy())
        plain = teacher(teacher.normalize(pixels)).heatmaps[-1][0].numpy()
    averaged = stored.heatmaps * stored.steps[0]
    assert np.corrcoef(plain[-1].ravel(), averaged[-1].ravel())[0, 1] > 0.7
    with pytest.raises(BodyPoseNetError, match="settings"):
        compute_teacher_maps(predictor(teacher), photos, tmp_path / "maps")


def test_an_interrupted_run_can_be_continued(make_spec, teacher, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    photos = [*training_photos(make_spec())[:3], Photo(tmp_path / "broken.jpg")]
    assert compute_teacher_maps(predictor(teacher), photos[:1], tmp_path / "maps").computed == 1
    before = sorted((tmp_path / "maps").glob("*.npz"))[0].stat().st_mtime_ns
    done = compute_teacher_maps(predictor(teacher), photos, tmp_path / "maps")
    assert (done.computed, done.kept, done.failed) == (2, 1, 1)
    assert before in [path.stat().st_mtime_ns for path in (tmp_path / "maps").glob("*.npz")]
    assert not list((tmp_path / "maps").glob("*.tmp"))


def test_photos_of_one_name_are_an_error(teacher, tmp_path):
    photos = [Photo(tmp_path / "a" / "1.jpg"), Photo(tmp_path / "b" / "1.jpg")]
    with pytest.raises(BodyPoseNetError, match=r"b/1\.jpg"):
        compute_teacher_maps(predictor(teacher), photos, tmp_path / "maps")


@pytest.mark.parametrize("distillation", [{}, {"weight": 0.3}, {"teacher": "a.tlt", "maps": "b"}])
def test_exactly_one_of_teacher_and_maps_is_needed(make_spec, distillation):
    with pytest.raises(BodyPoseNetError, match=r"train\.yaml.*distillation.*teacher.*maps"):
        make_spec(distillation=distillation)


@pytest.fixture
def maps_of_teacher(make_spec, teacher, tmp_path):
    photos = training_photos(make_spec())
    compute_teacher_maps(predictor(teacher), photos[:-4], tmp_path / "maps")
    return tmp_path / "maps"


def test_a_training_on_maps_is_resumed_exactly(
    write_train_spec, run_bpnet, maps_of_teacher, tmp_path
):
    changes = {
        "distillation": {"maps": str(maps_of_teacher), "weight": 0.5},
        "dataloader.workers": 1,
        "dataloader.image_cache_dir": str(tmp_path / "cache"),
    }
    spec = write_train_spec(**changes)
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "whole")
    assert result.code == 0, result.err
    assert result.err.count("no teacher maps") == 1  # of four photos
    whole = named_tensors(load_model(tmp_path / "whole" / "bpnet_model.tlt", ""))
    for name in ("bpnet_model.tlt", "model.epoch-2.tlt", "model.epoch-2.state"):
        (tmp_path / "whole" / name).unlink()
    moved = maps_of_teacher.rename(tmp_path / "elsewhere")
    changes["distillation"] = {"maps": str(moved), "weight": 0.5}
    spec = write_train_spec(**changes)
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "whole")
    assert result.code == 0, result.err
    again = named_tensors(load_model(tmp_path / "whole" / "bpnet_model.tlt", ""))
    assert all(torch.equal(part, again[name]) for name, part in whole.items())
    header = json.loads((moved / "teacher_maps.json").read_text())
    (moved / "teacher_maps.json").write_text(json.dumps(header | {"model": "another"}))
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "whole")
    assert result.code == 2
    assert "teacher maps" in result.err


def test_damaged_maps_count_as_unreadable_samples(
    write_train_spec, run_bpnet, maps_of_teacher, tmp_path
):
    path = sorted(maps_of_teacher.glob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:-40])
    changes = {"distillation": {"maps": str(maps_of_teacher)}, "num_epoch": 1}
    spec = write_train_spec(**changes, **{"dataloader.max_unreadable_share": 0.3})
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "results")
    assert result.code == 0, result.err
    assert str(path) in result.err
    spec = write_train_spec(**changes, **{"dataloader.max_unreadable_share": 0.0})
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "others")
    assert result.code == 2
    assert str(path) in result.err


def test_the_script_computes_maps_of_a_folder_and_of_a_spec(
    make_spec, write_train_spec, teacher, tmp_path, monkeypatch, capsys
):
    from examples.default_model import teacher_maps

    save_model(tmp_path / "teacher.tlt", teacher)
    (tmp_path / "infer.yaml").write_text("input_shape: [64, 64]\n")
    folder = training_photos(make_spec())[0].path.parent
    common = ["-i", str(tmp_path / "infer.yaml"), "-m", str(tmp_path / "teacher.tlt"), "-o"]
    for photos, output in (("--images", str(folder)), ("-e", str(write_train_spec()))):
        argv = ["teacher_maps", photos, output, *common, str(tmp_path / "maps")]
        monkeypatch.setattr("sys.argv", argv)
        teacher_maps.main()
    assert "0 computed now" in capsys.readouterr().out
    assert len(list((tmp_path / "maps").glob("*.npz"))) == 12
    header = json.loads((tmp_path / "maps" / "teacher_maps.json").read_text())
    assert header["model"]["name"] == "teacher.tlt"
