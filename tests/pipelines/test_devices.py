import pytest

from pipelines import launch
from pipelines.options import ModelSettings, StageSettings
from pipelines.transforms import devices
from pipelines.transforms.devices import default_workers, worker_device


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    def have(count: int) -> None:
        monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: count)

    return have


@pytest.mark.parametrize(
    ("count", "device", "workers"),
    [(0, "auto", 1), (1, "auto", 1), (4, "auto", 4), (4, "cuda", 4), (4, "cpu", 1), (4, "cuda:2", 1)],
)
def test_there_is_a_worker_a_gpu_where_the_choice_is_ours(gpus, count, device, workers) -> None:
    gpus(count)
    assert default_workers(device) == workers


@pytest.mark.parametrize(
    ("count", "worker_id", "device", "expected"),
    [
        (2, "worker_0", "auto", "cuda:0"),
        (2, "worker_1", "cuda", "cuda:1"),
        (2, "worker_5", "auto", "cuda:1"),  # Beam numbers the workers of all pipelines of a process
        (2, "worker_1", "cpu", "cpu"),
        (2, "worker_1", "cuda:0", "cuda:0"),
        (1, "worker_1", "auto", "auto"),
        (0, "worker_1", "auto", "auto"),
        (2, "", "auto", "auto"),
        (2, "sdk-7f", "auto", "auto"),  # another runner's
    ],
)
def test_workers_take_the_gpus_in_turn(gpus, monkeypatch, count, worker_id, device, expected) -> None:
    gpus(count)
    monkeypatch.setenv("WORKER_ID", worker_id)
    assert worker_device(device) == expected


def test_a_stage_with_a_model_uses_all_gpus_unless_told_otherwise(gpus) -> None:
    gpus(3)
    with_model, without = ModelSettings(output="out"), StageSettings(output="out")
    assert launch.worker_count(with_model, []) == 3
    assert launch.worker_count(without, []) == 1
    assert launch.worker_count(with_model, ["--direct_num_workers", "1"]) == 1
    assert launch.worker_count(with_model, ["--direct_num_workers=2"]) == 2
