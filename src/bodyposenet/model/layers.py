"""Builder of sequential layers under TAO's names, and modules that wrap them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

OutChannels = Mapping[str, int]
"""Output channels of pruned convolutions by layer name; the others have the architecture's."""


class SequentialBuilder:
    """Builds an `nn.Sequential`; the input channels of each layer follow from the one before.

    Args:
        channels: Channels of the input.
        out_channels: Output channels of pruned convolutions by layer name.

    Attributes:
        channels: Channels of the output of the layers added so far.
    """

    def __init__(self, channels: int, out_channels: OutChannels) -> None:
        self.channels = channels
        self.out_channels = out_channels
        self._layers: OrderedDict[str, nn.Module] = OrderedDict()

    def build(self) -> nn.Sequential:
        """Return the layers added so far as a module."""
        return nn.Sequential(self._layers)

    def add(self, name: str, layer: nn.Module) -> None:
        """Add a layer that does not change the number of channels."""
        self._layers[name] = layer

    def conv(
        self,
        name: str,
        channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        bias: bool = True,
    ) -> None:
        """Add a convolution.

        Args:
            name: TAO's name of the layer.
            channels: Output channels, unless the layer is pruned.
            kernel: Size of the kernel.
            stride: Stride.
            dilation: Dilation.
            padding: Padding on all sides, in pixels; by default, the size is kept at stride 1.
            bias: Whether the layer has a bias.
        """
        channels = self.out_channels.get(name, channels)
        if padding is None:
            padding = dilation * (kernel // 2)
        self._layers[name] = nn.Conv2d(
            self.channels, channels, kernel, stride, padding, dilation, bias=bias
        )
        self.channels = channels

    def depthwise(
        self,
        name: str,
        kernel: int = 3,
        *,
        stride: int = 1,
        dilation: int = 1,
        padding: int | None = None,
        bias: bool = False,
    ) -> None:
        """Add a depthwise convolution; the arguments are those of `conv`."""
        channels = self.channels
        if padding is None:
            padding = dilation * (kernel // 2)
        self._layers[name] = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, channels, bias=bias
        )

    def norm(self, name: str, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        """Add a batch normalization (the defaults are PyTorch's)."""
        self._layers[name] = nn.BatchNorm2d(self.channels, eps, momentum)

    def relu(self, name: str) -> None:
        """Add a ReLU."""
        self._layers[name] = nn.ReLU(inplace=True)

    def relu6(self, name: str) -> None:
        """Add a ReLU6."""
        self._layers[name] = nn.ReLU6(inplace=True)

    def elu(self, name: str) -> None:
        """Add an ELU."""
        self._layers[name] = nn.ELU(inplace=True)


class Residual(nn.Module):
    """Residual connection: adds the input to the output of a module.

    Args:
        body: Module that keeps the shape of its input.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor) -> Tensor:
        """Apply the module; the shape is kept."""
        return features + self.body(features)


class Gated(nn.Module):
    """Gating by TAO's self-attention: multiplies the input elementwise by the output of a module.

    Args:
        gate: Module that keeps the shape of its input.
    """

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, features: Tensor) -> Tensor:
        """Apply the module; the shape is kept."""
        return features * self.gate(features)
