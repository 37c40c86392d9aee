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
def page(browser, gallery, request):
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    problems, requests = [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(gallery.as_uri())
    yield page
    assert not problems
    assert all(each.startswith(("file:", "data:")) for each in requests)
    context.close()


def test_the_page_fits_the_screen_in_light_and_dark_mode(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") == width
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
