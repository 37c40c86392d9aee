"""A contract in, the command lines that build a TensorRT engine out.

Written against NVIDIA's documentation of trtexec 10 and 11; not run here, for want of a GPU.
"""

from __future__ import annotations

from bodyposenet.exporting.deployment.contract import Contract
from bodyposenet.exporting.deployment.templates import fill

_INSTEAD = {
    "fp32": "leave it out",
    "fp16": "write --fp16 instead",
    "int8-tensorrt": "write --int8 --fp16 instead",
}
"""Of --stronglyTyped, where types are only a wish."""


def find_obstacle(contract: Contract) -> str:
    """Why TensorRT cannot read the model; empty where it can."""
    if contract.description.data_type == "int8-cpu":
        return (
            "TensorRT reads no INT8 of the flavour cpu (its zero points are not 0): export with "
            "--int8_flavour tensorrt"
        )
    return ""


def write_script(contract: Contract, workspace: int) -> str:
    """The text of the script that calls trtexec.

    Args:
        contract: Of a model that TensorRT can read.
        workspace: Bytes that TensorRT may use while it builds.
    """
    return fill(
        "trtexec.sh",
        {
            "name": contract.name,
            "data_type": contract.description.data_type,
            "instead": _INSTEAD[contract.description.data_type],
            "shapes": "".join(f"    {flag} \\\n" for flag in _shape_flags(contract)),
            "workspace": workspace >> 20,
        },
    )


def _shape_flags(contract: Contract) -> list[str]:
    """Smallest, usual and largest input; none for a model that takes one shape only."""
    images = contract.images
    if contract.batch is not None and None not in images.declared:
        return []
    sizes = {
        "min": contract.batch or 1,
        "opt": contract.opt_batch_size,
        "max": contract.max_batch_size,
    }
    return [
        f"--{which}Shapes={images.name}:{'x'.join(map(str, (count, *images.sizes)))}"
        for which, count in sizes.items()
    ]
