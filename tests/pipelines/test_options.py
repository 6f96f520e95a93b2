"""Options: ours and Beam's side by side, and mistakes told in one sentence."""

import pydantic
import pytest

from pipelines import cli
from pipelines.inspect import InspectSettings
from pipelines.options import (
    CommandParser,
    Settings,
    StageSettings,
    add_arguments,
    beam_option_names,
    changes_result,
    option,
    parse,
    path_kind,
    validated,
)
from pipelines.run import STAGES, RunSettings
from pipelines.verify import VerifySettings
from rag_core.errors import UsageError

ALL_SETTINGS = [stage.settings for stage in STAGES.values()] + [RunSettings, InspectSettings, VerifySettings]

# the least that each stage's command line must say
REQUIRED = {
    "chunk": ["--input", "nowhere/*.jsonl"],
    "encode": ["--passages", "nowhere", "--encoder", "nowhere/at/all"],
    "index": ["--embeddings", "nowhere", "--passages", "nowhere"],
    "retrieve": ["--index", "nowhere", "--questions", "nowhere", "--encoder", "nowhere/at/all"],
    "generate": ["--retrievals", "nowhere", "--model", "nowhere/at/all", "--model_type", "rag_token"],
    "classify": ["--retrievals", "nowhere", "--model", "nowhere/at/all", "--label_set", "yes", "no"],
    "evaluate": ["--predictions", "nowhere", "--references", "nowhere"],
    "compare": ["--before", "nowhere", "--after", "nowhere"],
    "train_retriever": ["--questions", "nowhere", "--encoder", "nowhere/at/all"],
    "train_rag": [
        "--questions",
        "nowhere",
        "--n_docs",
        "0",
        "--model",
        "nowhere/at/all",
        "--model_type",
        "rag_token",
    ],
}


class CookSettings(StageSettings):
    """A stage of this test's own."""

    recipe: str = option("what to cook", path="data")
    guests: int = option("how many eat", 2, ge=1, le=12)
    spice: float = option("how hot, 100% is hell", 0.5)
    courses: list[str] = option("in their order", ["soup"], min_length=1)
    kind: str | None = option("anything", None)
    verbose_menu: bool = option("print the menu", False, changes_result=False)


class PairSettings(Settings):
    """Two options that must fit each other."""

    low: int = option("from", 0)
    high: int = option("to", 1)

    @pydantic.model_validator(mode="after")
    def _check_order(self) -> "PairSettings":
        if self.low > self.high:
            raise ValueError(f"--low {self.low}: is above --high {self.high}")
        return self


def cook(*argv: str) -> tuple[CookSettings, list[str]]:
    parser = CommandParser(prog="cook", allow_abbrev=False)
    add_arguments(parser, CookSettings)
    return parse(parser, CookSettings, ["--output", "out", "--recipe", "r.txt", *argv])


def test_every_stage_of_the_contract_is_a_command():
    assert list(STAGES) == [
        *("chunk", "encode", "index", "retrieve", "generate", "classify", "evaluate"),
        "compare",
        "train_retriever",
        "train_rag",
    ]
    assert set(STAGES) <= set(cli.COMMANDS)
    assert set(STAGES) == set(REQUIRED)


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda settings: settings.__name__)
def test_our_options_are_none_of_beams(settings):
    beams = beam_option_names()
    assert {"runner", "direct_num_workers", "labels", "dry_run", "flink_master", "temp_location"} <= beams
    assert beams.isdisjoint(settings.model_fields)


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda settings: settings.__name__)
def test_names_are_lower_case_with_underscores_and_explained(settings):
    for name, field in settings.model_fields.items():
        assert name == name.lower()
        assert "-" not in name
        assert field.description, f"--{name} has no help"


