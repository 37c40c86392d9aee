"""Evaluation: poses and annotations in COCO's format -> keypoint AP, a table, files and plots."""

from bodyposenet.evaluation.joint_errors import JointError
from bodyposenet.evaluation.keypoint_ap import METRICS, KeypointAP, Metric, evaluate_poses
from bodyposenet.evaluation.report import write_report

__all__ = ["METRICS", "JointError", "KeypointAP", "Metric", "evaluate_poses", "write_report"]
