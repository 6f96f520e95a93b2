"""Which process of a machine computes on which of its GPUs: one process a device."""

import os

import torch

_ANY_GPU = ("auto", "cuda")


def default_workers(device: str) -> int:
    """Local worker processes where nobody says: one a GPU if the device is ours to choose, else 1."""
    return max(1, torch.cuda.device_count()) if device in _ANY_GPU else 1


def worker_device(device: str) -> str:
    """The device of this process: where the choice is ours, local workers take the GPUs in turn.

    Beam's local runner numbers its workers in the variable WORKER_ID (`worker_3`).
    """
    number = os.environ.get("WORKER_ID", "").rpartition("_")[2]
    gpus = torch.cuda.device_count()
    if device not in _ANY_GPU or gpus < 2 or not number.isdigit():
        return device
    return f"cuda:{int(number) % gpus}"
