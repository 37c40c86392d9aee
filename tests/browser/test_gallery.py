"""The gallery of `bpnet browse` in headless Chromium: switches, enlarged pictures, small screens.

Skipped if Playwright or Chromium is missing.
"""

from __future__ import annotations

import pytest

import bodyposenet


@pytest.fixture(scope="module")
def gallery(drawn_dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("gallery") / "browse.html"
    bodyposenet.browse_dataset(dataset_spec=drawn_dataset.spec, results_dir=path)
    return path


@pytest.fixture(params=[(1200, "light"), (360, "dark")], ids=["wide", "phone"])
def page(open_report, gallery, request):
    return open_report(gallery, *request.param)


def test_the_page_has_light_and_dark_mode(page):
    width = page.viewport_size["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = int(background.removeprefix("rgb(").split(",")[0])
    assert brightness > 200 if width > 1000 else brightness < 50


def test_switches_hide_layers(page):
    pose = page.locator("#photos .pose").first
    box = page.locator("#photos .box").first
    assert pose.is_visible() and box.is_visible()
    page.uncheck("#show-pose")
    assert not pose.is_visible() and box.is_visible()
    page.check("#show-pose")
    assert pose.is_visible()


def test_a_click_enlarges_a_picture_with_its_shapes(page):
    picture = page.locator("#photos .layered").first
    page.set_viewport_size({"width": 1200, "height": 800})
    before = picture.bounding_box()["width"]
    picture.locator("label").click(position={"x": 5, "y": 5})
    image, shapes = picture.locator("img").bounding_box(), picture.locator("svg").bounding_box()
    assert image["width"] > 2 * before
    assert shapes == pytest.approx(image)
    assert "shoulder" in picture.locator(".joint title").all_text_contents()[5]
