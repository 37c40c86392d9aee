"""Export a trained model to ONNX, for ONNX Runtime, OpenVINO, TensorRT and others.

Example: bpnet export -m model.tlt -o model.onnx --data_type fp16

The exported model takes images whose height and width are multiples of 8, and returns the maps of
the last stage. Before the file is written, its output is compared with that of the network; INT8 on
photos that it was not calibrated on. A file that differs too much is not written. No GPU is needed.
--engine_file also builds an engine; if that fails, the ONNX file is kept and the exit
code is 2. --deployment_bundle also writes the files that other programs need to run the model.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from bodyposenet.commands.export_verification import (
    VerificationData,
    compare_with_network,
    load_verification_data,
)
from bodyposenet.commands.model_options import KeyOptions
from bodyposenet.commands.options import (
    Need,
    Option,
    StrPath,
    command,
    ignored_options,
    options_class,
)
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting import DataType
from bodyposenet.exporting.engine import (
    DeviceOptions,
    EngineOptions,
    build_engine_file,
    find_builder,
    input_shape,
    tensorrt_missing,
)
from bodyposenet.exporting.outputs import (
    check_outputs,
    find_trained_model,
    is_sealed,
    output_file,
    warn_about_plain_files,
)
from bodyposenet.files import atomic_write
from bodyposenet.results_folder import StatusFile

if TYPE_CHECKING:
    from bodyposenet.exporting.engine import Runtime
    from bodyposenet.exporting.int8.calibration import CalibrationPhotos
    from bodyposenet.exporting.int8.calibration_source import CalibrationSource
    from bodyposenet.exporting.int8.quantization import QuantizationOptions
    from bodyposenet.exporting.onnx import OnnxExportOptions
    from bodyposenet.exporting.verification import Verification
    from bodyposenet.inference.engines.engine_file import EngineHeader
    from bodyposenet.inference.engines.pytorch import PyTorchEngine

_DEFAULT_BATCHES = 10
"""Number of calibration batches, as in TAO."""

_Count = Annotated[int, Field(ge=1)]

_INT8 = Need("--data_type int8", lambda given: given.data_type == "int8")
_SELECT = Need("--cal_select", lambda given: given.cal_select)
_SDK = Need("--sdk_compatible_model", lambda given: given.sdk_compatible_model)
_DECODING = Need("--with_decoding", lambda given: given.with_decoding)
_BUILD = Need("--engine_file", lambda given: given.engine_file)
_DEVICE = Need(
    "--engine_file or --deployment_bundle",
    lambda given: given.engine_file or given.deployment_bundle,
)
_DATASET = Need("--verify_dataset", lambda given: given.verify_dataset)
_BATCH = Need(
    f"{_INT8.words}, {_DEVICE.words}", lambda given: _INT8.is_met(given) or _DEVICE.is_met(given)
)

_FileOption = partial(Option, group="ONNX file")
_Int8Option = partial(Option, group="INT8", needs=_INT8)
_EngineOption = partial(Option, group="engine and deployment", needs=_BUILD)


def _parse_dimensions(value: object) -> object:
    """Split a string such as 288,384,3."""
    if not isinstance(value, str):
        return value
    sizes = value.split(",")
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise ValueError("expected three sizes, as in 288,384,3")
    return sizes


@options_class
class ExportOptions(KeyOptions):
    """Options of `export`: those of TAO, and more."""

    model: Annotated[
        StrPath, Option("-m", help="Model to export (.tlt, or .hdf5 of TAO 5).", metavar="FILE")
    ]
    output_file: Annotated[
        StrPath | None,
        Option(
            "-o", help="NAME.onnx, or NAME.etlt (encrypted). Default: MODEL.onnx.", metavar="FILE"
        ),
    ] = None
    results_dir: Annotated[
        StrPath | None,
        Option("-r", help="Folder of status.json. Default: that of the output.", metavar="DIR"),
    ] = None
    overwrite: Annotated[bool, Option(help="Replace existing files.")] = False
    experiment_spec: Annotated[
        StrPath | None,
        Option("-e", help="Train spec of the model; only needed for TAO's .hdf5.", metavar="FILE"),
    ] = None
    backend: Annotated[
        Literal["onnx", "tfonnx", "uff"],
        Option("-t", help="onnx or tfonnx, with the same result; uff is no longer supported."),
    ] = "onnx"
    verify_images: Annotated[
        StrPath | None,
        Option(
            help="Folder of photos for the comparison with the network; those used for calibration "
            "are skipped. Default: synthetic images; for INT8, at least a tenth of the photos in "
            "--cal_image_dir or --cal_source_dir, which is held back from the calibration.",
            metavar="DIR",
        ),
    ] = None
    verify_dataset: Annotated[
        StrPath | None,
        Option(
            help="Dataset spec; the keypoint AP of the file and of the network are compared on its "
            "test images.",
            metavar="SPEC",
        ),
    ] = None
    verify_limit: Annotated[
        _Count,
        Option(help="Maximum number of images of --verify_dataset.", metavar="N", needs=_DATASET),
    ] = 500
    allow_loss: Annotated[
        bool,
        Option(
            deprecated=("--allow_inaccurate",),
            help="Write the file even if it differs too much from the network.",
        ),
    ] = False
    verbose: Annotated[bool, Option("-v", help="Same as -l DEBUG.", cli_only=True)] = False

    input_dims: Annotated[
        tuple[int, int, int] | None,
        BeforeValidator(_parse_dimensions),
        _FileOption(
            "-d",
            help="Image size in pixels for comparison, calibration and engine; the ONNX file "
            "supports any size. C,H,W with channels_first. Default: 256,256,3.",
            metavar="H,W,C",
        ),
    ] = None
    data_format: Annotated[
        Literal["channels_last", "channels_first"],
        _FileOption("-i", help="Layout of the input and the outputs."),
    ] = "channels_last"
    data_type: Annotated[
        Literal["fp32", "fp16", "int8"],
        _FileOption(help="Data type of weights and computation; input and outputs are fp32."),
    ] = "fp32"
    sdk_compatible_model: Annotated[
        bool,
        _FileOption(
            help="Upsample and rename the PAFs, as the sample application of DeepStream expects."
        ),
    ] = False
    upsample_ratio: Annotated[
        int,
        Field(ge=2),
        _FileOption("-u", help="Upsampling factor of the PAFs.", metavar="N", needs=_SDK),
    ] = 4
    static_batch_size: Annotated[
        int, _FileOption(help="Fixed batch size; -1: dynamic.", metavar="N")
    ] = -1
    static_input_dims: Annotated[
        bool, _FileOption(help="Fix height and width of the input to --input_dims.")
    ] = False
    bake_normalization: Annotated[
        bool, _FileOption(help="Include the normalization: the input is uint8 RGB pixels.")
    ] = False
    with_decoding: Annotated[
        bool,
        _FileOption(
            help="Return peaks and PAF scores instead of maps, for clients in any language "
            "(examples/clients). Such a file cannot be used with bpnet."
        ),
    ] = False
    max_peaks: Annotated[
        int,
        Field(ge=1, le=128),
        _FileOption(
            help="Maximum number of peaks per joint; the highest are returned.",
            metavar="N",
            needs=_DECODING,
        ),
    ] = 64
    max_people: Annotated[
        _Count | None,
        _FileOption(
            help="Maximum number of people that clients return, those with the highest scores. "
            "Default: all.",
            metavar="N",
            needs=_DECODING,
        ),
    ] = None

    int8_target: Annotated[
        Literal["cpu", "tensorrt"] | None,
        _Int8Option(
            deprecated=("--int8_flavour",),
            help="Target backend of the INT8 model. Default: tensorrt with --sdk_compatible_model "
            "or an --engine_file of TensorRT, else cpu.",
        ),
    ] = None
    float_outputs: Annotated[
        bool,
        _Int8Option(help="Keep the output layers of all stages in floating point (the default)."),
    ] = True
    nodes_to_exclude: Annotated[
        tuple[str, ...],
        _Int8Option(
            deprecated=("--float_layers",),
            help="Other layers to keep in floating point, such as stage1/conv1 or 'stage2/*'.",
            metavar="NAME",
            nargs="+",
        ),
    ] = ()
    strict_type_constraints: Annotated[
        bool, _Int8Option("-s", help="Quantize all layers except the outputs.")
    ] = False
    force_ptq: Annotated[
        bool,
        _Int8Option(help="Use post-training quantization, which is the only method here."),
    ] = False
    cal_image_dir: Annotated[
        StrPath | None,
        _Int8Option(
            help="Folder of calibration images; subfolders are not searched.", metavar="DIR"
        ),
    ] = None
    cal_data_file: Annotated[
        StrPath | None,
        _Int8Option(
            help="Tensorfile of the calibration images; created if it does not exist.",
            metavar="FILE",
        ),
    ] = None
    cal_cache_file: Annotated[
        StrPath | None,
        _Int8Option(
            help="Calibration cache in TensorRT's format; created if it does not exist.",
            metavar="FILE",
        ),
    ] = None
    batches: Annotated[
        _Count | None,
        _Int8Option(
            help=f"Number of calibration batches. Default: {_DEFAULT_BATCHES}.", metavar="N"
        ),
    ] = None
    batch_size: Annotated[
        _Count | None,
        _Int8Option(
            help="Images per calibration batch, and lower limit of --max_batch_size. Default: 1.",
            metavar="N",
            needs=_BATCH,
        ),
    ] = None
    cal_method: Annotated[
        Literal["percentile", "entropy", "minmax"] | None,
        _Int8Option(help="Method to derive ranges from measured values. Default: percentile."),
    ] = None
    cal_select: Annotated[
        StrPath | None,
        _Int8Option(
            help="Annotations (COCO or another format); representative images are selected and "
            "copied to --cal_image_dir.",
            metavar="FILE",
        ),
    ] = None
    cal_source_dir: Annotated[
        StrPath | None,
        _Int8Option(help="Folder of the images of --cal_select.", metavar="DIR", needs=_SELECT),
    ] = None

    engine_file: Annotated[
        StrPath | None,
        _EngineOption(
            help="Engine to build for this machine (NAME.engine).", metavar="FILE", needs=None
        ),
    ] = None
    seal_engine: Annotated[
        bool, _EngineOption(help="Encrypt the engine with the key; TAO's engines are plain files.")
    ] = False
    engine_runtime: Annotated[
        Literal["tensorrt", "openvino", "auto"] | None,
        _EngineOption(
            help="Runtime that builds the engine; an error if it is not available. auto: "
            "TensorRT if available, else OpenVINO. Default: TensorRT; if it is not available, "
            "only the model is written, and the exit code is 2."
        ),
    ] = None
    max_batch_size: Annotated[
        _Count,
        _EngineOption(
            help="Maximum batch size, at least --batch_size.", metavar="N", needs=_DEVICE
        ),
    ] = 1
    opt_batch_size: Annotated[
        _Count, _EngineOption(help="Batch size to optimize for.", metavar="N", needs=_DEVICE)
    ] = 1
    max_workspace_size: Annotated[
        _Count,
        _EngineOption(
            help="Workspace of TensorRT per layer, in bytes.", metavar="N", needs=_DEVICE
        ),
    ] = DeviceOptions.workspace
    timing_cache: Annotated[
        StrPath | None,
        _EngineOption(help="Timing cache of TensorRT; created or updated.", metavar="FILE"),
    ] = None
    deployment_bundle: Annotated[
        StrPath | None,
        _EngineOption(
            deprecated=("--deployment_kit",),
            help="Folder to write files for DeepStream, Triton, trtexec and Python to.",
            metavar="DIR",
            needs=None,
        ),
    ] = None

    @property
    def exported_type(self) -> DataType:
        """Data type of the file; INT8 is for TensorRT if other options need TensorRT."""
        if self.data_type != "int8":
            return self.data_type
        for_engine = self.engine_file and self.engine_runtime in (None, "tensorrt")
        default = "tensorrt" if self.sdk_compatible_model or for_engine else "cpu"
        return "int8-cpu" if (self.int8_target or default) == "cpu" else "int8-tensorrt"


@dataclass(frozen=True)
class ExportResult:
    """An exported model.

    Args:
        model: The .onnx or .etlt file.
        data_type: Data type of its weights and computation.
        size: Size of the ONNX file in bytes.
        verification: Comparison with the network; `matched_share` is the share of its keypoints
            that are found, `accuracy` the AP of both on `verify_dataset`.
        engine: The .engine file, if one was built.
        engine_header: Runtime, version and device of the engine.
        bundle: Folder of the deployment bundle, if one was written.
        error: Error of the engine build, or None.
    """

    model: Path
    data_type: DataType
    size: int
    verification: Verification
    engine: Path | None = None
    engine_header: EngineHeader | None = None
    bundle: Path | None = None
    error: BodyPoseNetError | None = None

    def summary(self) -> str:
        """Return the files that were written, and the results of the comparison."""
        lines = [f"written: {self.model}, {self.size / 2**20:.1f} MiB, {self.data_type}"]
        verification = self.verification
        if (share := verification.matched_share) is not None:
            lines.append(f"{share:.1%} of the network's {verification.keypoints} keypoints found")
        if verification.accuracy is not None:
            lines.append(str(verification.accuracy))
        if self.bundle is not None:
            lines.append(f"written: {self.bundle}, see its README.md")
        if self.engine is not None and (header := self.engine_header) is not None:
            lines.append(
                f"written: {self.engine}, {header.runtime} {header.version}, for {header.device}"
            )
        return "\n".join(lines)


@command(ExportOptions)
def export(options: ExportOptions) -> ExportResult:
    """Export a trained model to ONNX, after a comparison with the network.

    Example:
        >>> bodyposenet.export(model="model.tlt", output_file="model.onnx", data_type="fp16")

    Raises:
        BodyPoseNetError: An option or the model is invalid, the exported model differs too much
            from the network, or the engine cannot be built; in that case the model was written.
    """
    from bodyposenet.exporting.int8.calibration import prepare_images
    from bodyposenet.exporting.onnx import export_onnx

    if options.verbose:
        logger.setLevel(logging.DEBUG)
    plan = _make_plan(options)
    result = None
    try:
        with StatusFile(plan.results_dir) as status:
            header, network = _read_network(options, plan)
            photos = prepare_images(plan.calibration) if plan.calibration else None
            content = export_onnx(network.network, header, _onnx_options(options, plan))
            content = _convert(content, plan)
            verification = _verify(content, network, options, plan, photos)
            status.write("RUNNING", "compared with the network", kpi=verification.kpis())
            verification.check(plan.output, allow_loss=options.allow_loss)
            content = _append_decoding(content, options, plan)
            _write(content, plan)
            result = ExportResult(
                plan.output, plan.data_type, len(content), verification, bundle=plan.bundle
            )
            status.write("RUNNING", f"exported {plan.output}")
            if plan.engine is not None:
                engine_header = _build_engine(content, options, plan, plan.engine)
                result = replace(result, engine=plan.engine, engine_header=engine_header)
    except BodyPoseNetError as error:
        if result is None:
            raise
        return replace(result, error=error)
    return result


@dataclass(frozen=True)
class _Plan:
    """The files to write and their options, after all checks."""

    model: Path
    output: Path
    data_type: DataType
    device: DeviceOptions
    calibration: CalibrationSource | None  # for INT8, as the next one
    quantization: QuantizationOptions | None
    verification: VerificationData
    engine: Path | None
    runtime: Runtime | None  # None if TensorRT is required and not available
    bundle: Path | None
    results_dir: Path
    key: str


def _make_plan(options: ExportOptions) -> _Plan:
    """Check the options, and that everything can be built and written, before the export."""
    if options.backend == "uff":
        raise BodyPoseNetError("--backend uff: the format is no longer supported", "Use onnx.")
    if options.with_decoding and (options.sdk_compatible_model or options.engine_file):
        raise BodyPoseNetError(
            "--with_decoding cannot be combined with --sdk_compatible_model or --engine_file: both "
            "are for programs that decode maps, such as bpnet",
            "Export a second file for them, without --with_decoding. For TensorRT, use the "
            "trtexec.sh of --deployment_bundle.",
        )
    model = find_trained_model(Path(options.model))
    output, engine = output_file(model, _path(options.output_file)), _path(options.engine_file)
    data_type, device = options.exported_type, _device_options(options)
    is_int8 = options.data_type == "int8"
    plan = _Plan(
        model=model,
        output=output,
        data_type=data_type,
        device=device,
        calibration=_calibration(options, device) if is_int8 else None,
        quantization=_quantization(options, data_type) if is_int8 else None,
        verification=load_verification_data(
            options.verify_images, options.verify_dataset, options.verify_limit
        ),
        engine=engine,
        runtime=find_builder(engine, options.engine_runtime, data_type) if engine else None,
        bundle=_path(options.deployment_bundle),
        results_dir=Path(options.results_dir or output.parent),
        key=options.read_key(),
    )
    check_outputs(output, engine, plan.bundle, plan.results_dir, overwrite=options.overwrite)
    for field, need in ignored_options(options):
        logger.warning("%s has no effect without %s", field.flag, need.words)
    warn_about_plain_files(output, engine, plan.key, seals_engine=options.seal_engine)
    return plan


def _path(text: StrPath | None) -> Path | None:
    return Path(text) if text else None


def _device_options(options: ExportOptions) -> DeviceOptions:
    shape = DeviceOptions.shape
    if options.input_dims:
        shape = input_shape(options.input_dims, options.data_format == "channels_last")
    largest = max(options.batch_size or 1, options.max_batch_size)
    return DeviceOptions(shape, options.opt_batch_size, largest, options.max_workspace_size)


def _calibration(options: ExportOptions, device: DeviceOptions) -> CalibrationSource:
    """Create the source of the INT8 calibration, and check that it can be used."""
    from bodyposenet.exporting.int8 import calibration_source

    annotations, dataset_dir = options.cal_select, options.cal_source_dir
    if annotations and not dataset_dir:
        raise BodyPoseNetError(
            "--cal_select needs --cal_source_dir", "Give the folder of the dataset's images."
        )
    batches, batch_size = options.batches or _DEFAULT_BATCHES, options.batch_size or 1
    source = calibration_source.CalibrationSource(
        image_dir=_path(options.cal_image_dir),
        data_file=_path(options.cal_data_file),
        cache_file=_path(options.cal_cache_file),
        batches=batches,
        batch_size=batch_size,
        shape=device.shape,
        expected=calibration_source.ExpectedCalibration(
            method=options.cal_method,
            images=batches * batch_size if options.batches or options.batch_size else None,
            shape=device.shape if options.input_dims else None,
            batches=options.batches,
            batch_size=options.batch_size,
        ),
        dataset=calibration_source.DatasetImages(Path(annotations), Path(dataset_dir))
        if annotations and dataset_dir
        else None,
        hold_back=options.verify_images is None,
    )
    calibration_source.check_source(source)
    return source


def _quantization(options: ExportOptions, data_type: DataType) -> QuantizationOptions:
    from bodyposenet.exporting.int8.quantization import QuantizationOptions

    return QuantizationOptions(
        target="cpu" if data_type == "int8-cpu" else "tensorrt",
        method=options.cal_method or QuantizationOptions.method,
        float_outputs=options.float_outputs,
        nodes_to_exclude=options.nodes_to_exclude,
        strict=options.strict_type_constraints,
    )


def _read_network(options: ExportOptions, plan: _Plan) -> tuple[dict[str, Any], PyTorchEngine]:
    """Read the model; a Keras file of TAO has no header and needs the train spec."""
    from bodyposenet.inference.engines import pytorch
    from bodyposenet.inference.engines.base import ModelDescription
    from bodyposenet.model.checkpoint import read_model
    from bodyposenet.specs.training import TrainSpec

    spec, expected = options.experiment_spec, None
    if spec is not None:
        expected = ModelDescription.from_train_spec(TrainSpec.load(spec))
    header, network = read_model(plan.model, plan.key, expected and expected.training_entries())
    engine = pytorch.PyTorchEngine(network, pytorch.CPU)
    if plan.quantization is not None:
        plan.quantization.check(network.out_channels())
    if expected is not None and (differing := expected.differences(engine.description)):
        raise BodyPoseNetError(
            f"{spec} and the model {plan.model} differ in {', '.join(differing)}",
            "Give the spec that the model was trained with, or omit -e.",
        )
    return header, engine


def _onnx_options(options: ExportOptions, plan: _Plan) -> OnnxExportOptions:
    from bodyposenet.exporting.onnx import OnnxExportOptions

    return OnnxExportOptions(
        channels_last=options.data_format == "channels_last",
        upsample_ratio=options.upsample_ratio if options.sdk_compatible_model else 1,
        static_batch_size=options.static_batch_size if options.static_batch_size > 0 else None,
        static_shape=plan.device.shape if options.static_input_dims else None,
        normalizes_input=options.bake_normalization,
    )


def _convert(content: bytes, plan: _Plan) -> bytes:
    """Convert the float32 file to the requested data type."""
    if plan.data_type == "fp16":
        from bodyposenet.exporting.float16 import to_float16

        return to_float16(content)
    if plan.calibration is not None and plan.quantization is not None:
        from bodyposenet.exporting.int8.quantization import quantize

        return quantize(content, plan.calibration, plan.quantization)
    return content


def _verify(
    content: bytes,
    network: PyTorchEngine,
    options: ExportOptions,
    plan: _Plan,
    calibrated: CalibrationPhotos | None,
) -> Verification:
    """Compare the file with the network."""
    from bodyposenet.inference.engines import onnx

    exported = onnx.load(plan.output, content=content, device="cpu")
    return compare_with_network(
        network, exported, plan.device.shape, options.data_type, plan.verification, calibrated
    )


def _append_decoding(content: bytes, options: ExportOptions, plan: _Plan) -> bytes:
    """Replace the maps by peaks and PAF scores if that is requested."""
    if not options.with_decoding:
        return content
    from bodyposenet.exporting.decoding_graph import DecodingGraphOptions, append_decoding
    from bodyposenet.exporting.decoding_verification import check_decoding

    has_static_sizes = options.static_batch_size > 0 and options.static_input_dims
    decoding = DecodingGraphOptions(
        options.max_peaks, options.max_people, static_shapes=has_static_sizes
    )
    decoded = append_decoding(content, decoding)
    check_decoding(plan.output, content, decoded, plan.device.shape, decoding)
    return decoded


def _write(content: bytes, plan: _Plan) -> None:
    """Write the file and the deployment bundle."""
    from bodyposenet.exporting.bundle import BundleOptions, write_bundle
    from bodyposenet.inference.engines.onnx_file import write_etlt

    if is_sealed(plan.output):
        write_etlt(plan.output, content, plan.key)
    else:
        with atomic_write(plan.output, durable=True) as file:
            file.write(content)
    if plan.bundle is not None:
        cache = plan.calibration.cache_file if plan.calibration else None
        write_bundle(plan.bundle, plan.output, content, BundleOptions(plan.device, cache))


def _build_engine(content: bytes, options: ExportOptions, plan: _Plan, path: Path) -> EngineHeader:
    """Build an engine of the ONNX file."""
    if plan.runtime is None:
        raise tensorrt_missing(plan.output, path)
    engine_options = EngineOptions(plan.runtime, plan.device, _path(options.timing_cache))
    return build_engine_file(content, path, engine_options, plan.key if options.seal_engine else "")
