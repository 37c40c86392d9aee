#!/bin/sh
# Builds model.plan from model.onnx with TensorRT 10 or 11, for the GPU of this machine and for no
# other, and measures it. DeepStream and Triton find the plan where this puts it.
#
# The types are those of the file: $data_type. With TensorRT 11 they always are. TensorRT 8 does not
# know --stronglyTyped: $instead.
set -eu
cd "$$(dirname "$$0")"
trtexec --onnx=model.onnx --saveEngine=model.plan --stronglyTyped \
$shapes    --memPoolSize=workspace:$workspace --timingCacheFile=timing.cache
mkdir -p triton_tensorrt/$name/1
cp model.plan triton_tensorrt/$name/1/model.plan
