"""Evaluation of poses against annotations: COCO's keypoint AP, and errors per joint."""

from bodyposenet.evaluation.joint_errors import JointError
from bodyposenet.evaluation.keypoint_ap import METRICS, KeypointAP, Metric, evaluate_poses

__all__ = ["METRICS", "JointError", "KeypointAP", "Metric", "evaluate_poses"]
