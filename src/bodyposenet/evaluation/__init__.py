"""Evaluation of poses against annotations: COCO keypoint AP, and errors of each keypoint."""

from bodyposenet.evaluation.joint_errors import JointError
from bodyposenet.evaluation.keypoint_ap import METRICS, KeypointAP, Metric, evaluate_poses

__all__ = ["METRICS", "JointError", "KeypointAP", "Metric", "evaluate_poses"]
