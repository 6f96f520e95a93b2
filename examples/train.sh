#!/usr/bin/env bash
# Makes examples/models anew: practice text, models to start from, training, and a copy of what was trained.
# It was run in parts, on GPUs and on 2 cores: models/README.md tells which and for how long.
# Interrupted, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.venv/bin:$PATH"

practice() { # FOLDER WORLDS ROWS VALIDATION_ROWS "SEED..." [OPTION...]: worlds and rows of each seed
    local folder=$1 worlds=$2 rows=$3 validation_rows=$4 seeds=$5
    shift 5
    xargs -n 1 <<<"$seeds" | xargs -P "$(nproc)" -I SEED python -m examples.practice --output "$folder" \
        --worlds "$worlds" --validation_worlds 1 --lookups "$rows" --validation_lookups "$validation_rows" \
        --retriever_rows "$rows" --validation_retriever_rows "$validation_rows" --hard_negatives 4 "$@" --seed SEED
}

practice out/practice 5 2500 100 "$(seq 11 26)"
python -m examples.make_models --practice out/practice --output out/start
practice out/practice_more 20 10000 100 "$(seq 31 44)"
practice out/practice_new 20 10000 100 "$(seq 45 58)"
practice out/practice_wide 20 20000 100 "$(seq 61 74)"
practice out/practice_fresh 20 20000 100 "$(seq 75 83)"
practice out/practice_richer 20 20000 200 "$(seq 91 94)"
practice out/practice_offices 20 20000 200 "95 96" --domains office
practice out/practice_dated 20 20000 200 "$(seq 101 104)"
practice out/practice_dated_offices 20 20000 200 "105 106" --domains office
practice out/practice_tempting 20 20000 200 "108 109"
practice out/practice_tempting_offices 20 20000 200 110 --domains office
practice out/practice_richest 20 20000 200 "$(seq 111 113)"
practice out/practice_richest_offices 20 20000 200 114 --domains office
practice out/practice_short 20 40000 400 "$(seq 204 208)" --lookups 100
practice out/practice_told 20 16000 200 "115 116"
practice out/practice_widest 20 30000 400 "$(seq 117 119)" --lookups 12000 --validation_lookups 200
practice out/practice_widest_offices 20 12000 400 121 --domains office --validation_lookups 200
practice out/practice_latest 20 30000 400 "122 123" --lookups 12000 --validation_lookups 200
practice out/practice_latest_offices 20 30000 400 "125 126" --domains office --lookups 8000 --validation_lookups 200
practice out/practice_drawn 20 30000 400 "131 132" --lookups 12000 --validation_lookups 200
practice out/practice_drawn_offices 20 30000 400 "133 134" --domains office --lookups 5000 --validation_lookups 200
practice out/practice_retold 20 30000 400 "141 142" --lookups 12000 --validation_lookups 200
practice out/practice_retold_offices 20 30000 400 "143 144" --domains office --lookups 5000 --validation_lookups 200
practice out/practice_tempted 20 30000 400 "$(seq 153 155)" --lookups 100 --validation_lookups 100
practice out/practice_novel 20 30000 400 "162 163" --lookups 12000 --validation_lookups 200
practice out/practice_novel 20 30000 400 164 --lookups 100 --validation_lookups 200
practice out/practice_novel_offices 20 15000 400 165 --domains office --lookups 6000 --validation_lookups 200
practice out/practice_met 20 32000 20 "$(seq 180 191)" --lookups 8000
practice out/practice_met 20 32000 20 "$(seq 192 195)" --domains office --lookups 8000
practice out/practice_late 20 30000 400 "$(seq 172 174)" --lookups 8000 --validation_lookups 200
practice out/practice_named 20 30000 400 "212 213" --lookups 12000 --hard_negatives 6
practice out/practice_named_offices 20 30000 400 "215 216" --domains office --lookups 12000 --hard_negatives 6
practice out/practice_titled 20 30000 400 "230 231" --lookups 12000 --hard_negatives 6
practice out/practice_titled_offices 20 30000 400 "232 $(seq -s ' ' 238 241)" --domains office --lookups 16000 \
    --hard_negatives 6
practice out/practice_titled_offices 20 30000 400 "$(seq 233 237)" --domains office --lookups 16 --hard_negatives 6
practice out/practice_entitled 20 30000 400 244 --lookups 12000 --hard_negatives 6
practice out/practice_entitled_offices 20 30000 400 "242 243" --domains office --lookups 16000 --hard_negatives 6
practice out/practice_neighbours 20 30000 400 "250 251" --lookups 12000 --hard_negatives 6
practice out/practice_neighbours 1 10 400 "252 253 254" --hard_negatives 6
practice out/practice_bordering 20 30000 400 "255 256" --lookups 12000 --hard_negatives 6
practice out/practice_rag 20 100 100 107

steps() { rag-beam run examples/train.yaml --only "$@"; }
grow() { python -m examples.grow "$@"; }
average() { # NAME BEFORE AFTER SHARE
    python -m examples.average_weights --before "out/$2" --after "out/$3" --share "$4" --output "out/average/$1"
}
temper() { # NAME RETRIEVER READER RETRIEVALS [OPTION...]
    python -m examples.temper_prior --question_encoder "out/$2/question_encoder" --model "out/$3" \
        --retrievals "out/train/$4" --output "out/tempered/$1" "${@:5}"
}
found() { # RETRIEVALS QUESTIONS PASSAGES NAME [OPTION...]: what is found in place of what decides
    python -m examples.practice_found --retrievals "out/train/$1" --questions "out/$2" --passages "out/train/$3" \
        --output "out/practice_found/$4" "${@:5}"
}

