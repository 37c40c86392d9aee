"""Pose estimation from Python: `load` opens a model, `PoseEstimator` finds people in images."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NoReturn,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from bodyposenet.encryption import SealedKey
from bodyposenet.errors import BodyPoseNetError, check_count
from bodyposenet.files import is_folder
from bodyposenet.inference.models import DEFAULT_INFERENCE_SPEC, build_predictor, find_model
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import Predictor
from bodyposenet.inference.video import VideoPredictor, open_source
from bodyposenet.media.download import is_address
from bodyposenet.media.images import (
    Color,
    DeferredImage,
    Image,
    check_color,
    defer,
    is_single_image,
    to_pixels,
)
from bodyposenet.media.inputs import list_images
from bodyposenet.other_libraries import no_method, unknown_keywords
from bodyposenet.poses import Poses
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.spec_file import Location, SpecFile

EngineName = Literal["auto", "pytorch", "onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "bf16"]
AnyImage = TypeVar("AnyImage", bound=Image)

READ_AHEAD = 4
"""Default of `read_ahead`."""


class SpecOptions(TypedDict, total=False):
    """Options of `load` that are keys of the inference spec, where they are documented."""

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


class Options(SpecOptions, total=False):
    """All options of `load`, for programs that keep them: `load(**options)`."""

    model: str | os.PathLike[str] | None
    key: str | None
    engine: EngineName | None
    device: str
    batch_size: int
    score_threshold: float | None
    max_people: int | None
    color: Color
    threads: int | None
    precision: Precision | None
    concurrency: int | None
    read_ahead: int
    require_sealed: bool


class ImageError(BodyPoseNetError):
    """One of several images could not be worked on.

    Args:
        what: What went wrong, with the image's index.
        remedy: What to do about it.
        index: Of the image, from 0.
        results: Where the images were a list or a folder: the poses of those before it. An
            iterator has handed them out.
    """

    def __init__(
        self, what: str, remedy: str = "", index: int = 0, results: Sequence[Poses] = ()
    ) -> None:
        super().__init__(what, remedy)
        self.index = index
        self.results = list(results)


def load(
    model: str | os.PathLike[str] | None = None,
    key: str | None = None,
    engine: EngineName | None = None,
    *,
    device: str = "auto",
    batch_size: int = 1,
    score_threshold: float | None = None,
    max_people: int | None = None,
    color: Color = "rgb",
    threads: int | None = None,
    precision: Precision | None = None,
    concurrency: int | None = None,
    read_ahead: int = READ_AHEAD,
    require_sealed: bool = False,
    **options: Unpack[SpecOptions],
) -> PoseEstimator:
    """Open a model.

    Args:
        model: A model file: `.tlt` or TAO 5's `.hdf5` (which need torch), `.onnx`, `.etlt`, or an
            `.engine` file that was built on this machine. None: the default model, which comes with
            the package.
        key: Key of a sealed file.
        engine: What runs it; None or `auto`: what suits the file.
        device: `auto` (a GPU where the engine can use one, else the CPU), `cpu`, `cuda`, `cuda:1`,
            or `mps` (PyTorch on a Mac).
        batch_size: How many images of a list or an iterator the network gets at once, where they
            follow one another and have the same input shape.
        score_threshold: Least score of the people who are returned, 0 to 1; None: all of them.
        max_people: How many people are returned per image at most, the highest score first; None:
            all of them.
        color: Order of the channels in arrays, and in the frames of `model.video(...)`: `rgb`, or
            `bgr` for OpenCV's. Images of other kinds tell theirs.
        threads: Of each run of the network on the CPU, at most, and no more than there are usable
            cores; None: as many as the engine chooses. It does not change the number of threads of
            other models, or of PyTorch in the program.
        precision: What the engine computes in; None: fp32, or what an engine file was built for.
        concurrency: How many threads of the program may run the network at the same time, while
            others wait; None: 2, or as many as have their `threads` on the usable cores.
        read_ahead: How many images beside a batch are taken from an iterator before their results
            are: it is never more than `batch_size + read_ahead` images ahead.
        require_sealed: Refuse a model file that is not sealed with the key.
        **options: How images become network inputs and maps become poses: keys of the inference
            spec, with its defaults, or with those of the default model. An `input_shape` without
            `scales` means one scale, and `scales` mean several.

    Returns:
        A function from images to poses.

    Raises:
        BodyPoseNetError: The model cannot be opened or run, the device is missing, or an option is
            unknown or wrong.
    """
    if unknown := sorted(set(options) - set(SpecOptions.__annotations__)):
        raise unknown_keywords("load", unknown, OPTIONS, {"model.video": VIDEO_OPTIONS})
    if not isinstance(cast(object, model), str | os.PathLike | None):
        raise BodyPoseNetError(
            f"model: expected the path of a model file, got {type(model).__name__}",
            "Give it as text or as a Path, or leave it out for the default model.",
        )
    check_count("batch_size", batch_size, 1)
    check_count("read_ahead", read_ahead, 0)
    if concurrency is not None:
        check_count("concurrency", concurrency, 1)
    check_color(color)
    if require_sealed:
        if not key:
            raise BodyPoseNetError("require_sealed: there is no key", "Give the model's key.")
        key = SealedKey(key)
    spec = _inference_spec(options, is_default=model is None)
    engine = engine or "auto"
    path = find_model(spec, None if model is None else os.fspath(model), engine, device)
    try:
        predictor = build_predictor(
            spec, path, key or "", engine, threads, precision,
            device=device, score_threshold=score_threshold, max_people=max_people,
            concurrency=concurrency,
        )  # fmt: skip
    except ModuleNotFoundError as error:
        raise BodyPoseNetError(
            f"{path}: this kind of model needs {error.name}, which is not installed",
            "`bpnet doctor` shows how to install it; an .onnx file needs nothing more.",
        ) from error
    again = partial(
        load, None if model is None else path.absolute(), key, engine,
        device=device, batch_size=batch_size, score_threshold=score_threshold,
        max_people=max_people, color=color, threads=threads, precision=precision,
        concurrency=concurrency, read_ahead=read_ahead, require_sealed=require_sealed, **options,
    )  # fmt: skip
    return PoseEstimator(
        predictor, again, batch_size=batch_size, color=color, read_ahead=read_ahead
    )


OPTIONS = tuple(sorted(Options.__annotations__, key=SpecOptions.__annotations__.__contains__))
"""Names of all options of `load`, its own before those of the spec."""

LIMITS = ("score_threshold", "max_people")
"""Options of a call, which `load` has too."""

VIDEO_OPTIONS = ("track", "smooth", "stride", *LIMITS)
"""Options of `PoseEstimator.video`."""


class PoseEstimator:
    """Finds the people in images; `load` makes it.

    Any number of threads may share one: `concurrency` of them run the network at the same time, and
    the poses are those of sequential calls, bit by bit. Pickled, it is the model's path, its key
    and the options, and the model is opened again where it arrives. In a forked process it is
    opened again by the first call, or that is an error, as PyTorch (on several threads) and
    OpenVINO do not run there.

    A context manager: `close` gives the memory and the threads back.

    Args:
        predictor: Network and decoder.
        reopen: Opens the same model in another process; None: it cannot be pickled.
        batch_size: See `load`.
        color: See `load`.
        read_ahead: See `load`.
    """

    def __init__(
        self,
        predictor: Predictor,
        reopen: Callable[[], PoseEstimator] | None = None,
        *,
        batch_size: int = 1,
        color: Color = "rgb",
        read_ahead: int = READ_AHEAD,
    ) -> None:
        self._predictor: Predictor | None = predictor
        self._reopen = reopen
        self._batch_size = int(batch_size)
        self._color: Color = color
        self._read_ahead = int(read_ahead)
        self._skeleton = predictor.engine.skeleton
        self._name = _describe(predictor)
        self._process = os.getpid()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[[], PoseEstimator], tuple[()]]:
        self._check_open()
        if self._reopen is None:
            raise BodyPoseNetError(
                f"{self!r} cannot be pickled", "Open the model with load() where it is needed."
            )
        return self._reopen, ()

    def __repr__(self) -> str:
        return f"PoseEstimator({self._name}{', closed' if self._predictor is None else ''})"

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # for which any attribute would be there

        def __getattr__(self, name: str) -> NoReturn:
            raise no_method(name)

    @property
    def skeleton(self) -> Skeleton:
        """Joints and limbs of the poses."""
        return self._skeleton

    def close(self) -> None:
        """Give the network's memory and threads back; calls from now on are errors.

        Calls, iterators and videos that are under way run to their end, which then does so.
        """
        with self._lock:
            self._predictor = None

    @overload
    def __call__(
        self,
        images: Image,
        *,
        score_threshold: float | None = None,
        max_people: int | None = None,
    ) -> Poses: ...
    # A list whose type is that of an iterable gives a list, which can do all but `next`.
    @overload
    def __call__(  # pyright: ignore[reportOverlappingOverload]
        self,
        images: list[AnyImage] | tuple[AnyImage, ...],
        *,
        score_threshold: float | None = None,
        max_people: int | None = None,
    ) -> list[Poses]: ...
    @overload
    def __call__(
        self,
        images: Iterable[Image],
        *,
        score_threshold: float | None = None,
        max_people: int | None = None,
    ) -> Iterator[Poses]: ...

    def __call__(
        self,
        images: Any = None,
        *more: Any,
        score_threshold: float | None = None,
        max_people: int | None = None,
        **unknown: Any,
    ) -> Poses | list[Poses] | Iterator[Poses]:
        """Find the people.

        Args:
            images: One image, a list of them, a folder, or any other iterable, which may be
                endless. An image is a path, an http(s) address, the bytes of an image file, a file
                that is open for reading bytes, a PIL image, a frame of a video, or an array or CPU
                tensor: (H, W) or (H, W, 1) gray, (H, W, 3) or (H, W, 4), or channels first; uint8,
                or floats of 0 to 1; RGB, or BGR with `load(color="bgr")`.
            *more: More images, which is an error: several images are a list.
            score_threshold: Least score of the people; None: that given to `load`.
            max_people: How many people per image at most; None: that given to `load`.
            **unknown: Options that the model does not have: the error tells what to write instead.

        Returns:
            The poses in one image, in its pixels. For a list, a list of them, as for a folder,
            which stands for the list of its images, sorted by name. For any other iterable, an
            iterator: at most `batch_size + read_ahead` images are taken that it has not given the
            poses of, and the program may fill the same array anew for the next image. Several
            images take less time than one by one, as reading, network and decoding overlap.

        Raises:
            BodyPoseNetError: The model is closed, an option is unknown or wrong, or the image
                cannot be read or is of a form that could mean several things.
            ImageError: The same, of one of several images. A list's error holds the `results` of
                those before it; an iterator has handed them out.
        """
        if unknown:
            others = {"load": OPTIONS, "model.video": VIDEO_OPTIONS}
            raise unknown_keywords("the model", sorted(unknown), LIMITS, others)
        if more:
            raise BodyPoseNetError(
                "The model takes one argument and options by name",
                "Give several images as a list: model([first, second]).",
            )
        predictor = self._open().with_limits(score_threshold, max_people)
        if isinstance(images, str | os.PathLike) and _is_folder(cast("os.PathLike[str]", images)):
            images = [entry.path for entry in list_images("dir", os.fspath(images)).entries]
        if isinstance(images, list | tuple):
            return self._find_all(predictor, cast("Sequence[Image]", images))
        if isinstance(images, VideoPredictor):
            raise BodyPoseNetError(
                "model.video(source) gives frames with their poses",
                "Loop over it: for frame, poses in model.video(source).",
            )
        if isinstance(images, Mapping):
            kind = type(cast(object, images)).__name__
            raise BodyPoseNetError(
                f"Unsupported image type: {kind}",
                "Give its images as a list: model(list(images.values())).",
            )
        if isinstance(images, Iterable) and not is_single_image(cast(object, images)):
            in_flight = self._batch_size + self._read_ahead
            several = cast("Iterable[Image]", images)
            return self._find_each(predictor, several, in_flight=in_flight, copy=True)
        return predictor(to_pixels(cast(Image, images), self._color))

    def video(
        self,
        source: str | os.PathLike[str] | int,
        *,
        track: bool = False,
        smooth: bool = False,
        stride: int = 1,
        score_threshold: float | None = None,
        max_people: int | None = None,
        **unknown: Any,
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
            score_threshold: Least score of the people; None: that given to `load`.
            max_people: How many people per frame at most; None: that given to `load`.
            **unknown: Options that there are not: the error tells what to write instead.

        Returns:
            An iterator over every frame: `frame.pixels`, (H, W, 3) uint8, RGB or as the model's
            `color` states, `frame.index`, `frame.time` in seconds, and the poses in its pixels.
            Reading, network and decoding overlap. Of a file a few frames are read ahead and none is
            skipped; from a live source it gives the latest frame and counts those that were
            `dropped`. `frame.is_searched` is False where the poses are those of an earlier frame
            (`stride`). The source is released at the end of the loop, also of one that is left
            early, if no variable holds the iterator; else `close()` it, or use `with`.

        Raises:
            BodyPoseNetError: There is no such source, or an option is unknown or wrong. While
                iterating, an error is raised after the results of all frames before it.
        """
        if unknown:
            others = {"load": OPTIONS}
            raise unknown_keywords("model.video", sorted(unknown), VIDEO_OPTIONS, others)
        return VideoPredictor(
            self._open().with_limits(score_threshold, max_people), open_source(source),
            stride=stride, track=track, smooth=smooth, batch=self._batch_size, color=self._color,
        )  # fmt: skip

    def _open(self) -> Predictor:
        """The predictor, for one call.

        A fork copies sessions without their threads, and locks as other threads held them, so a
        forked process opens a model of its own.

        Raises:
            BodyPoseNetError: The model is closed, or its engine does not run in forked processes.
        """
        if self._reopen is not None and os.getpid() != self._process:
            with self._lock:
                if self._predictor is not None and os.getpid() != self._process:
                    self._predictor = self._reopen()._predictor
                    self._process = os.getpid()
        return self._check_open()

    def _check_open(self) -> Predictor:
        predictor = self._predictor
        if predictor is None:
            raise BodyPoseNetError(
                f"{self._name}: the model is closed", "Open it again with load()."
            )
        return predictor

    def _find_all(self, predictor: Predictor, images: Sequence[Image]) -> list[Poses]:
        results: list[Poses] = []
        try:
            results.extend(self._find_each(predictor, images))
        except ImageError as error:
            error.results = results
            raise
        return results

    def _find_each(
        self,
        predictor: Predictor,
        images: Iterable[Image],
        *,
        in_flight: int | None = None,
        copy: bool = False,
    ) -> Iterator[Poses]:
        deferred = (defer(image, self._color, copy=copy) for image in images)
        pipeline: Pipeline[DeferredImage, Poses] = Pipeline(
            predictor,
            read=to_pixels,
            finish=lambda image, pixels, poses: poses,
            skip=_refuse,
            batch=self._batch_size,
            in_flight=in_flight,
        )
        index = 0
        try:
            for poses in pipeline.run(deferred):
                yield poses
                index += 1
        except BodyPoseNetError as error:  # in the place of the next result
            raise ImageError(f"images[{index}]: {error.what}", error.remedy, index) from error


