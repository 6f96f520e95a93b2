"""The scales by which most labels come out right, and models that have them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, DPRQuestionEncoder

from examples.ship_models import MODELS
from examples.temper_labels import accuracy, fit_scales, main, scale_logits
from rag_core.generator import load_generator
from schemas.labels import SCHEMA
from tests.rag_core.tiny_encoders import write_dpr_question_encoder

LABELS = ("SUPPORTS", "REFUTES", "NOT ENOUGH INFO")
SURE, KNOWS_NOTHING = (0.97, 0.02, 0.01), (0.25, 0.25, 0.5)
# the first document has p(z|x) = 0.8 and knows nothing, the second decides
OUTVOTED = (np.log([[0.8, 0.2]]), np.array([[KNOWS_NOTHING, SURE]]), np.array([0]))


@pytest.mark.parametrize(
    ("prior_scale", "label_scale", "expected"),
    [
        (
            1.0,
            1.0,
            0.0,
        ),  # 0.8 * 0.25 + 0.2 * 0.97 = 0.394 for SUPPORTS, 0.8 * 0.5 + 0.2 * 0.01 = 0.402 against
        (1.0, 0.5, 1.0),  # 0.8 * 0.293 + 0.2 * 0.803 = 0.395 and 0.8 * 0.414 + 0.2 * 0.082 = 0.348
        (0.5, 1.0, 1.0),  # 0.667 * 0.25 + 0.333 * 0.97 = 0.490 and 0.667 * 0.5 + 0.333 * 0.01 = 0.337
    ],
)
def test_labels_by_hand(prior_scale, label_scale, expected):
    assert accuracy(prior_scale, label_scale, *OUTVOTED) == expected


def test_where_all_are_right_nothing_is_tempered():
    assert fit_scales(np.zeros((40, 1)), np.array([[SURE]] * 40), np.zeros(40, dtype=int)) == (1.0, 1.0)


def test_a_flat_prior_that_costs_other_claims_gives_way_to_flat_labels():
    # other claims are right only as long as their first document weighs more than the two below it
    sharp = (np.log([[0.6, 0.2, 0.2]]), np.array([[(0.55, 0.225, 0.225), (0.2, 0.6, 0.2), (0.2, 0.6, 0.2)]]))
    outvoted = (np.log([[0.85, 0.075, 0.075]]), np.array([[KNOWS_NOTHING, SURE, SURE]]))
    scores, label_probs = (np.concatenate([a] * 30 + [b] * 30) for a, b in zip(sharp, outvoted, strict=True))
    prior_scale, label_scale = fit_scales(scores, label_probs, np.zeros(60, dtype=int))
    assert accuracy(1.0, 1.0, scores, label_probs, np.zeros(60, dtype=int)) == 0.5
    assert accuracy(prior_scale, label_scale, scores, label_probs, np.zeros(60, dtype=int)) == 1.0
    assert label_scale < 1


def test_all_logits_are_scaled():
    generator = load_generator(str(MODELS / "rag_labels"), device="cpu", dtype="float32")
    tokens = {"input_ids": torch.tensor([[5, 9, 14, 1]]), "decoder_input_ids": torch.tensor([[0, 7]])}
    with torch.no_grad():
        before = generator.model(**tokens).logits
        scale_logits(generator.model, 0.4)
        torch.testing.assert_close(generator.model(**tokens).logits, 0.4 * before, atol=1e-4, rtol=1e-4)


def test_another_architecture_is_refused():
    tiny = BartConfig(vocab_size=20, d_model=8, encoder_attention_heads=2, decoder_attention_heads=2)
    with pytest.raises(TypeError, match="expected a T5, got BartForConditionalGeneration"):
        scale_logits(BartForConditionalGeneration(tiny), 0.5)


@pytest.fixture
def arguments(tmp_path):
    """Of a run over 30 claims of which the first document outvotes the second, which decides."""
    scores, (probs,), _ = OUTVOTED
    passages = [
        {
            "passage_id": f"d{number}#0",
            "document_id": f"d{number}",
            "title": "Ruratia",
            "text": "",
            "score": score,
        }
        | {"prior": 0.5, "posterior": 0.5, "label_probs": list(of_document)}
        for number, (score, of_document) in enumerate(zip(scores[0], probs, strict=True))
    ]
    rows = [
        {
            "question_id": f"c{number}",
            "question": "The capital of Ruratia is Oln.",
            "label": "NOT ENOUGH INFO",
            "retrieval_hash": bytes(16),
        }
        | {
            "label_probs": [{"label": label, "prob": 1 / 3, "log_prob": -1.1} for label in LABELS],
            "passages": passages,
        }
        for number in range(30)
    ]
    (tmp_path / "labels").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "labels/part-00000-of-00001.parquet")
    (tmp_path / "claims").mkdir()
    claims = ({"question_id": row["question_id"], "answers": ["SUPPORTS"]} for row in rows)
    (tmp_path / "claims/1.jsonl").write_text("\n".join(map(json.dumps, claims)), encoding="utf-8")
    return {
        "--labels": tmp_path / "labels",
        "--claims": tmp_path / "claims",
        "--question_encoder": write_dpr_question_encoder(tmp_path / "dpr"),
        "--model": MODELS / "rag_labels",
        "--output": tmp_path / "tempered",
    }


def run(arguments):
    main([str(word) for pair in arguments.items() for word in pair])


def test_the_command_writes_both_models(arguments, capsys):
    run(arguments)
    output = arguments["--output"]
    # a flatter prior is enough here
    assert capsys.readouterr().out == (
        f"{output}: scores times 0.85, logits times 1.0; 30 claims, 0.0000 right before, 1.0000 after\n"
    )
    before = DPRQuestionEncoder.from_pretrained(arguments["--question_encoder"]).eval()
    after = DPRQuestionEncoder.from_pretrained(output / "question_encoder").eval()
    tokens = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        torch.testing.assert_close(after(tokens).pooler_output, 0.85 * before(tokens).pooler_output)
    assert load_generator(str(output / "model"), device="cpu", dtype="float32").tokenizer("right").input_ids


def test_a_claim_that_the_folder_has_not_is_an_error(arguments, capsys):
    (arguments["--claims"] / "1.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit):
        run(arguments)
    assert f"claim c0 is not in {arguments['--claims']}" in capsys.readouterr().err
