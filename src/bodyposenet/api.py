"""A model file in, a function from images to poses out: `bodyposenet.load`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, TypedDict, TypeVar, Unpack, overload

import numpy as np

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.pixels import Image, to_pixels
from bodyposenet.runtime.default_model import INFERENCE_SPEC
from bodyposenet.runtime.models import build_predictor, find_model
from bodyposenet.runtime.pipeline import Pipeline
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.runtime.video import VideoPredictor, open_source
from bodyposenet.sealing import SealedKey
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.source import Location, Source
from bodyposenet.types import Poses

EngineName = Literal["auto", "pytorch", "onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "bf16"]
AnyImage = TypeVar("AnyImage", bound=Image)


class Options(TypedDict, total=False):
    """Keys of the inference spec, which says what they mean (`specs.inference`)."""

    train_spec: str | None
    input_shape: tuple[int, int]
    keep_aspect_ratio_mode: Literal["pad_image_input", "adjust_network_input"] | None
    output_stage_to_use: int | None
    output_upsampling_factor: tuple[int, int]
    heatmap_threshold: float | None
    paf_threshold: float | None
    multi_scale_inference: bool
    scales: tuple[float, ...]
    mode: Literal["accurate", "tao"]
    flip_test: bool
    rotation_test: bool
    complete_pose: bool
    display_score_threshold: float


def load(
    model: str | os.PathLike[str] | None = None,
    key: str | None = None,
    engine: EngineName | None = None,
    *,
    threads: int | None = None,
    precision: Precision | None = None,
    require_sealed: bool = False,
    **options: Unpack[Options],
) -> PoseEstimator:
    """Open a model.

    Args:
        model: A model file: `.tlt` or TAO 5's `.hdf5` (which need torch), `.onnx`, `.etlt`, or an
            `.engine` file that was built on this machine. None: the default model, which comes with
            the package.
        key: Key of a sealed file.
        engine: What runs it; None or `auto`: what suits the file.
        threads: Of the network, at most; None: as many as the engine likes.
        precision: What the engine computes in; None: fp32, or what an engine file was built for.
        require_sealed: Refuse a model file that is not sealed with the key.
        **options: How images become network inputs and maps become poses: keys of the inference
            spec, with its defaults, or with those of the default model.

    Returns:
        A function from images to poses.

    Raises:
        BodyPoseNetError: The model cannot be opened or run, or an option is wrong.
    """
    given: dict[str, Any] = dict(options)
    if require_sealed:
        if not key:
            raise BodyPoseNetError("require_sealed: there is no key", "Give the model's key.")
        key = SealedKey(key)
    if model is None:
        given = InferenceSpec.load(INFERENCE_SPEC).model_dump(exclude_unset=True) | given
    spec = InferenceSpec.from_source(_Arguments(given))
    engine = engine or "auto"
    path = find_model(spec, None if model is None else os.fspath(model), engine)
    try:
        predictor = build_predictor(spec, path, key or "", engine, threads, precision)
    except ModuleNotFoundError as error:
        raise BodyPoseNetError(
            f"{path}: what would run it needs {error.name}, which is not installed",
            "bpnet doctor tells how to install it; an .onnx file needs nothing more.",
        ) from error
    again = partial(
        load, None if model is None else path.absolute(), key, engine,
        threads=threads, precision=precision, require_sealed=require_sealed, **options,
    )  # fmt: skip
    return PoseEstimator(predictor, again)


class PoseEstimator:
    """Finds the people in images; `load` makes it.

    Any number of threads may share one. Where it is pickled, its file's path, the options and the
    key are, and the model is opened again where it arrives.

    Args:
        predictor: Network and decoder.
        reopen: Opens the same model in another process; None: it cannot be pickled.
    """

    def __init__(
        self, predictor: Predictor, reopen: Callable[[], PoseEstimator] | None = None
    ) -> None:
        self._predictor = predictor
        self._reopen = reopen

    def __reduce__(self) -> tuple[Callable[[], PoseEstimator], tuple[()]]:
        if self._reopen is None:
            raise BodyPoseNetError(
                f"{self!r} cannot be pickled", "Open the model with load() where it is needed."
            )
        return self._reopen, ()

    def __repr__(self) -> str:
        engine, spec = self._predictor.engine, self._predictor.spec
        model = Path(spec.model_path or "").name
        runtime = getattr(engine, "name", type(engine).__name__)
        rows, columns = spec.input_shape
        return f"PoseEstimator({model or 'a model'} on {runtime}, input {rows} x {columns})"

    @property
    def skeleton(self) -> Skeleton:
        """Joints and limbs of the poses."""
        return self._predictor.engine.skeleton

    @overload
    def __call__(self, images: Image) -> Poses: ...
    @overload
    def __call__(self, images: list[AnyImage] | tuple[AnyImage, ...]) -> list[Poses]: ...
    @overload
    def __call__(self, images: Iterable[Image]) -> Iterator[Poses]: ...

    def __call__(self, images: Image | Iterable[Image]) -> Poses | list[Poses] | Iterator[Poses]:
        """Find the people.

        Args:
            images: One image, a list of them, or any other iterable, which may be endless. An
                image is a path, an array (H, W, 3) uint8 RGB, or a PIL image.

        Returns:
            The poses in one image, in its pixels. For a list, a list of them. For any other
            iterable, an iterator: it takes a few images more than it has given poses of, and an
            array or PIL image may be filled anew for the next one. Several images take less time
            than one by one, as reading (of paths), network and decoding overlap.

        Raises:
            BodyPoseNetError: What is given is no image, or a file cannot be read; where there are
                several images, it says which of them.
        """
        if isinstance(images, list | tuple):
            return list(self._find_each(images))
        if isinstance(images, Iterable) and not _is_one(images):
            return self._find_each(_copy_array(image) for image in images)
        return self._predictor(to_pixels(images))  # type: ignore[arg-type]

    def video(
        self,
        source: str | os.PathLike[str] | int,
        *,
        track: bool = False,
        smooth: bool = False,
        stride: int = 1,
    ) -> VideoPredictor:
        """Find the people in a video, before a camera or in a network stream.

            for frame, poses in model.video("dance.mp4", track=True):
                picture = bodyposenet.draw(frame.pixels, poses)

        Args:
            source: A video file; the number of a camera, from 0; or the address of a stream
                (`rtsp://...`).
            track: Give every person an id over time: `poses.track_ids`.
            smooth: Filter the joints over time (One-Euro filter); implies `track`.
            stride: Search every N-th frame only. Frames between keep the poses of the last one that
                was searched; with `track`, each person moves on with their velocity.

        Returns:
            An iterator over every frame: `frame.pixels`, (H, W, 3) uint8 RGB, `frame.index`,
            `frame.time` in seconds, and the poses in its pixels. Reading, network and decoding
            overlap. Of a file a few frames are read ahead and none is skipped; from a live source
            it gives the latest frame and counts those that were `dropped`. Ending a loop early
            leaves the source open: `close()` it, or use `with`.

        Raises:
            BodyPoseNetError: There is no such source, or `stride` is less than 1. While iterating,
                an error is raised after the results of all frames before it.
        """
        return VideoPredictor(
            self._predictor, open_source(source), stride=stride, track=track, smooth=smooth
        )

    def _find_each(self, images: Iterable[Image]) -> Iterator[Poses]:
        pipeline = Pipeline(
            self._predictor,
            read=lambda numbered: to_pixels(numbered[1]),
            finish=lambda numbered, pixels, poses: poses,
            skip=_refuse,
        )
        return pipeline.run(_take(number, image) for number, image in enumerate(images))


def _take(number: int, image: Image) -> tuple[int, Image]:
    """An image that can wait for its turn: only paths are left to be read in threads.

    A PIL image may read its file when it is asked for pixels, and become the next frame later.

    Raises:
        BodyPoseNetError: It is no image, or cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return number, image
    try:
        return number, to_pixels(image)
    except BodyPoseNetError as error:
        _refuse((number, image), error)