search() {
    steps retriever_1 retriever_2 retriever_3 retriever_4
    for encoder in question_encoder passage_encoder; do
        grow --layers 4 --model "out/train/retriever_4/$encoder" --output "out/deeper/$encoder"
    done
    steps retriever_5 retriever_6 retriever_7 retriever_8 passages embeddings_1 index_1 found_1
    for encoder in question_encoder passage_encoder; do
        grow --feed_forward 1024 --model "out/train/retriever_8/$encoder" --output "out/wider/$encoder"
    done
    steps retriever_9 retriever_10 retriever_11 passages_2 embeddings_2 index_2 found_questions found_claims
    found found_questions practice_retold/questions passages_2 questions
    found found_claims practice_retold/claims passages_2 claims
    steps retriever_12
    average retriever train/retriever_11 train/retriever_12 0.5
    steps retriever_13
    average second_retriever average/retriever train/retriever_13 0.5
    grow --layers 5 --model out/average/second_retriever/passage_encoder --output out/deepest/passage_encoder
    cp -r out/average/second_retriever/question_encoder out/deepest
    steps retriever_14
    average third_retriever deepest train/retriever_14 0.5
    steps judged_passages judged_embeddings judged_index judged_questions embeddings_3 index_3
    steps passages_3 embeddings_4 index_4 met_questions met_claims
    found met_questions practice_met/questions passages_3 met_questions --astray 1
    found met_claims practice_met/claims passages_3 met_claims --astray 1
    steps retriever_15
    average fourth_retriever average/third_retriever train/retriever_15 0.5
    steps retriever_16 passages_4 embeddings_5 index_5 late_claims
    found late_claims practice_late/claims passages_4 late_claims --astray 3
    average fifth_retriever average/fourth_retriever train/retriever_16 0.5
    steps retriever_17
    average sixth_retriever average/fifth_retriever train/retriever_17 0.75
    steps retriever_18
    average seventh_retriever average/sixth_retriever train/retriever_18 0.75
    steps titled_passages titled_embeddings titled_index titled_questions embeddings index
    steps passages_5 embeddings_6 index_6 passages_6 embeddings_7 index_7
    steps neighbours_passages neighbours_embeddings neighbours_index
}
read_questions() {
    steps reader_1 reader_2 reader_3 reader_4
    grow --layers 6 --model out/train/reader_4/model --output out/deeper/reader
    steps reader_5 reader_6 reader_7 reader_8 reader_9 reader_10 reader_11 reader_12
    average reader train/reader_10/model train/reader_12/model 0.5
}
judge_claims() {
    steps claims_1 claims_2 claims_3 claims_4 claims_5 claims_6 claims_7
    average claims train/claims_4/model train/claims_7/model 0.6
}

search & searching=$!
read_questions
judge_claims
wait "$searching"
temper first train/retriever_8 train/reader_10/model found_1
steps answers_1 labels_1
steps reader_13 claims_8 claims_9
average second_reader train/answers_1/model train/reader_13/model 0.5
grow --feed_forward 1024 --model out/train/claims_9/model --output out/wider/claims
steps reader_14 claims_10 claims_11
average third_reader average/second_reader train/reader_14/model 0.5
steps reader_15
average fourth_reader average/third_reader train/reader_15/model 0.5
temper second average/third_retriever average/third_reader judged_questions --times 0.5
average second_claims train/claims_10/model train/claims_11/model 0.5
steps answers_2 reader_16 claims_12
average fifth_reader train/answers_2/model train/reader_16/model 0.5
average third_claims average/second_claims train/claims_12/model 0.5
steps claims_13
average fourth_claims average/third_claims train/claims_13/model 0.5
steps reader_17 claims_14
average fifth_claims average/fourth_claims train/claims_14/model 0.75
steps claims_15
average sixth_claims average/fifth_claims train/claims_15/model 0.5
steps reader_18 reader_19 claims_16
average sixth_reader train/reader_18/model train/reader_19/model 0.5
average seventh_claims average/sixth_claims train/claims_16/model 0.5
steps claims_17
average eighth_claims average/seventh_claims train/claims_17/model 0.5
steps claims_18 claims_19
average neighbouring_claims train/claims_18/model train/claims_19/model 0.5
average ninth_claims average/eighth_claims average/neighbouring_claims 0.5
temper fourth average/seventh_retriever train/reader_18/model titled_questions --times 0.5
steps bordering_claims more_bordering_claims
found bordering_claims practice_bordering/claims passages_5 bordering_claims
found more_bordering_claims practice_bordering/claims passages_6 more_bordering_claims
steps claims_20 claims_21
average bordering_claims train/claims_20/model train/claims_21/model 0.5
average tenth_claims average/ninth_claims average/bordering_claims 0.5
steps neighbours_claims neighbours_labels
python -m examples.temper_labels --labels out/train/neighbours_labels --question_encoder out/tempered/fourth \
    --claims out/practice_neighbours/validation_claims --model out/average/tenth_claims --output out/tempered/labels
steps rag_answers rag_labels

python -m examples.ship_models --train out/train
