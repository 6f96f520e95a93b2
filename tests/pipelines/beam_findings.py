"""What Beam finds out anew for each step of a graph, remembered: it is more than half of a small run's time.

A data set's graph has some 45 steps. For each of them Beam looks through every method of the step's DoFn
several times, for state and timers and for its parameters, and parses the pipeline's options seven times; and
for each side input it goes through all modules to weigh it for a cache. What a class's methods take does not
change, nor what the same words mean to the same class of options, so that tests which run hundreds of graphs
in one process can ask once. Runs in processes that Python starts anew do without, as users' do.
"""

import contextlib
import copy
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.worker import statecache
from apache_beam.transforms import core, userstate

Parameters = tuple[list[str], list[Any]]


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Remembers these as long as the block lasts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "get_function_args_defaults", _remembered_parameters())
        patch.setattr(userstate, "get_dofn_specs", _remembered_specs())
        patch.setattr(PipelineOptions, "__init__", _remembered_options())
        patch.setattr(
            PipelineOptions, "_visible_option_list", lambda self: sorted(vars(self._visible_options))
        )
        patch.setattr(statecache, "get_deep_size", lambda *values: len(values))  # far from filling the cache
        yield


def _remembered_parameters() -> Callable[[Any], Parameters]:
    """Beam's `get_function_args_defaults`: names and default values of the parameters that a caller gives."""
    inspected = core.get_function_args_defaults
    known: WeakKeyDictionary[Any, dict[bool, Parameters]] = WeakKeyDictionary()

    def parameters(function: Any) -> Parameters:
        bound = hasattr(function, "__self__")  # the first parameter is not among them
        of_function = known.setdefault(getattr(function, "__func__", function), {})
        if bound not in of_function:
            of_function[bound] = inspected(function)
        names, defaults = of_function[bound]
        return [*names], [*defaults]

    return parameters


def _remembered_specs() -> Callable[[Any], Any]:
    """Beam's `get_dofn_specs`: the state and the timers that the methods of a DoFn's class ask for."""
    inspected = userstate.get_dofn_specs
    known: dict[type, Any] = {}

    def specs(dofn: Any) -> Any:
        if type(dofn) not in known:
            known[type(dofn)] = inspected(dofn)
        return known[type(dofn)]

    return specs


def _remembered_options() -> Callable[..., None]:
    """The constructor of a view on options, which builds a parser and parses all words."""
    construct = PipelineOptions.__init__
    known: dict[tuple[type, tuple[str, ...]], dict[str, Any]] = {}

    def initialise(self: PipelineOptions, flags: Sequence[str] | None = None, **overrides: Any) -> None:
        if flags is None or isinstance(flags, str) or overrides:
            construct(self, flags, **overrides)
            return
        key = (type(self), tuple(flags))
        if key not in known:
            construct(self, flags)
            known[key] = copy.deepcopy(vars(self._visible_options))
            return
        self._flags = flags
        self._all_options = {name: copy.copy(value) for name, value in known[key].items()}  # lists change
        self._visible_options = Namespace(**self._all_options)

    return initialise
