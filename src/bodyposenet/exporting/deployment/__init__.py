"""An exported model in, a folder with all that is needed to run it elsewhere out.

DeepStream, Triton, trtexec, and a small Python program; every value comes from the file.
"""

from bodyposenet.exporting.deployment.kit import KitOptions, write_kit

__all__ = ["KitOptions", "write_kit"]