def test_values_are_typed_and_defaults_stay():
    settings, beam_args = cook(
        "--guests", "5", "--spice", "1e-3", "--courses", "soup", "roast", "--verbose_menu"
    )
    assert settings == CookSettings(
        output="out", recipe="r.txt", guests=5, spice=1e-3, courses=["soup", "roast"], verbose_menu=True
    )
    assert beam_args == []
    assert cook()[0].guests == 2


def test_settings_are_frozen():
    settings, _ = cook()
    with pytest.raises(pydantic.ValidationError):
        settings.guests = 3


def test_beams_options_pass_through_in_either_form():
    argv = ["--runner=FlinkRunner", "--guests", "3", "--flink_master", "host:8081", "--save_main_session"]
    settings, beam_args = cook(*argv)
    assert settings.guests == 3
    assert beam_args == ["--runner=FlinkRunner", "--flink_master", "host:8081", "--save_main_session"]


@pytest.mark.parametrize(
    "argument, nearest",
    [
        ("--guest", "--guests"),
        ("--curses=soup", "--courses"),
        ("--verbose-menu", "--verbose_menu"),
        ("--max-rejects=0.1", "--max_rejects"),
        ("--runer=FlinkRunner", "--runner"),
        ("--direct_num_worker=2", "--direct_num_workers"),
        ("--flink-master=host", "--flink_master"),
    ],
)
def test_an_unknown_option_names_the_nearest_of_ours_and_beams(argument, nearest):
    name = argument.split("=")[0]
    with pytest.raises(UsageError) as refusal:
        cook(argument)
    assert str(refusal.value) == f"{name}: no such option; did you mean {nearest}?"


def test_an_unknown_option_near_nothing_leads_to_help():
    with pytest.raises(UsageError, match="--xyzzy: no such option; see --help"):
        cook("--xyzzy")


def test_options_are_not_abbreviated():
    with pytest.raises(UsageError, match="--gues: no such option; did you mean --guests"):
        cook("--gues", "3")


def test_a_stray_word_is_no_option():
    with pytest.raises(UsageError, match="'stray' is not an option"):
        cook("--guests", "3", "stray")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--guests", "many"], "--guests many: Input should be a valid integer"),
        (["--guests", "0"], "--guests 0: Input should be greater than or equal to 1"),
        (["--guests", "13"], "--guests 13: Input should be less than or equal to 12"),
        (["--spice", "hot"], "--spice hot: Input should be a valid number"),
        (["--max_rejects", "2"], "--max_rejects 2: Input should be less than or equal to 1"),
        (["--progress", "loud"], "--progress loud: Input should be 'auto' or 'none'"),
        (["--guests"], "argument --guests: expected one argument"),
        (["--verbose_menu=yes"], "argument --verbose_menu: ignored explicit argument 'yes'"),
        (["--direct_num_workers=many"], "argument --direct_num_workers: invalid int value: 'many'"),
        (["--direct_running_mode", "loud"], "argument --direct_running_mode: invalid choice: 'loud'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_does_not_fit_is_named_with_what_is_expected(argv, message):
    with pytest.raises(UsageError) as refusal:
        cook(*argv)
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)


def test_a_long_value_is_cut():
    with pytest.raises(UsageError) as refusal:
        cook("--guests", "9" * 1_000 + "x")
    assert len(str(refusal.value)) < 250


def test_a_required_option_is_named():
    with pytest.raises(UsageError, match=r"^--recipe is required$"):
        validated(CookSettings, {"output": "out"})


def test_options_that_do_not_fit_each_other_are_told_as_they_tell_it():
    with pytest.raises(UsageError) as refusal:
        validated(PairSettings, {"low": 3}, where="run.yaml: step a")
    assert str(refusal.value) == "run.yaml: step a: --low 3: is above --high 1"


def test_an_unknown_name_in_a_file_names_the_nearest():
    with pytest.raises(UsageError) as refusal:
        validated(CookSettings, {"output": "o", "recipe": "r", "guets": 2}, where="run.yaml: step cook")
    assert str(refusal.value) == "run.yaml: step cook: --guets: no such option; did you mean --guests?"


