"""Inference: detection of people in images and videos with a model on any runtime.

- `estimator`: `bodyposenet.load` and the `PoseEstimator` that it returns.
- `models`: selection of the model file and of the engine that runs it.
- `engines`: one engine per runtime (ONNX Runtime, OpenVINO, PyTorch, TensorRT), which runs the
  network and returns its maps.
- `predictor`: prediction on one image: resizing, network, decoding, filter.
- `tta`: test-time augmentation, flip test and rotation test.
- `pipeline`: prediction on many images, where reading, network and decoding overlap.
- `video`: prediction on videos and cameras, with tracking and smoothing.
- `parallel`: many images on several processes or on a Ray cluster.
- `detections`, `recording`: results as files: `detections.json`, annotated images and videos.

Decoding of maps into poses is in `bodyposenet.decoding`.
"""
