"""`rag-beam generate`: answers from retrievals, as RAG-Sequence or RAG-Token."""

from typing import Literal

from pydantic import model_validator

from pipelines.answering import AnswererSettings
from pipelines.dataset.reader import Dataset, open_dataset
from pipelines.estimates.forecasts import Estimate, Forecasts
from pipelines.filesystems import STORAGE
from pipelines.launch import Stage, Task
from pipelines.options import option
from pipelines.transforms.answers import GenerateAnswers
from pipelines.transforms.models import GeneratorLoader
from pipelines.transforms.units import MakeDataset
from rag_core.answers import DecodingSettings


class GenerateSettings(AnswererSettings):
    """Options of `rag-beam generate`."""

    model_type: Literal["rag_sequence", "rag_token"] = option("one document an answer, or a mixture a token")
    decoding: Literal["thorough", "fast", "beam"] | None = option(
        "rag_sequence: thorough (default) or fast; rag_token: beam", None
    )
    num_beams: int = option("beams of a search; 1 is greedy", 4, ge=1)
    max_new_tokens: int = option("tokens of an answer at most, the end token included", 20, ge=1)
    min_new_tokens: int = option("tokens of an answer at least", 0, ge=0)
    length_penalty: float = option("beams are compared by log-probability / length^this", 0.0)
    num_candidates: int = option("candidates listed with an answer", 1, ge=1)
    no_repeat_ngram: int = option("n-grams of this size occur once in an answer; 0: no such rule", 0, ge=0)
    prune_mass: float = option(
        "leave out the least probable passages, of total p(z|x) at most this; answer_bound says what it costs",
        0.0,
        ge=0,
        lt=1,
    )
    token_posteriors: bool = option("write the posterior over the passages for each token", False)
    no_passage_texts: bool = option("leave the passages' texts out of the answers", False)

    @model_validator(mode="after")
    def _check_decoding(self) -> "GenerateSettings":
        self.decoding_settings()
        return self

    def decoding_settings(self) -> DecodingSettings:
        """The search, with the model type's own decoding where none is named."""
        default = "thorough" if self.model_type == "rag_sequence" else "beam"
        return DecodingSettings(
            model_type=self.model_type,
            decoding=self.decoding or default,  # type: ignore[arg-type]
            num_beams=self.num_beams,
            max_new_tokens=self.max_new_tokens,
            min_new_tokens=self.min_new_tokens,
            length_penalty=self.length_penalty,
            num_candidates=self.num_candidates,
            no_repeat_ngram=self.no_repeat_ngram,
            prune_mass=self.prune_mass,
            token_posteriors=self.token_posteriors,
            batch_tokens=self.batch_tokens,
        )


def prepare(settings: GenerateSettings, workers: int) -> list[Task]:
    """The answers to make."""
    retrievals = open_dataset(STORAGE, settings.retrievals, "retrievals")
    decoding = settings.decoding_settings()
    target = settings.target("answers", "generate", retrievals.as_input(), decoding=decoding.decoding)
    work = _work(settings, retrievals, settings.loader(workers, target), settings.earlier("answers"))
    return [Task(target, MakeDataset(target, work))]


def estimate(settings: GenerateSettings, workers: int, forecasts: Forecasts) -> Estimate:
    """What the answers will take."""
    return settings.estimate(
        "answers", lambda sample, loader: _work(settings, sample, loader), workers, forecasts
    )


def _work(
    settings: GenerateSettings, retrievals: Dataset, loader: GeneratorLoader, earlier: Dataset | None = None
) -> GenerateAnswers:
    return GenerateAnswers(
        retrievals,
        loader,
        settings.decoding_settings(),
        n_docs=settings.n_docs,
        unit_rows=settings.unit_rows,
        passage_texts=not settings.no_passage_texts,
        own_batches=settings.own_batches,
        earlier=earlier,
    )


STAGE = Stage(
    name="generate",
    settings=GenerateSettings,
    summary="Generates an answer to each question, marginalised over its passages.",
    reads="retrievals",
    writes="answers",
    example="rag-beam generate --retrievals out/retrievals --model facebook/rag-sequence-nq --model_type rag_sequence "
    "--output out/answers",
    prepare=prepare,
    estimate=estimate,
)
main = STAGE.main

if __name__ == "__main__":
    raise SystemExit(main())
