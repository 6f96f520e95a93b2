#!/usr/bin/env bash
# Makes examples/models anew: practice text, models to start from, training, and a copy of what was trained.
# About a quarter of an hour on a GPU, a day on a CPU. Interrupted, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

seq 11 22 | xargs -P "$(nproc)" -L 1 python -m examples.practice --output out/practice --worlds 20 --validation_worlds 1 \
    --lookups 20000 --validation_lookups 50 --retriever_rows 5000 --validation_retriever_rows 50 --seed
seq 71 72 | xargs -P "$(nproc)" -L 1 python -m examples.practice --output out/practice_titles --worlds 20 \
    --validation_worlds 1 --lookups 10000 --validation_lookups 200 --retriever_rows 40000 \
    --validation_retriever_rows 300 --hard_negatives 0 --seed
python -m examples.practice --output out/practice_rag --worlds 10 --validation_worlds 1 --lookups 100 \
    --validation_lookups 100 --retriever_rows 100 --validation_retriever_rows 100 --seed 2
python -m examples.make_models --practice out/practice --output out/start

steps() { rag-beam run examples/train.yaml --only "$@"; }

steps retriever retriever_2 retriever_3 passages embeddings index & searching=$!
steps reader_1
steps claims_1 claims_2 claims_3 & judging=$!
steps reader_2 reader_3 reader_4
wait "$searching"
wait "$judging"
steps rag_labels_1 rag_labels & judging=$!
steps rag_token & mixing=$!
steps rag_sequence
wait "$mixing"
wait "$judging"

python -m examples.ship_models --train out/train
