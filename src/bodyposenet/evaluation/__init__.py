"""Evaluation: poses and annotations in COCO's format -> keypoint AP, a table, files and plots."""

from bodyposenet.evaluation.joint_errors import JointError
from bodyposenet.evaluation.keypoint_ap import METRICS, KeypointAP, Metric, evaluate_poses
from bodyposenet.evaluation.result_files import write_result_files

__all__ = ["METRICS", "JointError", "KeypointAP", "Metric", "evaluate_poses", "write_result_files"]
