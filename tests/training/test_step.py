"""TrainStep: accumulation, clipping, float16 overflow, teachers, running out of memory."""

import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch, BatchLoader
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.distillation import Teacher
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import (
    TargetGenerator,
    TrainStep,
    find_largest_batch_size,
    jittered_images,
    step_with_oom_check,
)

CPU = DistributedContext(torch.device("cpu"))
DISABLED = torch.amp.GradScaler("cpu", enabled=False)


@pytest.fixture
def make_step(write_train_spec):
    """Return a function that builds a step, its state and a batch of 8 samples."""

    def make(teacher=None, scaler=DISABLED, lr=0.0, fused=False, **changes):
        changes = {"model.kernel_regularization_factor": 0.0, **changes}
        spec = TrainSpec.load(write_train_spec(**changes))
        torch.manual_seed(0)
        network = BodyPoseNetwork(spec.skeleton, spec.model)
        optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9, fused=fused)
        state = TrainState(network, optimizer, scaler=scaler)
        network.eval()  # use running statistics in batch normalization
        samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()))
        batch = next(BatchLoader(samples, 8, CPU, seed=0).iterate(range(1)))
        return TrainStep(spec, state, CPU, teacher=teacher), state, batch

    return make


def gradients(state):
    return torch.cat([part.grad.flatten() for part in state.network.parameters()])


def test_accumulated_batches_give_the_gradients_of_one_large_batch(make_step):
    step, state, batch = make_step()
    whole = step([batch])
    expected = gradients(state)
    halves = [batch.first(4), batch._map(lambda tensor: tensor[4:])]
    parts = step(halves)
    assert torch.allclose(gradients(state), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(parts.losses.total, whole.losses.total)


def test_gradients_are_clipped_and_their_norm_is_returned(make_step):
    step, state, batch = make_step()
    norm = step([batch]).gradient_norm
    assert torch.allclose(norm, gradients(state).norm())
    clipping, clipped, batch = make_step(clip_grad_norm=0.5)
    assert torch.allclose(clipping([batch]).gradient_norm, norm)
    assert gradients(clipped).norm() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_overflowing_steps_change_nothing_until_the_scale_fits(make_step, fused):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    step, state, batch = make_step(scaler=scaler, lr=1e-3, fused=fused)
    state.network.train()
    tensors = named_tensors(state.network)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    skipped = 0
    while step([batch]).skipped:
        skipped += 1
        assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
        assert scaler.get_scale() == 2.0 ** (127 - skipped)
    assert 1 < skipped < 50
    assert not any(
        torch.equal(tensor, before[name])
        for name, tensor in tensors.items()
        if tensor.ndim == 4 or name.endswith(".running_mean")
    )


def test_an_infinite_loss_skips_the_step_if_the_loss_is_scaled(make_step):
    _, state, _ = make_step()
    skeleton = state.network.skeleton

    def infinite(images):
        heatmaps, pafs = last_maps(state.network, images)
        return heatmaps + torch.inf, pafs

    teacher = Teacher(infinite, skeleton, skeleton, 0.5, CPU.device, CPU.device)
    scaler = torch.amp.GradScaler("cpu")
    step, state, batch = make_step(teacher=teacher, scaler=scaler, lr=0.1)
    result = step([batch])
    assert not torch.isfinite(result.losses.total)
    assert result.skipped
    assert all(torch.isfinite(tensor).all() for tensor in named_tensors(state.network).values())
    step, _, batch = make_step(teacher=teacher)
    assert not step([batch]).skipped


def last_maps(network, images):
    maps = network(network.normalize(images))
    return maps.heatmaps[-1], maps.pafs[-1]


def test_a_teacher_of_weight_1_replaces_the_labels_and_of_weight_0_has_no_effect(make_step):
    _, state, _ = make_step()
    network = state.network

    def teacher(weight):
        skeleton, cpu = network.skeleton, torch.device("cpu")
        return Teacher(
            lambda images: last_maps(network, images), skeleton, skeleton, weight, cpu, cpu
        )

    step, state, batch = make_step(teacher=teacher(1.0))
    assert float(step([batch]).losses.total) > 0  # the first stage differs from the last
    by_labels = make_step(teacher=teacher(0.0))[0]([batch]).losses.total
    plain = make_step()[0]([batch]).losses.total
    assert torch.equal(by_labels, plain)


def test_color_augmentation_changes_only_the_images(make_step):
    _, _, plain = make_step()
    place = "dataloader.augmentation_config.color_aug_params"
    _, _, gray = make_step(**{place: {"gray_prob": 1.0}})
    assert jittered_images(plain) is plain.image
    for name in ("image", "mask", "keypoints", "labeled", "known"):
        assert torch.equal(getattr(plain, name), getattr(gray, name))
    red, green, blue = jittered_images(gray).unbind(-1)
    assert torch.equal(red, green) and torch.equal(green, blue)
    assert not torch.equal(*plain.image.unbind(-1)[:2])


class LimitedStep:
    """A step whose memory is enough for a number of samples."""

    def __init__(self, capacity):
        self.capacity = capacity

    def __call__(self, batches):
        self.dry_run(batches[0])
        return "done"

    def dry_run(self, batch):
        if len(batch) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")


def batch_of(samples):
    empty = torch.zeros(samples, 1)
    return Batch(empty, empty, empty, empty, empty)


@pytest.mark.parametrize(
    ("capacity", "expected"), [(0, [0]), (1, [1]), (37, range(33, 38)), (63, range(56, 64))]
)
def test_the_largest_batch_size_that_fits_is_found(capacity, expected):
    assert find_largest_batch_size(LimitedStep(capacity), batch_of(64)) in expected


def test_running_out_of_memory_names_the_batch_size_that_fits():
    assert step_with_oom_check(LimitedStep(8), [batch_of(8)]) == "done"
    with pytest.raises(BodyPoseNetError, match=r"batch_size 64.* 8 fits"):
        step_with_oom_check(LimitedStep(8), [batch_of(64)])
    with pytest.raises(BodyPoseNetError, match="not even one"):
        step_with_oom_check(LimitedStep(0), [batch_of(2)])


def test_targets_are_rendered_for_a_batch(make_step, write_train_spec):
    _, _, batch = make_step()
    targets = TargetGenerator(TrainSpec.load(write_train_spec()))(batch)
    assert targets.heatmaps.shape[0] == 8
    assert float(targets.heatmap_mask.max()) == 1.0
