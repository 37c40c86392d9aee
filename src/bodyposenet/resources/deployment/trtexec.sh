#!/bin/sh
# Build model.plan from model.onnx with TensorRT 10 or 11, for the GPU of this machine only, and
# measure it. The plan is written where DeepStream and Triton expect it.
#
# The data types are those of the file: $data_type. This is the default of TensorRT 11. TensorRT 8 has
# no --stronglyTyped: $instead.
set -eu
cd "$$(dirname "$$0")"
trtexec --onnx=model.onnx --saveEngine=model.plan --stronglyTyped \
$shapes    --memPoolSize=workspace:$workspace --timingCacheFile=timing.cache
mkdir -p triton_tensorrt/$name/1
cp model.plan triton_tensorrt/$name/1/model.plan
