"""Settings of a training follow from the sizes and the number of the people."""

import numpy as np
import pytest

from bodyposenet.data.coco import CocoImage
from bodyposenet.data.project.training_settings import choose_settings
from bodyposenet.types import Person


def images_of(heights, image_height=480, images=1):
    """Images with one person of each height, relative to the image, per image."""
    people = tuple(
        Person(
            np.zeros((17, 3)),
            (0.0, 0.0, 50.0, height * image_height),
            1000.0,
            False,
            None,
            17,
            index,
        )
        for index, height in enumerate(heights)
    )
    return [CocoImage(index, f"{index}.jpg", image_height, 640, people) for index in range(images)]


def test_large_people_need_the_usual_input():
    settings = choose_settings(images_of([0.3, 0.5, 0.8]), 17, "gpu")
    assert settings.inference_input == settings.training_input == 368
    assert settings.filters.min_acceptable_kpts == 5
    assert settings.filters.min_acceptable_height == 32


def test_small_people_need_a_larger_input():
    settings = choose_settings(images_of([0.08, 0.1, 0.12], 2160), 17, "cpu")
    assert 368 < settings.inference_input <= 640
    assert settings.training_input < settings.inference_input


def test_small_images_are_not_enlarged_much():
    settings = choose_settings(images_of([0.5, 0.9], 128), 5, "cpu")
    assert 128 <= settings.inference_input <= 1.3 * 128 + 4
    assert settings.filters.min_acceptable_height < 12
    assert settings.filters.min_acceptable_kpts == 2


@pytest.mark.parametrize("heights", [[0.2] * 9, [0.9] * 9, np.linspace(0.1, 1, 20)])
def test_samples_show_people_as_large_as_inference(heights):
    settings = choose_settings(images_of(heights), 17, "cpu")
    least, most = settings.zoom
    assert least <= 1 <= most
    largest, smallest = (0.6 * settings.training_input / zoom for zoom in settings.zoom)
    shown = np.quantile(heights, (0.1, 0.9)) * settings.inference_input
    assert smallest <= shown[0] * 1.15 and largest >= shown[1] * 0.85


def test_more_people_need_fewer_epochs_and_allow_larger_batches():
    few, many = (choose_settings(images_of([0.5], images=n), 17, "gpu") for n in (10, 50_000))
    assert few.epochs > many.epochs
    assert few.batch_size < many.batch_size
    assert choose_settings(images_of([0.5]), 17, "cpu", epochs=3).epochs == 3


def test_without_data_there_are_defaults():
    settings = choose_settings((), 17, "cpu")
    assert settings.inference_input == 368 and settings.epochs >= 1
