"""Kills runs at random moments, runs them again until they are complete, and compares with undisturbed ones.

    python -m tests.faults.killing --kills 100 --seed 1

What a round does depends on the seed, its number, and how quick the machine is. Rounds that are done are kept
in --folder: the same command goes on after them. Exits with 1 where anything was not as it must be.
"""

import argparse
import json
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.faults.kill_checks import Witness, differences
from tests.faults.kill_moments import Blow, Undisturbed, draw
from tests.faults.kill_rounds import Round, report
from tests.faults.kill_world import FILES, beside_the_run, make_world, stages
from tests.faults.killed_child import Child, Ending, call
from tests.pipelines.commands import words_of

WHOLE_RUN = "run"
TOLD = {
    signal.SIGINT: "rag-beam: interrupted; what is whole is kept, the same command goes on from there",
    signal.SIGTERM: "rag-beam: terminated; what is whole is kept, the same command goes on from there",
}
_SIGNALS = [*[int(signal.SIGKILL)] * 4, int(signal.SIGINT), int(signal.SIGTERM)]
_MOST_BLOWS = 3
_AT_ONCE = 2  # steps that are measured together


class Bench:
    """A world, what undisturbed runs make of it, and runs on the same paths that are struck.

    Attributes:
      outputs: where runs write, a folder for each step.
      steps: each step's stage and options.
      subjects: what can be struck: each step, and all stages in one run.
      undisturbed: what each subject does when nothing happens to it.
    """

    def __init__(self, folder: Path, files: int = FILES):
        """Prepares, or finds prepared, a world of so many files and one undisturbed run of each step."""
        self.outputs, self._reference, self._desk = folder / "out", folder / "undisturbed", folder / "desk"
        self._folder, self._run_file = folder, folder / "run.yaml"
        # a step by itself reads what undisturbed ones have made, so that several can be struck together
        run = stages(folder / "world", self._reference)
        self.steps: dict[str, dict[str, Any]] = run | beside_the_run(folder / "world", self._reference, files)
        self._in_run = list(run)
        if not (folder / "measured.json").exists():
            self._measure(files)
        measured = json.loads((folder / "measured.json").read_text())
        self.undisturbed = {name: Undisturbed(**item) for name, item in measured["undisturbed"].items()}
        self._records: dict[str, int] = measured["records"]
        self._said: list[str] = measured["said"]

    @property
    def subjects(self) -> list[str]:
        return [*self.undisturbed]

    def command(self, subject: str) -> list[str]:
        """The command line of a subject, after `rag-beam`."""
        if subject == WHOLE_RUN:
            return ["run", str(self._run_file)]
        options = self.steps[subject] | {
            "output": str(self.outputs / subject),
            "num_threads": 1,
            "progress": "none",
        }
        return [options.pop("stage"), *words_of(options)]

    def start(self, subject: str, blow: Blow | None = None, desk: str = "") -> Child:
        """Starts its command; of the same subject, those that are at work together need a desk each."""
        return Child(self.command(subject), self.outputs, self._desk / (desk or subject), blow)

    def clear(self, subject: str) -> None:
        """Removes what the subject makes."""
        for name in self._made_by(subject):
            shutil.rmtree(self.outputs / name, ignore_errors=True)

    def finish(self, subject: str, witness: Witness) -> list[str]:
        """Runs the subject to its end; returns all problems, and keeps a copy of what has some."""
        ending = self.start(subject).ending()
        witness.saw(ending)
        problems = list(witness.problems)
        if ending.status != 0:
            problems.append(f"the rerun ended with status {ending.status}: {ending.err[-2000:]}")
        problems += self.differences(subject)
        if problems:
            shutil.copytree(
                self.outputs, self._folder / f"problem-{len(list(self._folder.glob('problem-*')))}"
            )
            for name in self._made_by(subject):
                shutil.rmtree(self.outputs / name, ignore_errors=True)
                shutil.copytree(self._reference / name, self.outputs / name)
        return problems

    def differences(self, subject: str) -> list[str]:
        """What differs between that which a subject has made and that of an undisturbed run."""
        return [
            f"{name}/{difference}"
            for name in self._made_by(subject)
            for difference in differences(self.outputs / name, self._reference / name)
        ]

    def strike(self, number: int, subject: str, blows: Iterator[Blow]) -> Round:
        """Runs the subject under one blow after the other until it is complete."""
        done = Round(number, subject)
        witness = self._fresh(subject)
        for blow in blows:
            ending = self.start(subject, blow=blow).ending()
            at_work = self._step_at_work(subject)
            whole = witness.saw(ending)
            if ending.status == 0:
                done.late += 1
                if done.blows:
                    break
                # the machine is quicker now than when it was measured
                self.undisturbed[subject] = replace(self.undisturbed[subject], seconds=ending.seconds)
                witness = self._fresh(subject)
                continue
            done.problems += self._wrong_ending(blow, ending, witness)
            done.blows.append(f"{blow} in {at_work}, {whole} whole")
            done.whole += whole
            if blow.signum == signal.SIGKILL:
                done.kills[at_work] = done.kills.get(at_work, 0) + 1
        done.problems += self.finish(subject, witness)
        again = witness.again()
        done.begun, done.again = witness.begun.total(), len(again)
        done.records = sum(self._records.get(name, 0) for name in again)
        return done

    def _fresh(self, subject: str) -> Witness:
        """Clears the subject's folders; who follows what becomes of them."""
        self.clear(subject)
        return Witness(self.outputs, self._made_by(subject))

    def _wrong_ending(self, blow: Blow, ending: Ending, witness: Witness) -> list[str]:
        """What is wrong with the end of a run that was struck and not complete."""
        wanted = -blow.signum if blow.signum == signal.SIGKILL else 128 + blow.signum
        if ending.status != wanted:
            return [f"{blow}: status {ending.status}, expected {wanted}: {ending.err[-2000:]}"]
        if blow.signum == signal.SIGKILL:
            return []
        said = ending.err.replace(str(self.outputs), str(self._reference))
        *before, last = said.splitlines() or [""]
        wrong = [f"{blow}: stderr has {line!r}" for line in before if line not in self._said]
        if last != TOLD[signal.Signals(blow.signum)]:
            wrong.append(f"{blow}: the last line on stderr is {last!r}")
        return wrong + [f"{blow}: {lock} is left behind" for lock in witness.locks_of(ending.pid)]

    def _made_by(self, subject: str) -> list[str]:
        return self._in_run if subject == WHOLE_RUN else [subject]

    def _step_at_work(self, subject: str) -> str:
        """The step that a run was at: the first one that is not complete, else the last."""
        made = self._made_by(subject)
        return next((name for name in made if not (self.outputs / name / "manifest.json").exists()), made[-1])

    def _in_order(self) -> Iterator[list[str]]:
        """Steps that can run together, those that they read from before them."""
        left = {
            name: {other for other in self.steps if str(self._reference / other) in options.values()}
            for name, options in self.steps.items()
        }
        while left:
            ready = [name for name, needed in left.items() if not needed & left.keys()]
            yield ready
            for name in ready:
                del left[name]

    def _measure(self, files: int) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        call(make_world, str(self._folder / "world"), files)
        common = {"num_threads": 1, "progress": "none"}
        steps = stages(self._folder / "world", self.outputs)
        content = {"output": str(self.outputs), "options": common, "steps": steps}
        self._run_file.write_text(yaml.safe_dump(content, sort_keys=False))
        undisturbed: dict[str, Undisturbed] = {}
        records: dict[str, int] = {}
        said: set[str] = set()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for names in self._in_order():
                endings = pool.map(lambda name: self.start(name).ending(), names)
                for name, ending in zip(names, endings, strict=True):
                    assert ending.status == 0, f"{name} ended with status {ending.status}: {ending.err}"
                    records |= dict(ending.noted("computed"))
                    said.update(ending.err.splitlines())
                    [moments] = ending.noted("moments")
                    undisturbed[name] = Undisturbed(ending.seconds, moments)
                    shutil.copytree(self.outputs / name, self._reference / name)
        undisturbed[WHOLE_RUN] = Undisturbed(
            sum(undisturbed[name].seconds for name in steps),
            {moment: count for name in steps for moment, count in undisturbed[name].moments.items()},
        )
        measured = {
            "undisturbed": {name: asdict(item) for name, item in undisturbed.items()},
            "records": records,
            "said": sorted(said),
        }
        (self._folder / "measured.json").write_text(json.dumps(measured, indent=1))


