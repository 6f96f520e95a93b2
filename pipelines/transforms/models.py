"""How worker processes load models: once each, with their share of the cores.

What takes seconds to import is imported as the first model is loaded: the same modules serve commands that
load none.
"""

import dataclasses
import functools
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import faiss
import pyarrow as pa
import threadpoolctl
import torch

from pipelines.transforms.devices import worker_device
from rag_core.errors import UsageError
from rag_core.model_files import model_stamp, resolve_device, resolve_model

if TYPE_CHECKING:
    from rag_core.encoders import PassageEncoder, QuestionEncoder
    from rag_core.generator import Generator


@dataclass(frozen=True)
class ModelLoader(ABC):
    """What it takes to load a model; small and picklable, so that it can travel to the workers.

    Attributes:
      fingerprint: of the model that the run was planned with, where that is known: a worker loads it later.
    """

    model: str
    device: str
    dtype: str
    allow_pickle: bool
    num_threads: int
    fingerprint: str | None = field(default=None, compare=False, kw_only=True)

    def expecting(self, fingerprint: str) -> Self:
        """The same, for a model that must be this one."""
        return dataclasses.replace(self, fingerprint=fingerprint)

    def load(self) -> Any:
        """The model, the same object at every call with equal settings in this process.

        Only the last one is kept: a run's stages follow each other in one process, and each needs
        the memory of the one before.

        Raises:
          UsageError: the model's files are not, or no longer, those that the run was planned with.
        """
        limit_threads(self.num_threads)
        stamp = model_stamp(resolve_model(self.model))
        loaded = _load_once(self, stamp)
        unexpected = self.fingerprint is not None and loaded.fingerprint != self.fingerprint
        if unexpected or model_stamp(resolve_model(self.model)) != stamp:
            raise UsageError(
                f"{self.model}: was changed while this run began; put back what it held and run the same command "
                "again, or start afresh with --overwrite when nothing writes to it any more"
            )
        return loaded

    @abstractmethod
    def _load(self) -> Any: ...

    def _where(self) -> dict[str, Any]:
        return {"device": worker_device(self.device), "dtype": self.dtype, "allow_pickle": self.allow_pickle}


@dataclass(frozen=True)
class PassageEncoderLoader(ModelLoader):
    """Loads a `PassageEncoder`."""

    max_tokens: int = 256
    passage_template: str = "{title} {text}"

    def _load(self) -> "PassageEncoder":
        from rag_core.encoders import load_passage_encoder

        return load_passage_encoder(
            self.model, max_tokens=self.max_tokens, passage_template=self.passage_template, **self._where()
        )


@dataclass(frozen=True)
class QuestionEncoderLoader(ModelLoader):
    """Loads a `QuestionEncoder`."""

    max_tokens: int = 256

    def _load(self) -> "QuestionEncoder":
        from rag_core.encoders import load_question_encoder

        return load_question_encoder(self.model, max_tokens=self.max_tokens, **self._where())


@dataclass(frozen=True)
class GeneratorLoader(ModelLoader):
    """Loads a `Generator`."""

    max_input_tokens: int = 300

    def _load(self) -> "Generator":
        from rag_core.generator import load_generator

        return load_generator(self.model, max_input_tokens=self.max_input_tokens, **self._where())


@functools.lru_cache(maxsize=1)
def _load_once(loader: ModelLoader, stamp: str) -> Any:
    quieten_transformers()
    return loader._load()


def quieten_transformers() -> None:
    """Our own bar is on the terminal, and weights that are missing or misshapen are told in a sentence."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def default_batch_tokens(device: str) -> int:
    """Tokens of a batch to encode where nobody says: on a CPU, small batches stay in its caches."""
    return 2_048 if resolve_device(device).type == "cpu" else 65_536


def threads_per_worker(num_threads: int | None, workers: int) -> int:
    """CPU threads that each of `workers` local processes may use."""
    return num_threads or max(1, available_cores() // max(1, workers))


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def limit_threads(num_threads: int) -> None:
    """Holds torch, NumPy, FAISS, Arrow and the tokenizers of this process to so many threads."""
    threadpoolctl.threadpool_limits(num_threads, user_api="blas")
    torch.set_num_threads(num_threads)
    faiss.omp_set_num_threads(num_threads)
    pa.set_cpu_count(num_threads)
    os.environ["RAYON_NUM_THREADS"] = str(num_threads)  # read by tokenizers when its pool starts
