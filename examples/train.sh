#!/usr/bin/env bash
# Makes examples/models anew: practice text, models to start from, training, and a copy of what was trained.
# It was run in parts, on GPUs and on 2 cores: models/README.md tells which and for how long.
# Interrupted, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

practice() { # FOLDER WORLDS ROWS SEED...: worlds and rows of each seed
    local folder=$1 worlds=$2 rows=$3
    shift 3
    printf '%s\n' "$@" | xargs -P "$(nproc)" -L 1 python -m examples.practice --output "$folder" \
        --worlds "$worlds" --validation_worlds 1 --lookups "$rows" --validation_lookups 100 \
        --retriever_rows "$rows" --validation_retriever_rows 100 --hard_negatives 4 --seed
}
practice out/practice 5 2500 {11..26}
python -m examples.make_models --practice out/practice --output out/start
practice out/practice_more 20 10000 {31..44}
practice out/practice_new 20 10000 {45..58}
practice out/practice_wide 20 20000 {61..74}
practice out/practice_fresh 20 20000 {75..83}
practice out/practice_rag 10 100 2 3

steps() { rag-beam run examples/train.yaml --only "$@"; }

deepen() { python -m examples.deepen_generator --layers 6 --model "out/train/$1/model" --output "out/deeper/$2"; }

steps retriever_1 retriever_2 retriever_3 passages embeddings index & searching=$!
steps reader_1 reader_2 reader_3 reader_4
(steps claims_1; deepen claims_1 claims; steps claims_2) & judging=$!
deepen reader_4 reader
steps reader_5 reader_6
wait "$searching"
steps rag_token & mixing=$!
steps rag_sequence
wait "$judging"
steps rag_labels
wait "$mixing"

python -m examples.ship_models --train out/train
