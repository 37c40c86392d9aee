"""Layers in a row under TAO's names, of the usual out_channels or those of a pruned model."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn

OutChannels = Mapping[str, int]
"""Name of a convolution -> its output channels, where they are not those of the architecture."""


class SequentialBuilder:
    """Builds an `nn.Sequential`; every layer takes the channels that the one before it gives.

    Args:
        channels: Channels that go in.
        out_channels: Output channels of narrowed convolutions.
    """

    def __init__(self, channels: int, out_channels: OutChannels) -> None:
        self.channels = channels
        self.out_channels = out_channels
        self._layers: OrderedDict[str, nn.Module] = OrderedDict()

    def build(self) -> nn.Sequential:
        """The layers added so far."""
        return nn.Sequential(self._layers)

    def add(self, name: str, layer: nn.Module) -> None:
        """Add a layer that keeps the number of channels."""
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
        """Add a convolution; by default it is padded alike on all sides, so as to keep the size."""
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
        """Add a convolution of each channel by itself, padded as `conv` is."""
        channels = self.channels
        if padding is None:
            padding = dilation * (kernel // 2)
        self._layers[name] = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, channels, bias=bias
        )

    def norm(self, name: str, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        """Add a batch normalization."""
        self._layers[name] = nn.BatchNorm2d(self.channels, eps, momentum)

    def relu(self, name: str) -> None:
        """Add a ReLU."""
        self._layers[name] = nn.ReLU(inplace=True)

    def relu6(self, name: str) -> None:
        """Add a ReLU that ends at 6."""
        self._layers[name] = nn.ReLU6(inplace=True)

    def elu(self, name: str) -> None:
        """Add an ELU."""
        self._layers[name] = nn.ELU(inplace=True)


class Residual(nn.Module):
    """Adds the input to the output of a body that keeps its shape."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor) -> Tensor:
        """Same shape as `features`."""
        return features + self.body(features)


class Gated(nn.Module):
    """Multiplies the input, value by value, with what a gate makes of it (TAO's self-attention)."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, features: Tensor) -> Tensor:
        """Same shape as `features`."""
        return features * self.gate(features)
