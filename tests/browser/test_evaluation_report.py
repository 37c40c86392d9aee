"""The report of `bpnet evaluate` in headless Chromium: errors, requests, and small screens.

Skipped if Playwright or Chromium is missing.
"""

import pytest

from bodyposenet.reporting.evaluation_report import write_evaluation_report
from bodyposenet.specs.inference import InferenceSpec

from ..evaluation.scenes import COCO
from ..reporting.drawn_evaluation import draw_evaluation


@pytest.fixture(scope="module", params=["coco", "pck"])
def report(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    details = draw_evaluation(folder, protocol=request.param, is_compared=True)
    return write_evaluation_report(
        folder, details, model="model.tlt", skeleton=COCO, spec=InferenceSpec()
    )


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_the_report_is_shown_without_problems(open_report, report, width, scheme):
    pictures = open_report(report, width, scheme).locator("img")
    assert pictures.count() >= 6
    assert all(
        pictures.nth(index).evaluate("image => image.naturalWidth > 0")
        for index in range(pictures.count())
    )
