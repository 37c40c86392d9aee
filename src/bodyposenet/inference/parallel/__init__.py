"""Inference on many images with several processes on one machine or on a Ray cluster.

- `executor`: the interfaces (`Job`, `Executor`), and the executor for one process.
- `processes`: executor with several processes on this machine.
- `ray_cluster`: executor on a Ray cluster, which stores results and resumes interrupted runs.
- `result_store`: the stored results.

A job defines what is done with each image, for example `inference.detections.DetectionJob`.
"""
