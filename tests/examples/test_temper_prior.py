"""The scale of p(z|x) that makes answers most likely, and a question encoder that has it."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import DPRQuestionEncoder

from examples.ship_models import MODELS
from examples.temper_prior import conditional_nll, fit_scale, log_likelihoods, main, scale_vectors
from rag_core.context import PassageText
from rag_core.generator import load_generator
from rag_core.training.documents import RagQuestion
from schemas.retrievals import SCHEMA
from tests.rag_core.tiny_encoders import edit_json, write_dpr_question_encoder

NEVER = -1e9
QUESTION = "What is the currency of Ruratia?"
SPEAKS = "Ruratia is a country by the sea. The currency of Ruratia is the Ruratian tolar."
SILENT = "Archives keep the papers of former holders for historians of Ruratia."


def test_the_conditional_likelihood_by_hand():
    scores = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)  # p(z|x): 3/4 and 1/4
    answers = torch.tensor([[0.5, 0.2]], dtype=torch.float64).log()
    silence = torch.tensor([[0.4, 0.8]], dtype=torch.float64).log()
    expected = -math.log((0.75 * 0.5 + 0.25 * 0.2) / (1 - (0.75 * 0.4 + 0.25 * 0.8)))
    assert conditional_nll(1.0, scores, answers, silence).tolist() == pytest.approx([expected])


@pytest.mark.parametrize("silent_score", [-5.0, 5.0])
def test_the_scale_is_as_sharp_as_the_retriever_is_right_whatever_silent_passages_weigh(silent_score):
    # two passages speak, two units apart, and the first is right in 8 of 10: sigmoid(2 t) = 0.8
    right, wrong = (0.0, NEVER, NEVER), (NEVER, 0.0, NEVER)
    scores = torch.tensor([[1.0, -1.0, silent_score]] * 10, dtype=torch.float64)
    answers = torch.tensor([right] * 8 + [wrong] * 2, dtype=torch.float64)
    silence = torch.tensor([[NEVER, NEVER, 0.0]] * 10, dtype=torch.float64)
    assert fit_scale(scores, answers, silence) == pytest.approx(math.log(4) / 2, rel=0.03)


@pytest.mark.parametrize("projection", [0, 6])
def test_all_vectors_are_scaled(projection, tmp_path):
    folder = write_dpr_question_encoder(tmp_path / "dpr", projection_dim=projection)
    model = DPRQuestionEncoder.from_pretrained(folder).eval()
    tokens = torch.tensor([[2, 7, 9, 3], [2, 11, 5, 3]])
    with torch.no_grad():
        before = model(tokens).pooler_output
        scale_vectors(model, 0.4)
        torch.testing.assert_close(model(tokens).pooler_output, 0.4 * before)


def retrieved(*texts, scores=(2.0, 1.0)):
    passages = [
        {
            "passage_id": f"d{number}#0",
            "document_id": f"d{number}",
            "title": "Ruratia",
            "text": text,
            "score": score,
        }
        for number, (text, score) in enumerate(zip(texts, scores, strict=True))
    ]
    return {"question_id": "q", "question": QUESTION, "answers": ["Ruratian tolar"], "passages": passages}


def write_retrievals(rows, folder):
    (folder / "retrievals").mkdir()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "retrievals/part.parquet")


def arguments(question_encoder, folder):
    given = {
        "question_encoder": question_encoder,
        "model": MODELS / "rag_answers",
        "retrievals": folder / "retrievals",
        "output": folder / "tempered",
    }
    return [f"--{name}={value}" for name, value in given.items()]


def test_likelihoods_are_those_of_the_model():
    generator = load_generator(str(MODELS / "rag_answers"), device="cpu", dtype="float32")
    passages = {text: PassageText("Ruratia", text) for text in (SPEAKS, SILENT)}
    orders = [(SPEAKS, SILENT), (SILENT, SPEAKS)]
    answers, silence = log_likelihoods(
        generator,
        [
            RagQuestion("q", QUESTION, ("Ruratian tolar",), tuple(passages[text] for text in order))
            for order in orders
        ],
    )
    assert answers.shape == silence.shape == (2, 2)
    torch.testing.assert_close(answers[0], answers[1].flip(0), atol=1e-4, rtol=1e-4)
    context = generator.tokenizer(f"Ruratia / {SPEAKS} // {QUESTION}", return_tensors="pt").input_ids
    labels = generator.tokenizer("Ruratian tolar", return_tensors="pt").input_ids
    with torch.no_grad():
        loss = generator.model(input_ids=context, labels=labels).loss.item()
    assert answers[0, 0].item() == pytest.approx(-loss * labels.shape[1], rel=1e-3, abs=1e-3)
    assert silence[0, 1] > silence[0, 0]


def test_the_command_writes_an_encoder_that_still_belongs_to_its_passage_encoder(tmp_path, capsys):
    source = write_dpr_question_encoder(tmp_path / "dpr")
    edit_json(source / "config.json", passage_encoder_fingerprint="abc")
    model = DPRQuestionEncoder.from_pretrained(source).eval()
    rows = [retrieved(SPEAKS, SILENT), retrieved(SILENT, SPEAKS), retrieved(SILENT, SILENT)]
    write_retrievals(rows, tmp_path)
    main(arguments(source, tmp_path))
    told = capsys.readouterr().out
    assert "2 questions" in told  # the third has no passage with the answer
    scale = float(told.partition("times ")[2].partition(";")[0])
    assert json.loads((tmp_path / "tempered/config.json").read_text())["passage_encoder_fingerprint"] == "abc"
    assert (tmp_path / "tempered/tokenizer.json").exists()
    tokens = torch.tensor([[2, 7, 9, 3]])
    tempered = DPRQuestionEncoder.from_pretrained(tmp_path / "tempered").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            tempered(tokens).pooler_output, scale * model(tokens).pooler_output, atol=2e-3, rtol=2e-3
        )


def test_the_fitted_scale_is_multiplied(tmp_path, capsys):
    source = write_dpr_question_encoder(tmp_path / "dpr")
    write_retrievals([retrieved(SPEAKS, SILENT), retrieved(SILENT, SPEAKS)], tmp_path)
    scales = []
    for further in ([], ["--times=0.5"]):
        main([*arguments(source, tmp_path), *further])
        scales.append(float(capsys.readouterr().out.partition("vectors times ")[2].partition(";")[0]))
    assert scales[1] == pytest.approx(0.5 * scales[0], abs=1e-3)


def test_retrievals_without_any_answer_are_refused(tmp_path, capsys):
    write_retrievals([retrieved(SILENT, SILENT)], tmp_path)
    with pytest.raises(SystemExit):
        main(arguments(tmp_path, tmp_path))
    assert "no row has a passage that holds its answer" in capsys.readouterr().err


def test_a_folder_without_retrievals_is_refused(tmp_path, capsys):
    (tmp_path / "retrievals").mkdir()
    with pytest.raises(SystemExit):
        main(arguments(tmp_path, tmp_path))
    assert f"--retrievals: {tmp_path / 'retrievals'}" in capsys.readouterr().err
