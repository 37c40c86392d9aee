#!/bin/sh
# Build an engine of model.onnx with TensorRT 10 or 11, for the GPU of this machine only, and measure
# it. It is written where DeepStream expects it, and copied to where Triton does.
#
# The data types are those of the file: $data_type. This is the default of TensorRT 11. TensorRT 8 has
# no --stronglyTyped: $instead.
set -eu
cd "$$(dirname "$$0")"
trtexec --onnx=model.onnx --saveEngine=$engine --stronglyTyped \
$shapes    --memPoolSize=workspace:$workspace --timingCacheFile=timing.cache
mkdir -p triton_tensorrt/$name/1
cp $engine triton_tensorrt/$name/1/model.plan
