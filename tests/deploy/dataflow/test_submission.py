"""Jobs as they are submitted to Dataflow: real submission code against stand-ins of the services."""

import json

import pytest

pytest.importorskip("google.cloud.dataflow_v1beta3", reason="needs pip install -e '.[gcp]'")

from pipelines.launch import Stage
from pipelines.run import STAGES
from tests.deploy.dataflow.conftest import BUCKET
from tests.deploy.dataflow.jobs import IMAGE, PROJECT, hints_by_step, images, stage_options
from tests.deploy.dataflow.service import submitted_pipeline
from tests.pipelines.commands import manifest_of, status_of

OUT = f"{BUCKET}/out"
LINK = "job-{0}: https://console.cloud.google.com/dataflow/jobs/europe-west4/job-{0}?project=a-project"
L4_HINTS = {
    "accelerator": "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver",
    "min_ram": "24000000000",
    "max_active_bundles_per_worker": "1",
}
MODEL_STEPS = {
    "encode": ["embeddings"],
    "retrieve": ["question_vectors", "search_results"],
    "generate": ["answers"],
    "classify": ["labels"],
}


def template(storage, world, stage: str, **more) -> dict:
    """The job that a launcher of templates finds."""
    options = (
        PROJECT | {"template_location": f"{BUCKET}/jobs/{stage}.json"} | stage_options(world, stage) | more
    )
    assert status_of(stage, **options, output=OUT) == 0
    return json.loads(storage.objects[f"{BUCKET}/jobs/{stage}.json"])


def check_job(storage, job: dict, stage: str) -> None:
    """What is the same for every profile: containers, staging, no session of the launcher."""
    [pool] = job["environment"]["workerPools"]
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert images(submitted_pipeline(storage, job)) == {IMAGE}
    staged = [package["location"] for package in pool["packages"]]
    assert [path.rpartition("/")[2] for path in staged] == ["submission_environment_dependencies.txt"]
    for path in staged:
        assert path.replace("storage.googleapis.com/", "gs://") in storage.objects
    assert job["type"] == "JOB_TYPE_BATCH"
    begun = {path.rpartition(".work/")[2] for path in storage.below(OUT)}
    assert begun == {"plan.json"}, f"{stage}: a launcher only claims the output"


def one_process(job: dict) -> bool:
    """Whether each worker machine has one process with all cores."""
    experiments = job["environment"]["experiments"]
    one = "no_use_multiple_sdk_containers" in experiments
    assert one != ("use_multiple_sdk_containers" in experiments)
    return one


def test_a_template_of_a_stage_asks_for_a_gpu_where_the_model_runs_and_waits_for_nothing(
    storage, stored_world, capsys
):
    job = template(storage, stored_world, "encode", profile="l4")
    assert f"encode: {OUT}: handed over; the job is not waited for" in capsys.readouterr().out
    check_job(storage, job, "encode")
    [(step, hints)] = hints_by_step(submitted_pipeline(storage, job)).items()
    assert step.endswith("Compute embeddings/ComputeUnit")
    assert hints == L4_HINTS
    environment = job["environment"]
    assert one_process(job)
    [pool] = environment["workerPools"]
    assert (pool["machineType"], pool["autoscalingSettings"]) == ("n2-standard-4", {"maxNumWorkers": 8})
    assert pool["numThreadsPerWorker"] == 2
    assert not environment.get("serviceOptions")
    settings = json.loads(storage.objects[f"{OUT}/.work/plan.json"])["settings"]
    assert settings["dtype"] == settings["encoder"]["dtype"] == "bfloat16", "the launcher has no GPU"


def test_a_job_that_fails_is_told_and_the_same_command_goes_on(storage, service, stored_world, capsys):
    """From gs:// to gs://, submitted to the stand-in, which runs the graph that was staged."""
    options = PROJECT | {"dataflow_endpoint": service.address} | stage_options(stored_world, "chunk")
    service.works, service.ending = False, "JOB_STATE_FAILED"
    assert status_of("chunk", **options, output=OUT) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"rag-beam: Dataflow job {LINK.format(1)}",
        f"rag-beam: {OUT}: Dataflow job {LINK.format(1)} ended as FAILED; its log says why. What is whole is kept; "
        "run the command again, it goes on",
    ]

    service.works, service.ending = True, "JOB_STATE_DONE"
    assert status_of("chunk", **options, output=OUT) == 0
    assert f"chunk: {OUT}: 40 read, 40 accepted" in capsys.readouterr().out
    assert service.paths == ["/v1b3/projects/a-project/locations/europe-west4/jobs"] * 2
    job = service.jobs[1]
    assert images(submitted_pipeline(storage, job)) == {IMAGE}
    assert not one_process(job), "Python's own work has a process a core"
    made, here = storage.below(OUT), f"{stored_world.folder}/made/passages"
    assert not any(path.startswith(".work") for path in made)
    for part in manifest_of(here).parts:
        with open(f"{here}/{part.name}", "rb") as file:
            assert file.read() == made[part.name]


@pytest.mark.slow
def test_a_dry_run_builds_the_job_and_touches_nothing(storage, stored_world, capsys):
    before = dict(storage.objects)
    options = PROJECT | {"dry_run": "True"} | stage_options(stored_world, "evaluate")
    assert status_of("evaluate", **options, output=OUT, overwrite=True) == 0
    assert f"evaluate: {OUT}: the job was built, and not submitted" in capsys.readouterr().out
    assert storage.objects == before


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["cpu", "l4", "l4_job"])
@pytest.mark.parametrize("stage", [name for name, stage in STAGES.items() if isinstance(stage, Stage)])
def test_every_stage_with_every_profile(storage, stored_world, stage, profile):
    job = template(storage, stored_world, stage, profile=profile)
    check_job(storage, job, stage)
    on_gpus = profile != "cpu" and stage in MODEL_STEPS
    hints = hints_by_step(submitted_pipeline(storage, job))
    if on_gpus and profile == "l4":
        assert sorted(step.split("/")[-2] for step in hints) == [
            f"Compute {table}" for table in MODEL_STEPS[stage]
        ]
        assert all(given == L4_HINTS for given in hints.values())
    else:
        assert hints == {}
    environment = job["environment"]
    [pool] = environment["workerPools"]
    assert one_process(job) == (stage == "index" or stage in MODEL_STEPS)
    whole_job = ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"]
    if on_gpus and profile == "l4_job":
        assert environment["serviceOptions"] == whole_job
        assert pool["machineType"] == "g2-standard-8"
    else:
        assert not environment.get("serviceOptions")
        assert pool["machineType"].startswith("n2-")
