"""Under torchrun: the gradients of one step, written by the first rank. SPEC BATCH_SIZE OUTPUT."""

import sys

import torch

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batches
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.distributed import join_ranks
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import TrainStep


def main(path, batch_size, output):
    with join_ranks() as ranks:
        spec = TrainSpec.load(path)
        torch.manual_seed(0)
        network = BodyPoseNetwork(spec.skeleton, spec.model)
        state = TrainState(network, torch.optim.SGD(network.parameters(), lr=0.0))
        step = TrainStep(spec, state, ranks)
        network.eval()  # batch normalization with statistics that no batch changes
        samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()))
        batches = Batches(samples, int(batch_size), ranks, seed=1)
        step([next(batches.run(range(1)))])
        if ranks.is_first:
            torch.save([part.grad for part in network.parameters()], output)


if __name__ == "__main__":
    main(*sys.argv[1:])
