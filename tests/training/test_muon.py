"""Muon, against the singular values themselves and against torch's own, which takes matrices."""

import pytest
import torch

from bodyposenet.training.optimizer import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(16, 16), (8, 72), (72, 8), (1, 9)])
def test_singular_values_become_about_one(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalize(matrix)
    assert found.dtype == torch.float32
    values = (left.T @ found @ right.T).diagonal()
    assert values.min() > 0.6 and values.max() < 1.3
    assert torch.linalg.svdvals(found).max() < 1.3  # nothing in other directions


def test_a_gradient_of_zero_changes_nothing():
    assert not orthogonalize(torch.zeros(3, 5)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_is_stepped_on_as_torch_steps_on_its_matrix(layout):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(6, 4, 3, 3, generator=generator)
    kernel = torch.nn.Parameter(start.to(memory_format=layout))
    matrix = torch.nn.Parameter(start.flatten(1).clone())
    group = {"params": [kernel], "momentum": 0.95, "lr": 0.1, "weight_decay": 0.3}
    ours = Muon([group], (0.9, 0.999))
    theirs = torch.optim.Muon(
        [matrix], lr=0.1, weight_decay=0.3, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    for _ in range(3):
        kernel.grad = torch.randn(6, 4, 3, 3, generator=generator)
        matrix.grad = kernel.grad.flatten(1)
        ours.step()
        theirs.step()
        torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0.02, atol=0.02)


def test_the_rest_is_stepped_on_as_adamw_does():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(5)) for _ in range(2))
    groups = [
        {"params": [parameter], "lr": 0.1, "weight_decay": 0.0} for parameter in (ours, theirs)
    ]
    optimizers = [Muon(groups[:1], (0.9, 0.99)), torch.optim.AdamW(groups[1:], betas=(0.9, 0.99))]
    for _ in range(3):
        ours.grad = torch.randn(5)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
