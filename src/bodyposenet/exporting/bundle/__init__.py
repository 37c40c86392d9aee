"""Deployment bundle: a folder with a model and all that is needed to run it elsewhere.

Files for DeepStream, Triton and trtexec, and a small Python program; every value is the model's.
"""

from bodyposenet.exporting.bundle.writer import BundleOptions, write_bundle

__all__ = ["BundleOptions", "write_bundle"]
