"""Pretrained weights: readers of several file formats, and transfer into a network.

Weights are matched by name and shape, and those that do not match are reported. The channels of the
maps are matched by the names of joints and limbs, in any order.

- `loading`: entry points (`load_pretrained`, `build_pretrained`), and detection of the format.
- `native`: files of this package, `.tlt` and `.onnx`.
- `lightweight_openpose`, `open_model_zoo`, `movenet` and `vgg19`: published weights.
- `weights`: what all readers return (`PretrainedWeights`), and changes of the normalization.
- `transfer`: copies weights into a network with other joints, limbs or normalization.
"""

from bodyposenet.model.pretrained.loading import build_pretrained, load_pretrained
from bodyposenet.model.pretrained.transfer import WeightReport

__all__ = ["WeightReport", "build_pretrained", "load_pretrained"]