def _copy_array(image: Image) -> Image:
    """An array of its own, as an iterator may fill the same one again and again."""
    return image.copy() if isinstance(image, np.ndarray) else image


def _refuse(numbered: tuple[int, Image], error: BodyPoseNetError) -> NoReturn:
    """End the work on several images, and say which of them is wrong.

    Raises:
        BodyPoseNetError: Always.
    """
    raise BodyPoseNetError(f"images[{numbered[0]}]: {error.what}", error.remedy) from error


def _is_one(images: object) -> bool:
    """Whether something that can be gone through is meant as one image: an array, a tensor."""
    return isinstance(images, str | bytes | os.PathLike) or hasattr(images, "__array__")


class _Arguments(Source):
    """Keyword arguments in place of a spec file: errors name the argument only.

    Args:
        arguments: Values that JSON can hold, or numpy's form of them.

    Raises:
        BodyPoseNetError: JSON cannot hold a value.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(arguments, default=_plain)
        except (TypeError, ValueError) as error:
            raise BodyPoseNetError(f"options of load: {error}") from error
        super().__init__(Path("options.json"), text)

    def place(self, location: Location) -> str:
        """The argument, and the place in its value."""
        return ".".join(str(part) for part in location)


def _plain(value: Any) -> Any:
    """A path as its text, a number or array of numpy as Python's."""
    return value.tolist() if hasattr(value, "tolist") else os.fspath(value)
