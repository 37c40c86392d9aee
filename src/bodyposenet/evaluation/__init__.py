"""Evaluation of poses against annotations.

- `evaluator`: evaluation of a model on the test images of a dataset.
- `keypoint_ap`: COCO's keypoint AP and AR.
- `joint_errors`: detection rate and distance errors of each keypoint.
- `details`: everything that the report of an evaluation shows, with the modules below.
- `protocols`: metrics of COCO and CrowdPose (`oks_scores`, `crowdpose`), and PCK (`pck`).
- `analysis`: error types (`error_types`), AP per joint and size, and the quality of each image.
- `comparison`: differences from earlier evaluations.
- `image_poses`, `oks_matching`: people and poses as arrays, and their matching.
"""

from bodyposenet.evaluation.joint_errors import JointError
from bodyposenet.evaluation.keypoint_ap import METRICS, KeypointAP, Metric, evaluate_poses

__all__ = ["METRICS", "JointError", "KeypointAP", "Metric", "evaluate_poses"]
