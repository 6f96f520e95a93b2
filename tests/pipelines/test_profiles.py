"""Profiles: what they say of a stage's settings, of Dataflow's options and of a model's step."""

import pytest
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    WorkerOptions,
)

from pipelines import profiles
from pipelines.encode import EncodeSettings
from pipelines.launch import Stage
from pipelines.options import StageSettings
from pipelines.profiles import PROFILES, Profile, Workers, read_profile
from pipelines.retrieve import RetrieveSettings
from pipelines.run import STAGES
from pipelines.transforms.units import Work
from rag_core.errors import UsageError
from tests.pipelines.commands import status_of

GPU = PROFILES["l4"].workers("encode")
CPU = PROFILES["cpu"].workers("encode")


def encode_settings(**more) -> EncodeSettings:
    return EncodeSettings(output="out", passages="passages", encoder="an/encoder", **more)


def retrieve_settings(**more) -> RetrieveSettings:
    return RetrieveSettings(output="out", index="index", questions="q", encoder="an/encoder", **more)


def all_works() -> list[type[Work]]:
    """Every kind of work, of whatever depth."""
    found, todo = [], [Work]
    while todo:
        todo += (kinds := todo.pop().__subclasses__())
        found += kinds
    return found


def test_a_profile_names_pipelines_only():
    pipelines = {name for name, stage in STAGES.items() if isinstance(stage, Stage)}
    assert set(profiles.Pipeline.__args__) == pipelines
    for name, profile in PROFILES.items():
        assert set(profile.stages) <= pipelines, name


def test_what_the_launching_machine_would_decide_is_decided_by_the_workers():
    settings = GPU.settings(encode_settings())
    assert (settings.dtype, settings.num_threads, settings.batch_tokens) == ("bfloat16", 8, 65_536)
    settings = CPU.settings(retrieve_settings())
    assert (settings.dtype, settings.num_threads, settings.batch_tokens) == ("float32", 16, 2_048)
    assert settings.shard_tiles == CPU.max_workers
    assert settings.device == "auto"


def test_what_the_user_says_stays():
    given = {"dtype": "float16", "num_threads": 3, "batch_tokens": 77}
    assert GPU.settings(encode_settings(**given)) == encode_settings(**given)
    assert GPU.settings(retrieve_settings(shard_tiles=2)).shard_tiles == 2


def test_a_stage_without_a_model_learns_its_threads_only():
    settings = PROFILES["l4"].workers("chunk").settings(StageSettings(output="out"))
    assert settings == StageSettings(output="out", num_threads=1)


def test_steps_that_run_a_model_ask_for_a_gpu_and_the_job_does_not():
    assert GPU.hints() == {
        "accelerator": "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver",
        "min_ram": "24GB",
        "max_active_bundles_per_worker": "1",
    }
    options = PipelineOptions(GPU.dataflow_options(given=[]))
    assert options.view_as(GoogleCloudOptions).dataflow_service_options is None
    assert options.view_as(WorkerOptions).machine_type == "n2-standard-4"


def test_a_job_of_gpus_hints_nothing_since_the_service_takes_either():
    workers = PROFILES["l4_job"].workers("generate")
    assert workers.hints() == {}
    options = PipelineOptions(workers.dataflow_options(given=[]))
    assert options.view_as(GoogleCloudOptions).dataflow_service_options == [
        "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
    ]
    assert options.view_as(WorkerOptions).machine_type == "g2-standard-8"


@pytest.mark.parametrize("name", PROFILES)
def test_a_model_has_one_process_a_machine_and_python_one_a_core(name):
    for stage in ("encode", "retrieve", "generate", "classify", "index"):
        options = PipelineOptions(PROFILES[name].workers(stage).dataflow_options(given=[]))
        assert options.view_as(DebugOptions).experiments == ["no_use_multiple_sdk_containers"]
        assert options.view_as(DebugOptions).number_of_worker_harness_threads == 2
    for stage in ("chunk", "evaluate"):
        workers = PROFILES[name].workers(stage)
        options = PipelineOptions(workers.dataflow_options(given=[]))
        assert options.view_as(DebugOptions).experiments is None
        assert (workers.threads, workers.hints(), workers.accelerator) == (1, {}, None)


