"""Train specs that may resume the training of a checkpoint, and others."""

from types import SimpleNamespace

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.resume_checks import check_same_spec


def test_stating_the_default_channels_is_not_a_change(write_train_spec, tmp_path):
    checkpoint = SimpleNamespace(spec=TrainSpec.load(write_train_spec()).text)
    written = {"model.heat_channels": 19, "model.paf_channels": 38}
    check_same_spec(TrainSpec.load(write_train_spec(**written)), checkpoint, tmp_path)
    with pytest.raises(BodyPoseNetError, match=r"model\.stages was 2, is 1"):
        check_same_spec(
            TrainSpec.load(write_train_spec(**{"model.stages": 1})), checkpoint, tmp_path
        )
