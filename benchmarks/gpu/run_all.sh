#!/bin/sh
# Run all benchmarks of this folder on a machine with a GPU, the shortest first; see README.md. A benchmark that
# fails or takes too long does not stop the next one.
#
#     sh benchmarks/gpu/run_all.sh [FOLDER]    # for the figures (.json) and the output (.txt)
set -u
cd "$(dirname "$0")/../.."
results=${1:-results/gpu}
mkdir -p "$results"
nvidia-smi >"$results/nvidia-smi.txt" 2>&1
for name in deployment inference train_step; do
    timeout 280 python -m "benchmarks.gpu.$name" --json "$results/$name.json" >"$results/$name.txt" 2>&1 ||
        echo "benchmarks.gpu.$name failed: see $results/$name.txt" >&2
done
cat "$results"/*.txt