def test_options_of_the_command_line_win_and_lists_are_joined():
    given = ["--machine_type=g2-standard-12", "--max_num_workers", "3", "--experiments=use_runner_v2"]
    options = PipelineOptions([*given, *PROFILES["l4_job"].workers("encode").dataflow_options(given)])
    workers = options.view_as(WorkerOptions)
    assert (workers.machine_type, workers.max_num_workers) == ("g2-standard-12", 3)
    assert options.view_as(DebugOptions).experiments == ["use_runner_v2", "no_use_multiple_sdk_containers"]


def test_a_plan_is_told_what_runs_where():
    assert GPU.told() == "up to 8 g2-standard-8, each with one nvidia-l4 for the model's steps"
    assert PROFILES["l4_job"].workers("encode").told() == "up to 8 g2-standard-8, each with one nvidia-l4"
    assert CPU.told() == "up to 16 n2-standard-16"


def test_only_steps_that_run_a_model_take_hints():
    with_model = {kind.__name__ for kind in all_works() if kind.runs_model}
    assert {
        "EncodePassages",
        "EncodeQuestions",
        "SearchIndex",
        "GenerateAnswers",
        "ClassifyQuestions",
    } <= with_model
    assert with_model.isdisjoint(
        {"ChunkCorpus", "ReadQuestions", "TakePassages", "BuildShards", "EvaluatePredictions"}
    )


def test_a_file_holds_a_profile(tmp_path):
    path = tmp_path / "ours.yaml"
    path.write_text(
        "default: {machine_type: n1-standard-4, max_workers: 2, threads: 4}\n"
        "stages:\n"
        "  encode: {machine_type: n1-standard-8, max_workers: 5, threads: 8, accelerator: nvidia-tesla-t4,\n"
        "           accelerate: job, dtype: float16, batch_tokens: 16384}\n"
    )
    profile = read_profile(str(path))
    assert profile.workers("chunk") == Workers(machine_type="n1-standard-4", max_workers=2, threads=4)
    assert profile.workers("encode").accelerator == "nvidia-tesla-t4"
    assert isinstance(profile, Profile)


@pytest.mark.parametrize(
    "content, told",
    [
        ("default: [", "is not YAML"),
        ("[1, 2]", "the whole file: "),
        ("stages: {}", "default: Field required"),
        ("default: {machine_type: m, max_workers: 0, threads: 1}", "default.max_workers: "),
        ("default: {machine_type: m, max_workers: 1, threads: 1, min_ram: much}", "default.min_ram: "),
        (
            "default: {machine_type: m, max_workers: 1, threads: 1, accelerator: a, one_process: false}",
            "default: one_process is false where accelerator is given; a GPU serves one process",
        ),
        (
            "default: {machine_type: m, max_workers: 1, threads: 1}\nstages: {encoed: {}}",
            "stages.encoed.[key]: Input should be 'chunk', 'encode'",
        ),
    ],
)
def test_a_file_that_holds_none_is_told(tmp_path, content, told):
    path = tmp_path / "ours.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as refusal:
        read_profile(str(path))
    assert str(refusal.value).startswith(f"--profile {path}: {told}")
    assert "\n" not in str(refusal.value)


def test_a_profile_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UsageError) as refusal:
        read_profile("tpu")
    assert str(refusal.value) == (
        "--profile tpu: expected cpu, l4, l4_job or a YAML file, and there is no such file"
    )


def test_a_profile_is_refused_where_this_machine_does_the_work(tmp_path, capsys):
    """It would compute in the precision of workers that it does not have."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"title": "a", "text": "b"}\n')
    assert status_of("chunk", input=corpus, output=tmp_path / "out", profile="cpu") == 2
    assert capsys.readouterr().err == (
        "rag-beam: --profile cpu: tells the workers of a cluster, and the in-process runner has this machine's "
        "only; give --runner, or leave --profile out\n"
    )
    assert not (tmp_path / "out").exists()


def test_the_plan_of_a_run_tells_where_each_step_will_run(tmp_path, capsys):
    (tmp_path / "corpus.jsonl").write_text('{"title": "a", "text": "b"}\n')
    (tmp_path / "run.yaml").write_text(
        "output: out\noptions: {profile: l4}\nsteps:\n  passages: {stage: chunk, input: [corpus.jsonl]}\n"
    )
    assert status_of("run", str(tmp_path / "run.yaml"), plan=True) == 0
    assert "to run on up to 16 n2-standard-8" in capsys.readouterr().out
