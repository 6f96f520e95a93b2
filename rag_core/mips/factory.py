"""FAISS's `index_factory` strings as an index is made from them, and what training them takes."""

from dataclasses import dataclass
from typing import Any

import faiss

from rag_core.errors import UsageError

EXACT = "Flat"
_REFINED = ",RFlat"
# FAISS's own least: below it, it warns that centroids are poorly placed
_VECTORS_PER_CENTROID = 39
_ENOUGH_PER_CENTROID = 64
_SCALAR_QUANTIZER_VECTORS = 1_000  # whose range in each dimension is that of nearly all
_WITHOUT_RANGE = (faiss.ScalarQuantizer.QT_fp16, faiss.ScalarQuantizer.QT_bf16)


@dataclass(frozen=True, slots=True)
class Factory:
    """What a factory string asks for.

    Attributes:
      text: the string as given, such as `OPQ64,IVF4096,PQ64,RFlat`.
      refines: whether more candidates than asked for are taken from FAISS and the best kept by their
        stored vectors. The vectors are in the shards anyway, so `,RFlat` stores nothing twice.
      dimension: D of the vectors.
    """

    text: str
    refines: bool
    dimension: int

    @classmethod
    def parse(cls, text: str, dimension: int) -> "Factory":
        """Reads a factory string.

        Raises:
          UsageError: FAISS does not know it, cannot do it for inner products or in this dimension, or
            its result could not be used here.
        """
        factory = cls(text, text.endswith(_REFINED), dimension)
        if "Refine" in text or "RFlat" in text.removesuffix(_REFINED):
            raise UsageError(
                f"--factory {text}: candidates are refined from the stored vectors; end it in RFlat"
            )
        if "IDMap" in text:
            raise UsageError(f"--factory {text}: rows are numbered here; leave IDMap out")
        factory.empty()
        return factory

    def empty(self) -> faiss.Index:
        """An index of the factory, not trained and without vectors."""
        try:
            index = faiss.index_factory(
                self.dimension, self.text.removesuffix(_REFINED), faiss.METRIC_INNER_PRODUCT
            )
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1].strip()
            raise UsageError(
                f"--factory {self.text}: FAISS cannot make it for inner products of {self.dimension} dimensions "
                f"({reason}); see FAISS's index_factory"
            ) from error
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise UsageError(f"--factory {self.text}: does not search by inner product; use another")
        return index

    @property
    def is_exact(self) -> bool:
        return self.text == EXACT

    def train_rows_required(self) -> int:
        """The fewest vectors that it can be trained on; 0 where it does not train."""
        return self._rows(_VECTORS_PER_CENTROID)

    def train_rows_wanted(self) -> int:
        """How many vectors are enough."""
        return self._rows(_ENOUGH_PER_CENTROID)

    def _rows(self, per_centroid: int) -> int:
        index = self.empty()
        return 0 if index.is_trained else max(_required(index, per_centroid), per_centroid)


def inverted_file(index: faiss.Index) -> Any:
    """The IVF within an index; None where it has none."""
    ivf = faiss.try_extract_index_ivf(index)
    return None if ivf is None else faiss.downcast_index(ivf)


def hnsw_graph(index: faiss.Index) -> Any:
    """The HNSW graph over the index's vectors; None where it has none."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    return index.hnsw if isinstance(index, faiss.IndexHNSW) else None


def _required(index: faiss.Index, per_centroid: int) -> int:
    """Vectors that the parts of an index train on: so many for each centroid that is learned."""
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        chain: Any = index.chain
        steps = [faiss.downcast_VectorTransform(chain.at(step)) for step in range(chain.size())]
        transforms = max((_required_by_transform(step, per_centroid) for step in steps), default=0)
        return max(transforms, _required(index.index, per_centroid))
    lists = per_centroid * index.nlist if isinstance(index, faiss.IndexIVF) else 0
    storage = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    if isinstance(storage, faiss.IndexScalarQuantizer | faiss.IndexIVFScalarQuantizer):
        return max(lists, 0 if storage.sq.qtype in _WITHOUT_RANGE else _SCALAR_QUANTIZER_VECTORS)
    quantizer = getattr(storage, "pq", None)
    return max(lists, per_centroid * quantizer.ksub if quantizer is not None else 0)


def _required_by_transform(step: faiss.VectorTransform, per_centroid: int) -> int:
    if isinstance(step, faiss.OPQMatrix):  # it learns a product quantizer of 256 centroids a block
        return per_centroid * 256
    return 0 if step.is_trained else step.d_in
