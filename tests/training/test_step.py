"""A step of the optimizer: accumulation, clipping, the moving average, a teacher, memory."""

import pytest
import torch

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import named_tensors
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch, Batches
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.ema import ExponentialMovingAverage
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import (
    TargetGenerator,
    TrainStep,
    find_largest,
    read_images,
    step_within_memory,
)
from bodyposenet.training.teacher import Teacher

CPU = DistributedContext(torch.device("cpu"))
DISABLED = torch.amp.GradScaler("cpu", enabled=False)


@pytest.fixture
def make_step(write_train_spec):
    """`make_step(teacher=..., **changes)` -> (step, state, a batch of 8)."""

    def make(teacher=None, scaler=DISABLED, lr=0.0, fused=False, **changes):
        changes = {"model.kernel_regularization_factor": 0.0, **changes}
        spec = TrainSpec.load(write_train_spec(**changes))
        torch.manual_seed(0)
        network = BodyPoseNetwork(spec.skeleton, spec.model)
        optimizer = torch.optim.SGD(network.parameters(), lr, momentum=0.9, fused=fused)
        state = TrainState(network, optimizer, scaler=scaler)
        network.eval()  # batch normalization knows no batches then
        samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()))
        batch = next(Batches(samples, 8, CPU, seed=0).run(range(1)))
        return TrainStep(spec, state, CPU, teacher=teacher), state, batch

    return make


def gradients(state):
    return torch.cat([part.grad.flatten() for part in state.network.parameters()])


def test_accumulated_batches_give_the_gradients_of_one_large_batch(make_step):
    step, state, batch = make_step()
    whole = step([batch])
    expected = gradients(state)
    halves = [batch.first(4), batch._each(lambda tensor: tensor[4:])]
    parts = step(halves)
    assert torch.allclose(gradients(state), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(parts.losses.total, whole.losses.total)


def test_long_gradients_are_clipped_and_their_norm_is_told(make_step):
    step, state, batch = make_step()
    norm = step([batch]).gradient_norm
    assert torch.allclose(norm, gradients(state).norm())
    clipping, clipped, batch = make_step(clip_grad_norm=0.5)
    assert torch.allclose(clipping([batch]).gradient_norm, norm)
    assert gradients(clipped).norm() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_overflow_leave_no_trace_until_the_scale_fits(make_step, fused):
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


def test_an_infinite_loss_is_a_skipped_step_where_the_loss_is_scaled(make_step):
    _, state, _ = make_step()
    skeleton = state.network.skeleton

    def infinite(images):
        heatmaps, pafs = answer(state.network, images)
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


def test_the_average_follows_the_formula():
    network = BodyPoseNetwork(*tiny())
    average = ExponentialMovingAverage(network, 0.5)
    name = "block_1a_conv_1.weight"
    before = named_tensors(network)[name].clone()
    named_tensors(network)[name].add_(1)
    average.update(0)  # the first step keeps a tenth
    assert torch.allclose(named_tensors(average.network)[name], before + 0.9)
    average.update(1000)  # later ones what decay says
    assert torch.allclose(named_tensors(average.network)[name], before + 0.95)


def tiny():
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    arm = Skeleton("arm", ("shoulder", "elbow", "wrist"), ((0, 1), (1, 2)))
    return arm, ModelConfig(backbone_attributes=attributes, stages=1)


def answer(network, images):
    maps = network(network.normalize(images))
    return maps.heatmaps[-1], maps.pafs[-1]


def test_a_teacher_of_full_weight_is_all_that_counts(make_step):
    _, state, _ = make_step()
    network = state.network

    def teacher(weight):
        skeleton, cpu = network.skeleton, torch.device("cpu")
        return Teacher(lambda images: answer(network, images), skeleton, skeleton, weight, cpu, cpu)

    step, state, batch = make_step(teacher=teacher(1.0))
    assert float(step([batch]).losses.total) > 0  # the first stage differs from the last
    by_labels = make_step(teacher=teacher(0.0))[0]([batch]).losses.total
    plain = make_step()[0]([batch]).losses.total
    assert torch.equal(by_labels, plain)


def test_colors_change_the_images_and_nothing_else(make_step):
    _, _, plain = make_step()
    place = "dataloader.augmentation_config.color_aug_params"
    _, _, gray = make_step(**{place: {"gray_prob": 1.0}})
    assert read_images(plain) is plain.image
    for name in ("image", "mask", "keypoints", "labelled", "known"):
        assert torch.equal(getattr(plain, name), getattr(gray, name))
    red, green, blue = read_images(gray).unbind(-1)
    assert torch.equal(red, green) and torch.equal(green, blue)
    assert not torch.equal(*plain.image.unbind(-1)[:2])


class Stub:
    """A step whose memory holds so many samples."""

    def __init__(self, holds):
        self.holds = holds

    def __call__(self, batches):
        self.try_out(batches[0])
        return "done"

    def try_out(self, batch):
        if len(batch) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")


def batch_of(samples):
    empty = torch.zeros(samples, 1)
    return Batch(empty, empty, empty, empty, empty)


@pytest.mark.parametrize(
    ("holds", "found"), [(0, [0]), (1, [1]), (37, range(33, 38)), (63, range(56, 64))]
)
def test_the_largest_batch_that_fits_is_found(holds, found):
    assert find_largest(Stub(holds), batch_of(64)) in found


def test_a_batch_that_does_not_fit_is_an_error_that_names_the_largest_that_does():
    assert step_within_memory(Stub(8), [batch_of(8)]) == "done"
    with pytest.raises(BodyPoseNetError, match=r"batches of 64.* 8 fit"):
        step_within_memory(Stub(8), [batch_of(64)])
    with pytest.raises(BodyPoseNetError, match="not even one"):
        step_within_memory(Stub(0), [batch_of(2)])


def test_labels_leave_out_what_the_mask_and_the_dataset_leave_out(make_step, write_train_spec):
    _, _, batch = make_step()
    labels = TargetGenerator(TrainSpec.load(write_train_spec()))
    targets = labels(batch)
    assert targets.heatmaps.shape[0] == 8
    assert float(targets.heatmap_mask.max()) == 1.0