def play(bench: Bench, seed: int, number: int, subject: str, signals: list[int]) -> Round:
    """A round whose blows are drawn from the seed and its number."""
    random = Random(f"{seed} {number}")
    count = random.randint(1, _MOST_BLOWS)
    blows = (draw(random, bench.undisturbed[subject], signals) for _ in range(count))
    return bench.strike(number, subject, blows)


def main() -> int:
    """Plays rounds until there are enough kills; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="runs to end by SIGKILL (default 100)")
    parser.add_argument("--seed", type=int, default=1, help="of all that is random (default 1)")
    parser.add_argument(
        "--folder", type=Path, default=Path("out/killing"), help="for world, runs and rounds done"
    )
    options = parser.parse_args()
    folder = options.folder.resolve()
    print(f"seed {options.seed}; world, runs and rounds in {folder}", flush=True)
    bench = Bench(folder)
    for name, undisturbed in bench.undisturbed.items():
        print(f"{name}: {undisturbed.seconds:.2f} s undisturbed, moments {undisturbed.moments}", flush=True)
    # the whole run is struck as often as two steps: it has more moments than any
    subjects = [*bench.subjects, WHOLE_RUN]
    path = folder / f"rounds-{options.seed}.jsonl"
    rounds = [Round(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
    while sum(sum(item.kills.values()) for item in rounds) < options.kills:
        rounds.append(play(bench, options.seed, len(rounds), subjects[len(rounds) % len(subjects)], _SIGNALS))
        with path.open("a") as file:
            file.write(json.dumps(asdict(rounds[-1])) + "\n")
        print(rounds[-1], flush=True)
    print(report(rounds))
    return int(any(item.problems for item in rounds))


if __name__ == "__main__":
    raise SystemExit(main())
