"""The peers of the generation benchmark: what else a user would answer the same questions with."""

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    BartForConditionalGeneration,
    DPRConfig,
    DPRQuestionEncoder,
    RagConfig,
    RagSequenceForGeneration,
    RagTokenForGeneration,
)

from benchmarks.bart_recipe import END, PAD, START
from rag_core.answers import RetrievedQuestion
from rag_core.generator import Generator


class TransformersPeer:
    """transformers' RAG classes, with explicit settings and padding trimmed to a question's longest context."""

    def __init__(
        self,
        generator: Generator,
        model_type: Literal["rag_sequence", "rag_token"],
        n_docs: int,
        num_beams: int,
        max_new_tokens: int,
        max_rows: int,
    ):
        """Puts the generator's weights into a RAG model.

        Args:
          max_rows: decoder rows that a single call has memory for; candidates are scored in such chunks.
        """
        question_encoder = DPRQuestionEncoder(
            DPRConfig(vocab_size=100, hidden_size=64, num_hidden_layers=1, num_attention_heads=1)
        )
        model = BartForConditionalGeneration(copy.deepcopy(generator.model.config)).to(generator.model.dtype)
        model.load_state_dict(generator.model.state_dict())
        model.set_attn_implementation("sdpa")
        config = RagConfig.from_question_encoder_generator_configs(
            question_encoder.config, model.config, n_docs=n_docs
        )
        kind = RagSequenceForGeneration if model_type == "rag_sequence" else RagTokenForGeneration
        rag = kind(config=config, question_encoder=question_encoder, generator=model)
        self._rag = rag.eval().to(generator.device)
        self._generator = generator
        self._model_type = model_type
        self._n_docs, self._num_beams = n_docs, num_beams
        self._max_rows = max_rows
        self._settings: dict[str, Any] = {
            "num_beams": num_beams,
            "max_length": len(generator.prompt) + max_new_tokens,
            "do_sample": False,
            "decoder_start_token_id": END,
            "forced_bos_token_id": START,
            "eos_token_id": END,
            "pad_token_id": PAD,
        }
        if num_beams > 1:
            self._settings |= {"early_stopping": "never", "length_penalty": 0.0}

    def answers(self, questions: Sequence[RetrievedQuestion]) -> list[str]:
        """The answers' texts: RAG-Token all questions in one call, RAG-Sequence as generate() does, one by one."""
        with torch.inference_mode():
            if self._model_type == "rag_token":
                rows = self._rag.generate(**self._inputs(questions), **self._settings)
                return [self._generator.decode(row) for row in rows.tolist()]
            return [self._rag_sequence(question) for question in questions]

    def _inputs(self, questions: Sequence[RetrievedQuestion]) -> dict[str, Any]:
        contexts = [
            torch.tensor(context)
            for question in questions
            for context in self._generator.contexts(question.question, question.passages)
        ]
        ids = pad_sequence(contexts, batch_first=True, padding_value=PAD).to(self._generator.device)
        scores = torch.from_numpy(np.stack([question.scores for question in questions])).to(ids.device)
        return {
            "context_input_ids": ids,
            "context_attention_mask": (ids != PAD).long(),
            "doc_scores": scores,
            "n_docs": self._n_docs,
        }

    def _rag_sequence(self, question: RetrievedQuestion) -> str:
        """The calls that RagSequenceForGeneration.generate makes, with the mask that it drops for its beams.

        Without a mask documents shorter than the longest attend to padding, and propose other texts.
        """
        inputs = self._inputs([question])
        ids, mask = inputs["context_input_ids"], inputs["context_attention_mask"]
        beams = self._rag.generator.generate(
            ids, attention_mask=mask, num_return_sequences=self._num_beams, **self._settings
        )
        candidates = torch.stack(list({tuple(row.tolist()): row for row in beams}.values()))
        losses = []
        for chunk in candidates.split(max(1, self._max_rows // len(ids))):
            count = len(chunk)
            losses.append(
                self._rag(
                    context_input_ids=ids.repeat(count, 1),
                    context_attention_mask=mask.repeat(count, 1),
                    doc_scores=inputs["doc_scores"].repeat(count, 1),
                    labels=chunk,
                    exclude_bos_score=True,
                    n_docs=len(ids),
                ).loss
            )
        return self._generator.decode(candidates[torch.cat(losses).argmin()].tolist())


class CTranslate2Peer:
    """RAG-Sequence by CTranslate2: `translate_batch` for the beams, `score_batch` for the candidates.

    All questions go into one call of each. Candidates are scored under the documents whose beams lack them.
    """

    def __init__(self, generator: Generator, num_beams: int, max_new_tokens: int, compute_type: str):
        """Converts the generator's weights; `compute_type` is float32 or int8."""
        import ctranslate2  # an extra: only this peer needs it

        self._generator, self._num_beams, self._limit = generator, num_beams, max_new_tokens
        with tempfile.TemporaryDirectory() as folder:
            saved, converted = Path(folder, "saved"), Path(folder, "converted")
            generator.model.save_pretrained(saved)
            generator.tokenizer.save_pretrained(saved)
            # the converter reads these, which transformers 5 no longer writes
            config = json.loads((saved / "config.json").read_text())
            config |= {"normalize_before": False, "normalize_embedding": True, "add_final_layer_norm": False}
            (saved / "config.json").write_text(json.dumps(config))
            ctranslate2.converters.TransformersConverter(str(saved)).convert(str(converted))
            self._translator = ctranslate2.Translator(
                str(converted), device="cpu", compute_type=compute_type, intra_threads=torch.get_num_threads()
            )

    def answers(self, questions: Sequence[RetrievedQuestion]) -> list[str]:
        """The answers' texts."""
        to_tokens = self._generator.tokenizer.convert_ids_to_tokens
        contexts = [
            [to_tokens(context) for context in self._generator.contexts(question.question, question.passages)]
            for question in questions
        ]
        flat = [context for of_question in contexts for context in of_question]
        beams = iter(
            self._translator.translate_batch(
                flat,
                target_prefix=[["<s>"]] * len(flat),
                beam_size=self._num_beams,
                num_hypotheses=self._num_beams,
                length_penalty=0,
                max_decoding_length=self._limit + 1,
                max_batch_size=32,
            )
        )
        unions = []
        for of_question in contexts:
            hypotheses = [next(beams).hypotheses for _ in of_question]
            unions.append(
                list(dict.fromkeys(tuple(y[1:]) for of_document in hypotheses for y in of_document))
            )
        pairs = [
            (context, ["<s>", *target])
            for of_question, union in zip(contexts, unions, strict=True)
            for target in union
            for context in of_question
        ]
        scored = iter(
            self._translator.score_batch(
                [context for context, _ in pairs], [target for _, target in pairs], max_batch_size=32
            )
        )
        answers = []
        for question, union in zip(questions, unions, strict=True):
            log_prior = question.scores - np.logaddexp.reduce(question.scores.astype(np.float64))
            marginals = [
                np.logaddexp.reduce(
                    [weight + sum(next(scored).log_probs[1:]) for weight in log_prior]  # not of <s>
                )
                for _ in union
            ]
            answers.append(" ".join(union[int(np.argmax(marginals))]))
        return answers