@pytest.mark.parametrize("stage", REQUIRED)
def test_a_stages_mistakes_end_with_status_2_and_one_sentence(stage, capsys):
    least = [*REQUIRED[stage], "--output", "out"]
    for argv, told in [
        ([], "is required"),
        ([*least, "--max_rejects", "-1"], "--max_rejects -1: "),
        ([*least, "--progres", "none"], "did you mean --progress?"),
        ([*least, "--direct_num_worker", "2"], "did you mean --direct_num_workers?"),
        ([*least, "--output"], "--output: expected one argument"),
        (least, "nowhere"),
    ]:
        assert cli.main([stage, *argv]) == 2
        message = capsys.readouterr().err
        assert told in message
        assert message.startswith("rag-beam: ")
        assert message.count("\n") == 1


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_shows_what_a_command_reads_and_writes_and_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert f"rag-beam {command}" in shown
    assert "example" in shown
    if command in STAGES:
        assert "reads:   " in shown
        assert "writes:  " in shown
        for name in STAGES[command].settings.model_fields:
            assert f"--{name}" in shown


def test_help_of_all_lists_the_commands(capsys):
    assert cli.main([]) == cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in cli.COMMANDS)


def test_an_unknown_command_names_the_nearest(capsys):
    assert cli.main(["retreive"]) == 2
    assert capsys.readouterr().err == "rag-beam: retreive: no such command; did you mean retrieve?\n"


# what a result never depends on, wherever a stage takes it
NOT_IN_FINGERPRINTS = {
    "output",
    "overwrite",
    "max_rejects",
    "progress",
    "device",
    "num_threads",
    "allow_pickle",
    "memory_bytes",
    "batch_tokens",
    "shard_tiles",
    "shard_cache_dir",
    "shard_cache_bytes",
    "checkpoint_every",
    "profile",
    "append",  # the index that grows and what is added count instead
}


@pytest.mark.parametrize("stage", STAGES)
def test_fingerprints_leave_out_paths_device_threads_progress_and_memory(stage):
    fields = STAGES[stage].settings.model_fields
    counted = {name for name, field in fields.items() if changes_result(field)}
    assert counted.isdisjoint(NOT_IN_FINGERPRINTS)
    assert counted.isdisjoint(name for name, field in fields.items() if path_kind(field))
    others = set(fields) - counted - {name for name, field in fields.items() if path_kind(field)}
    formats = {
        name for name in others if name.endswith("_format")
    }  # what they decide is counted: what was found
    assert others - formats - NOT_IN_FINGERPRINTS == (set() if "allow_pickle" in fields else {"dtype"})


@pytest.mark.parametrize(
    "stage, names",
    [
        ("chunk", {"passage_words", "min_words", "last_passage", "rows_per_part"}),
        ("encode", {"vector_dtype", "max_tokens", "dtype"}),
        ("index", {"factory", "shard_rows"}),
        ("retrieve", {"n_docs", "question_block", "max_tokens", "dtype"}),
        ("generate", {"model_type", "num_beams", "length_penalty", "token_posteriors", "n_docs", "dtype"}),
        ("classify", {"label_set", "n_docs", "dtype"}),
        (
            "train_retriever",
            {"batch_questions", "questions_per_title", "chunk_texts", "score_scale", "precision", "seed"},
        ),
        ("train_rag", {"n_docs", "model_type", "freeze_retriever", "label_smoothing", "abstention", "seed"}),
    ],
)
def test_fingerprints_cover_what_changes_a_value_or_a_units_boundary(stage, names):
    fields = STAGES[stage].settings.model_fields
    assert names <= {name for name, field in fields.items() if changes_result(field)}


def test_result_settings_are_json_values_of_those_options():
    settings, _ = cook("--guests", "3")
    assert settings.result_settings() == {"guests": 3, "spice": 0.5, "courses": ["soup"], "kind": None}
