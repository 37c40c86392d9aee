"""What the processor can do, where a runtime must be told."""

from __future__ import annotations

import platform
from functools import cache

_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
_FUSED = ("avx512vnni", "avxvnni")
"""Instructions that add four products of bytes in 32 bits, as LLVM calls them."""


@cache
def sums_bytes_in_16_bits() -> bool:
    """Whether products of bytes are added in 16 bits, where large ones are cut off.

    So do x86 processors without VNNI (`vpmaddubsw`: unsigned activations by signed weights).
    """
    if platform.machine().lower() not in _X86:
        return False
    from llvmlite import binding  # numba's, which the decoder needs anyway

    features = binding.get_host_cpu_features()
    return not any(features.get(name) for name in _FUSED)
