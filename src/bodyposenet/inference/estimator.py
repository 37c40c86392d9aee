"""Pose estimation from Python: `load` opens a model and returns a `PoseEstimator`."""

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
from bodyposenet.inference.models import PRESETS, build_predictor, find_model, preset_spec
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
from bodyposenet.other_libraries import missing_model_attribute, unknown_keywords
from bodyposenet.poses import Poses
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.spec_file import Location, SpecFile

EngineName = Literal["auto", "pytorch", "onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "bf16"]
AnyImage = TypeVar("AnyImage", bound=Image)

READ_AHEAD = 4
"""Default of the option `read_ahead`."""


class SpecOptions(TypedDict, total=False):
    """Options of `load` that are keys of the inference spec."""

    train_spec: str | None
    """Path of the train spec of the model; only TAO's `.hdf5` files need it."""
    input_shape: tuple[int, int]
    """Height and width of the network input. Without `scales`, it implies one scale."""
    keep_aspect_ratio_mode: Literal["pad_image_input", "adjust_network_input"] | None
    """`pad_image_input` pads the image, `adjust_network_input` changes the width of the network
    input, None stretches the image."""
    output_stage_to_use: int | None
    """Stage whose output is used, counted from 1, or None for the last."""
    output_upsampling_factor: tuple[int, int]
    """Vertical and horizontal upsampling of the maps before decoding; `mode="tao"` only."""
    heatmap_threshold: float | None
    """Minimum heatmap value of a peak, or None for the default of the mode."""
    paf_threshold: float | None
    """Minimum PAF score of a sample on a limb, or None for the default of the mode."""
    multi_scale_inference: bool
    """Average the maps of all `scales`."""
    scales: tuple[float, ...]
    """Scales, as factors of `input_shape`; they imply multi-scale inference."""
    mode: Literal["accurate", "tao"]
    """Decoder."""
    flip_test: bool
    """Average the maps of the image and of its mirror image."""
    rotation_test: bool
    """Also run on the image rotated by 90 degrees to either side."""
    complete_pose: bool
    """Infer missing joints from the others."""
    display_score_threshold: float
    """Minimum score of a detection that starts a new track in `PoseEstimator.video`."""


class Options(SpecOptions, total=False):
    """All options of `load`, for type-checked `load(**options)`.

    Repeats the signature of `load`, because type checkers cannot derive a TypedDict from it; a test
    compares the two.
    """

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


OPTIONS = tuple(sorted(Options.__annotations__, key=SpecOptions.__annotations__.__contains__))
"""Names of all options of `load`, its own parameters first."""

CALL_OPTIONS = ("score_threshold", "max_people")
"""Options of a call, which `load` has as well."""

VIDEO_OPTIONS = ("track", "smooth", "stride", *CALL_OPTIONS)
"""Names of the options of `PoseEstimator.video`."""


class ImageError(BodyPoseNetError):
    """One of several images could not be processed.

    Attributes:
        what: Description of the error, with the index of the image.
        remedy: What to do about it.
        index: Index of the image.
        results: Poses of the images before it, for a list or a folder. Empty for an iterator, which
            has already returned them.

    Examples:
        ```python
        import bodyposenet

        model = bodyposenet.load()
        try:
            results = model(["people.jpg", "missing.jpg"])
        except bodyposenet.ImageError as error:
            print(error.index, error.what)
            results = error.results
        ```
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
    """Open a model for pose estimation.

    Args:
        model: Path of a model file: `.tlt` or TAO 5's `.hdf5` (both require torch), `.onnx`,
            `.etlt`, or an `.engine` file built on this machine. None or `"default"` for the default
            model, which is part of the package; `"fast"` for the same model with a smaller network
            input, `"accurate"` with several scales and the flip test.
        key: Key of an encrypted model file.
        engine: Runtime of the model: `pytorch`, `onnx`, `openvino` or `tensorrt`. `auto` or None
            for the default runtime of the file.
        device: `auto` (a GPU if the engine can use one, else the CPU), `cpu`, `cuda`, `cuda:1`, or
            `mps` (PyTorch on a Mac).
        batch_size: Maximum batch size for a list or an iterator. A batch consists of consecutive
            images with the same network input shape.
        score_threshold: Minimum score of returned people, 0 to 1, or None for no minimum.
        max_people: Maximum number of returned people per image, best first, or None for no maximum.
        color: Order of the channels in arrays and in frames of `model.video(...)`: `rgb`, or `bgr`
            as in OpenCV. Other types of images define their own order.
        threads: Maximum number of threads of each run of the network on the CPU, limited to the
            usable cores, or None for the default of the engine. Does not affect other models or
            PyTorch's own number of threads.
        precision: `fp32` or `bf16`, or None for fp32 or the precision of an engine file.
        concurrency: Maximum number of threads of the program that run the network at the same time,
            while others wait. None for 2, or for the usable cores divided by `threads` if that is
            more.
        read_ahead: Number of images that are read ahead from an iterator in addition to a batch.
        require_sealed: Raise an error if the model file is not encrypted with the key.
        **options: Keys of the inference spec, see `SpecOptions`. Their defaults are those of the
            inference spec or, without a model file, of the preset.

    Returns:
        The opened model, which is called with images.

    Raises:
        BodyPoseNetError: The model cannot be opened or run, the device is missing, or an option is
            unknown or wrong.

    Examples:
        ```python
        import bodyposenet

        model = bodyposenet.load()  # the default model
        poses = model("people.jpg")
        ```

        Smaller network input for speed, and only the best five people with a score of at least 0.5:

        ```python
        model = bodyposenet.load(input_shape=(256, 256), score_threshold=0.5, max_people=5)
        ```
    """
    if unknown := sorted(set(options) - set(SpecOptions.__annotations__)):
        raise unknown_keywords("load", unknown, OPTIONS, {"model.video": VIDEO_OPTIONS})
    if not isinstance(cast(object, model), str | os.PathLike | None):
        raise BodyPoseNetError(
            f"model: expected the path of a model file or a preset, got {type(model).__name__}",
            "Use a str or a Path, or omit it for the default model.",
        )
    check_count("batch_size", batch_size, 1)
    check_count("read_ahead", read_ahead, 0)
    if concurrency is not None:
        check_count("concurrency", concurrency, 1)
    check_color(color)
    if require_sealed:
        if not key:
            raise BodyPoseNetError("require_sealed: no key is given", "Give the key of the model.")
        key = SealedKey(key)
    name = None if model is None else os.fspath(model)
    spec = _inference_spec(options, preset_spec(name))
    engine = engine or "auto"
    path = find_model(spec, name, engine, device)
    try:
        predictor = build_predictor(
            spec, path, key or "", engine, threads, precision,
            device=device, score_threshold=score_threshold, max_people=max_people,
            concurrency=concurrency,
        )  # fmt: skip
    except ModuleNotFoundError as error:
        raise BodyPoseNetError(
            f"{path}: a model of this type needs {error.name}, which is not installed",
            "`bpnet doctor` shows how to install it; .onnx files need no further packages.",
        ) from error
    reopen = partial(
        load, name if name is None or name in PRESETS else path.absolute(), key, engine,
        device=device, batch_size=batch_size, score_threshold=score_threshold,
        max_people=max_people, color=color, threads=threads, precision=precision,
        concurrency=concurrency, read_ahead=read_ahead, require_sealed=require_sealed, **options,
    )  # fmt: skip
    return PoseEstimator(
        predictor, reopen, batch_size=batch_size, color=color, read_ahead=read_ahead
    )


class PoseEstimator:
    """A model that detects the poses of people in images and videos; returned by `load`.

    Call it with images, or use `video` for videos. It is a context manager that calls `close`.

    Any number of threads may share a model. `concurrency` of them run the network at the same time,
    and results are bit-identical to those of sequential calls. A pickled model contains the path,
    the key and the options, and is opened again when it is unpickled. In a forked process, the
    first call opens it again, or raises an error if the engine cannot run there (OpenVINO, and
    PyTorch with several threads).

    Args:
        predictor: Predictor with network and decoder.
        reopen: Function that opens the same model in another process, or None if it cannot be
            pickled.
        batch_size: See `load`.
        color: See `load`.
        read_ahead: See `load`.

    Examples:
        ```python
        import bodyposenet

        model = bodyposenet.load()
        poses = model("people.jpg")
        for person in poses:
            print(person.score, person["nose"])
        ```
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
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    if not TYPE_CHECKING:  # type checkers would accept any attribute

        def __getattr__(self, name: str) -> NoReturn:
            raise missing_model_attribute(name)

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses: joints and limbs."""
        return self._skeleton

    def close(self) -> None:
        """Release the network's memory and threads. Later calls raise an error.

        Running calls, iterators and videos continue to their end, and the network is released then.
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
    # A list that is typed as Iterable returns a list, which supports all but `next`.
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
        """Detect the poses of people in one or several images.

        Several images take less time than one by one, because reading, network and decoding
        overlap.

        Args:
            images: One image, a list of images, a folder, or any other iterable of images, which
                may be endless. An image is a path, a URL (http or https), the bytes of an image
                file, a file opened for reading bytes, a PIL image, a frame of a video, or an array
                or CPU tensor of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or with channels
                first, of type uint8 or float (0 to 1), in RGB or with `load(color="bgr")` in BGR.
            *more: Not supported; raises an error that explains how to give several images.
            score_threshold: Minimum score of returned people, or None for that of `load`.
            max_people: Maximum number of returned people per image, or None for that of `load`.
            **unknown: Not supported; raises an error with the correct option.

        Returns:
            Poses in pixels of the image. For a list, a list of them. For a folder, a list for its
            images sorted by name. For any other iterable, an iterator, which is at most
            `batch_size + read_ahead` images ahead; arrays are copied, so the program can reuse one
            array for all images.

        Raises:
            BodyPoseNetError: The model is closed, an option is unknown or wrong, or the image
                cannot be read or has an ambiguous type or shape.
            ImageError: One of several images cannot be processed.

        Examples:
            ```python
            poses = model("people.jpg")
            print(len(poses), poses.keypoints.shape)  # N people, (N, K, 2)

            first, second = model(["people.jpg", "people.jpg"])
            results = model("photos")  # all images of a folder

            images = (image for image in ["people.jpg"] * 100)
            for poses in model(images, max_people=1):  # one after the other
                print(poses.scores)
            ```
        """
        if unknown:
            others = {"load": OPTIONS, "model.video": VIDEO_OPTIONS}
            raise unknown_keywords("the model", sorted(unknown), CALL_OPTIONS, others)
        if more:
            raise BodyPoseNetError(
                f"The model takes one positional argument, got {1 + len(more)}",
                "Give several images as a list: model([first, second]).",
            )
        predictor = self._open().with_limits(score_threshold, max_people)
        if isinstance(images, str | os.PathLike) and _is_folder(cast("os.PathLike[str]", images)):
            images = [entry.path for entry in list_images("dir", os.fspath(images)).entries]
        if isinstance(images, list | tuple):
            return self._predict_all(predictor, cast("Sequence[Image]", images))
        if isinstance(images, VideoPredictor):
            raise BodyPoseNetError(
                "model.video(source) already contains the poses",
                "Iterate over it: for frame, poses in model.video(source).",
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
            return self._predict_each(predictor, several, in_flight=in_flight, copy=True)
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
        """Detect the poses of people in a video, a camera or a network stream.

        Reading, network and decoding overlap. For a file, a few frames are read ahead and none is
        skipped. For a live source, the next frame is always the latest one, and older frames are
        counted as `dropped`.

        Args:
            source: Path of a video file, index of a camera, or URL of a stream (`rtsp://...`).
            track: Assign an id to each person over time: `poses.track_ids`.
            smooth: Smooth the keypoints over time (One-Euro filter); implies `track`.
            stride: Detect people only in every N-th frame. Frames in between have the poses of the
                last one of these; with `track`, the poses are extrapolated with the velocity of
                each person. Their `frame.is_processed` is False.
            score_threshold: Minimum score of returned people, or None for that of `load`.
            max_people: Maximum number of returned people per frame, or None for that of `load`.
            **unknown: Not supported; raises an error with the correct option.

        Returns:
            An iterator over (frame, poses). A frame has `pixels` ((H, W, 3) uint8 in the channel
            order of the option `color`), `index` and `time` (in seconds). The source is released
            after the last frame, or when the iterator is garbage collected; to release it earlier,
            call `close()` or use `with`.

        Raises:
            BodyPoseNetError: The source does not exist, or an option is unknown or wrong. Errors
                during iteration are raised after the results of all frames before them.

        Examples:
            ```python
            for frame, poses in model.video("dance.mp4", track=True):
                print(frame.time, poses.track_ids)
                annotated = bodyposenet.draw(frame.pixels, poses)
            ```
        """
        if unknown:
            others = {"load": OPTIONS}
            raise unknown_keywords("model.video", sorted(unknown), VIDEO_OPTIONS, others)
        return VideoPredictor(
            self._open().with_limits(score_threshold, max_people), open_source(source),
            stride=stride, track=track, smooth=smooth, batch=self._batch_size, color=self._color,
        )  # fmt: skip

    def _open(self) -> Predictor:
        """Return the predictor for one call.

        A forked process opens the model again, because it inherits sessions without their threads,
        and locks in the state in which other threads held them.

        Raises:
            BodyPoseNetError: The model is closed, or its engine cannot run in forked processes.
        """
        if self._reopen is not None and os.getpid() != self._process:
            with self._lock:
                if self._predictor is not None and os.getpid() != self._process:
                    self._predictor = self._reopen()._predictor
                    self._process = os.getpid()
        return self._check_open()

    def _check_open(self) -> Predictor:
        """Return the predictor.

        Raises:
            BodyPoseNetError: The model is closed.
        """
        predictor = self._predictor
        if predictor is None:
            raise BodyPoseNetError(
                f"{self._name}: the model is closed", "Open it again with load()."
            )
        return predictor

    def _predict_all(self, predictor: Predictor, images: Sequence[Image]) -> list[Poses]:
        """Predict on a list of images.

        Raises:
            ImageError: An image cannot be processed; with the results of the images before it.
        """
        results: list[Poses] = []
        try:
            results.extend(self._predict_each(predictor, images))
        except ImageError as error:
            error.results = results
            raise
        return results

    def _predict_each(
        self,
        predictor: Predictor,
        images: Iterable[Image],
        *,
        in_flight: int | None = None,
        copy: bool = False,
    ) -> Iterator[Poses]:
        """Predict on images in the pipeline.

        Args:
            predictor: The predictor.
            images: The images, which may be endless.
            in_flight: See `Pipeline`.
            copy: Copy arrays, because the caller may change them.

        Yields:
            The poses of each image.

        Raises:
            ImageError: An image cannot be processed.
        """
        deferred = (defer(image, self._color, copy=copy) for image in images)
        pipeline: Pipeline[DeferredImage, Poses] = Pipeline(
            predictor,
            read=to_pixels,
            finish=lambda image, pixels, poses: poses,
            skip=_raise_error,
            batch=self._batch_size,
            in_flight=in_flight,
        )
        index = 0
        try:
            for poses in pipeline.run(deferred):
                yield poses
                index += 1
        except BodyPoseNetError as error:  # raised in place of the next result
            raise ImageError(f"images[{index}]: {error.what}", error.remedy, index) from error


def _inference_spec(options: Mapping[str, Any], preset: Path | None) -> InferenceSpec:
    """Create an inference spec from options.

    Args:
        options: Keys of the inference spec.
        preset: Inference spec of the other keys, or None for their defaults.
    """
    given = dict(options)
    if "scales" in given or "input_shape" in given:
        given.setdefault("multi_scale_inference", "scales" in given)
    if preset is not None:
        given = InferenceSpec.load(preset).model_dump(exclude_unset=True) | given
    return InferenceSpec.from_file(_KeywordArguments(given))


def _describe(predictor: Predictor) -> str:
    """Describe model, engine and input size, for `repr` and error messages."""
    engine, spec = predictor.engine, predictor.spec
    model = Path(spec.model_path or "").name
    runtime = getattr(engine, "name", type(engine).__name__)
    rows, columns = spec.input_shape
    return f"{model or 'a model'} on {runtime}, input {rows} x {columns}"


def _is_folder(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a folder. An empty text is not the working directory."""
    name = os.fspath(path)
    return name != "" and not is_address(name) and is_folder(name)


def _raise_error(image: object, error: BodyPoseNetError) -> NoReturn:
    """Raise the error of one of several images."""
    raise error


class _KeywordArguments(SpecFile):
    """Keyword arguments instead of a spec file; errors name only the argument.

    Args:
        arguments: Values that can be converted to JSON, including NumPy's.

    Raises:
        BodyPoseNetError: A value cannot be converted to JSON.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        try:
            text = json.dumps(arguments, default=_to_json)
        except (TypeError, ValueError) as error:
            raise BodyPoseNetError(f"options of load: {error}") from error
        super().__init__(Path("options.json"), text)

    def place(self, location: Location) -> str:
        """Return the name of the argument and the location in its value."""
        return ".".join(str(part) for part in location)


def _to_json(value: Any) -> Any:
    """Convert a path to text, and NumPy's numbers and arrays to Python's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return os.fspath(cast("os.PathLike[str]", value))