def _inference_spec(options: Mapping[str, Any], *, is_default: bool) -> InferenceSpec:
    """The inference spec of some options.

    Args:
        options: Its keys.
        is_default: Of the default model, which has a spec of its own.
    """
    given = dict(options)
    if "scales" in given or "input_shape" in given:
        given.setdefault("multi_scale_inference", "scales" in given)
    if is_default:
        given = InferenceSpec.load(DEFAULT_INFERENCE_SPEC).model_dump(exclude_unset=True) | given
    return InferenceSpec.from_file(_Arguments(given))


def _describe(predictor: Predictor) -> str:
    """The model, what runs it, and the size of its input."""
    engine, spec = predictor.engine, predictor.spec
    model = Path(spec.model_path or "").name
    runtime = getattr(engine, "name", type(engine).__name__)
    rows, columns = spec.input_shape
    return f"{model or 'a model'} on {runtime}, input {rows} x {columns}"


def _is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether it is a folder; an empty text is not the working directory."""
    name = os.fspath(path)
    return name != "" and not is_address(name) and is_folder(name)


def _refuse(image: object, error: BodyPoseNetError) -> NoReturn:
    """Raise what is wrong with one of several images."""
    raise error


class _Arguments(SpecFile):
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
    if hasattr(value, "tolist"):
        return value.tolist()
    return os.fspath(cast("os.PathLike[str]", value))
