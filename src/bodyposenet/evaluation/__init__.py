"""Evaluation of poses against annotations.

- `evaluator`: evaluation of a model on the test images of a dataset.
- `keypoint_ap`: COCO's keypoint AP and AR.
- `joint_errors`: detection rate and distance errors of each keypoint.
"""

from bodyposenet.evaluation.joint_errors import JointError
from bodyposenet.evaluation.keypoint_ap import METRICS, KeypointAP, Metric, evaluate_poses

__all__ = ["METRICS", "JointError", "KeypointAP", "Metric", "evaluate_poses"]
