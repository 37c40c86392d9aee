"""Inference on many images with several processes on one machine or on a Ray cluster."""
