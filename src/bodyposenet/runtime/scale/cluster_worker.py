"""What a predictor process of a Ray cluster does: columns of items in, columns of results out."""

from __future__ import annotations

import json
import logging
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.runtime.scale.executor import KeepableWork, OpenPredictor

Item = TypeVar("Item")
Result = TypeVar("Result")

NO_ITEM = -1
"""Number that a process gives with an error instead of a result."""


class ClusterWorker(Generic[Item, Result]):
    """What a process of the cluster does.

    Args:
        open_predictor: Opens the model.
        work: What is done with every item.
        folder: That relative paths start from.
        threads: At most so many, of the network and of all else.
    """

    def __init__(
        self,
        open_predictor: OpenPredictor,
        work: KeepableWork[Item, Result],
        folder: Path,
        threads: int,
    ) -> None:
        import cv2

        logger.setLevel(logging.ERROR)  # what failed stands in the results
        cv2.setNumThreads(threads)
        self._work = work
        self._problem: tuple[str, str] | None = None
        try:
            os.chdir(folder)
            self._pipeline = work.pipeline(open_predictor(threads))
        except OSError as error:
            self._problem = f"{folder}: a machine of the cluster has no such folder: {error}", ""
        except BodyPoseNetError as error:
            self._problem = error.what, error.remedy

    def __call__(self, rows: Mapping[str, NDArray[np.generic]]) -> dict[str, list[Any]]:
        """Results for items, both as columns."""
        if self._problem:
            return {"number": [NO_ITEM], "result": [json.dumps(self._problem)]}
        items = [pickle.loads(item) for item in rows["item"]]
        results = [json.dumps(self._work.store(one)) for one in self._pipeline.run(items)]
        return {"number": rows["number"].tolist(), "result": results}
