"""Shares the cores among worker processes."""

import os

import faiss
import pyarrow as pa
import torch


def threads_per_worker(num_threads: int | None, workers: int) -> int:
    """CPU threads that each of `workers` local processes may use."""
    return num_threads or max(1, available_cores() // max(1, workers))


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def limit_threads(num_threads: int) -> None:
    """Holds torch, FAISS, Arrow and the tokenizers of this process to so many threads."""
    torch.set_num_threads(num_threads)
    faiss.omp_set_num_threads(num_threads)
    pa.set_cpu_count(num_threads)
    os.environ["RAYON_NUM_THREADS"] = str(num_threads)  # read by tokenizers when its pool starts
