#!/usr/bin/env bash
# Makes examples/models anew: practice text, models to start from, training, and a copy of what was trained.
# Hours on a CPU. Interrupted, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
"$python" -m examples.practice --output out/practice --worlds 40 --lookups 40000 --validation_lookups 500 \
    --retriever_rows 40000 --validation_retriever_rows 300
"$python" -m examples.practice --output out/practice_rag --seed 2 --worlds 6 --validation_worlds 1 \
    --lookups 100 --validation_lookups 100 --retriever_rows 100 --validation_retriever_rows 100
"$python" -m examples.make_models --practice out/practice --output out/start
.venv/bin/rag-beam run examples/train.yaml "$@"

models=examples/models
rm -rf "$models/passage_encoder" "$models/rag_sequence" "$models/rag_token" "$models/rag_labels"
cp -r out/train/retriever/passage_encoder "$models/passage_encoder"
for name in rag_sequence rag_token rag_labels; do
    cp -r "out/train/$name/model" "$models/$name"
done
