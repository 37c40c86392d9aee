"""Script for torchrun: compute the gradients of one step, and save them on rank 0.

python rank_gradients.py SPEC BATCH_SIZE OUTPUT
"""

import sys

import torch

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import BatchLoader
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.distributed import init_distributed
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import TrainStep


def main(path, batch_size, output):
    with init_distributed() as distributed:
        spec = TrainSpec.load(path)
        torch.manual_seed(0)
        network = BodyPoseNetwork(spec.skeleton, spec.model)
        state = TrainState(network, torch.optim.SGD(network.parameters(), lr=0.0))
        step = TrainStep(spec, state, distributed)
        network.eval()  # keep the statistics of batch normalization
        samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()))
        loader = BatchLoader(samples, int(batch_size), distributed, seed=1)
        step([next(loader.iterate(range(1)))])
        if distributed.is_main:
            torch.save([part.grad for part in network.parameters()], output)


if __name__ == "__main__":
    main(*sys.argv[1:])
