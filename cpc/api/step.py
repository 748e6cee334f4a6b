"""One run of a function, as the function sees it: what it was given, and what it asks for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol

import msgspec

from cpc.api import job as jobs
from cpc.api import values
from cpc.api.job import Finished, Job
from cpc.core.errors import BadInput, CopernicusError
from cpc.dataflow.answer import Answer, StepInput

_INDEX = re.compile(r"\[(\d+)\]")


class Failed(CopernicusError):
    """The function cannot do what it is asked to; the text is what people read at the instance."""


class Named(Protocol):
    """A function that can be instantiated: made by `@function`, `@command` or `@controller`."""

    def called(self, package: str) -> str:
        """What a function of Python package `package` calls it."""


class Step:
    """What a `@controller` gets as its first argument; each of its methods adds to the answer of this run.

    A step begins when inputs have changed. As long as jobs that it submitted have not ended it goes on, and the function runs
    again with those that have, in `finished`; a run after which none is left ends it. All that one run
    asks for takes effect together, or, when it raises, not at all.

    `state`: a dict that the next run finds as this one left it; numbers, texts, lists, dicts. `number`: of the step, from 1.
    `pending`: how many of its jobs have not ended.
    """

    def __init__(
        self, given: StepInput, hints: Mapping[str, Mapping[str, Any]] | None = None, package: str = ""
    ) -> None:
        """`hints`: for `in`, `out`, `sub_in` and `sub_out`, the hints that values are read by. `package`: of the function."""
        hints = hints or {}
        self._given = given
        self._package = package
        reader = values.Reader(given.files)

        def read(tree: Mapping[str, Any] | None, which: str) -> dict[str, Any]:
            known = hints.get(which, {})
            return {name: reader.read(one, known.get(name, Any)) for name, one in (tree or {}).items()}

        self.inputs: Mapping[str, Any] = read(given.inputs, "in")
        self.sub_inputs: Mapping[str, Any] = read(given.sub_inputs, "sub_in")
        self.outputs: Mapping[str, Any] = read(given.outputs, "out")
        self.sub_outputs: Mapping[str, Any] = read(given.sub_outputs, "sub_out")
        self.state: dict[str, Any] = msgspec.msgpack.decode(given.state) if given.state else {}
        self.finished = tuple(Finished(one) for one in given.finished)
        self.pending = given.pending
        self.number = given.number
        self.instances = frozenset(given.instances)
        self._added: list[tuple[str, str]] = []
        self._connections: list[tuple[str, str]] = []
        self._values: list[tuple[str, Any]] = []
        self._out: list[tuple[str, Any]] = []
        self._sub_out: list[tuple[str, Any]] = []
        self._jobs: list[Any] = []
        self._cancel = False
        self._warnings: list[str] = []
        self._log: list[str] = []

    @property
    def fresh(self) -> bool:
        """Whether this is the first run of its step: inputs have changed, and no job of it has ended yet."""
        return not self.finished

    @property
    def directory(self) -> Path:
        """A directory of the instance's own that stays from run to run (`persistent=True`)."""
        return _directory(self._given.persistent_dir, "persistent=True")

    @property
    def output_dir(self) -> Path:
        """An empty directory for the files that this run makes."""
        return _directory(self._given.output_dir, "output_dir=True")

    def updated(self, item: str) -> bool:
        """Whether the input `item` (`conf`, `conf[3].x`), or anything in it, changed since the instance's last step."""
        return any(_touches(path, f"in.{item}") for path in self._given.updated)

    def sub_updated(self, item: str) -> bool:
        """The same for an item of the sub-inputs."""
        return any(_touches(path, f"sub_in.{item}") for path in self._given.updated)

    def updated_indexes(self, item: str) -> tuple[int, ...]:
        """Which elements of the input array `item` changed, in order."""
        begin = f"in.{item}"
        found = (_INDEX.match(path, len(begin)) for path in self._given.updated if path.startswith(begin))
        return tuple(sorted({int(one.group(1)) for one in found if one}))

    def input(self, name: str, default: Any = None) -> Any:
        """An input, or `default` when it is not set."""
        return _or(self.inputs.get(name), default)

    def sub_input(self, name: str, default: Any = None) -> Any:
        """What the instance's own network has returned to it, or `default` when it is not set."""
        return _or(self.sub_inputs.get(name), default)

    def output(self, item: str, value: Any) -> None:
        """Set an output (`fit`, `fits[3]`, `fit.slope`); None unsets it."""
        self._out.append((item, values.wire(value)))

    def sub_output(self, item: str, value: Any) -> None:
        """Set what the instances of the own network can be connected to, as `self:sub_out.item`."""
        self._sub_out.append((item, values.wire(value)))

    def submit(self, job: Job, key: str = "") -> None:
        """Run a job. When it has ended, the function runs again and finds it in `finished`, under its `key`."""
        self._jobs.append(jobs.ask(job, key))

    def cancel_jobs(self) -> None:
        """Cancel the jobs of this step that have not ended; those submitted by this run are not meant."""
        self._cancel = True

    def add(self, name: str, function: str | Named) -> str:
        """A new instance in the own network, of a function of this module or of `module::name`. Gives back `name`."""
        if name in self.instances:
            raise BadInput(f"there is an instance {name} already", "see step.instances")
        self._added.append((name, function if isinstance(function, str) else function.called(self._package)))
        self.instances |= {name}
        return name

    def connect(self, source: str, target: str) -> None:
        """Connect two items of the own network: `a:out.x` or `self:ext_in.n` to `b:in.y` or `self:sub_in.results[+]`."""
        self._connections.append((source, target))

    def set(self, target: str, value: Any) -> None:
        """Set an input of an instance of the own network: `a:in.x`."""
        self._values.append((target, values.wire(value)))

    def warn(self, text: str) -> None:
        """Show a warning at the instance until its next run."""
        self._warnings.append(text)

    def fail(self, text: str) -> NoReturn:
        """Stop here, and the instance with this error; nothing else of this run takes effect."""
        raise Failed(text)

    def log(self, text: str) -> None:
        """Add a line to the instance's log (`cpcc log`)."""
        self._log.append(text)

    def failed(self, error: str) -> Answer:
        """What is left of a run that ended with this error: its log."""
        return Answer(error=error, log=self._lines())

    def answer(self) -> Answer:
        """All that this run asked for."""
        return Answer(
            outputs=tuple(self._out),
            sub_outputs=tuple(self._sub_out),
            instances=tuple(self._added),
            connections=tuple(self._connections),
            values=tuple(self._values),
            jobs=tuple(self._jobs),
            cancel_jobs=self._cancel,
            warning="\n".join(self._warnings),
            log=self._lines(),
            state=self._new_state(),
        )

    def _lines(self) -> str:
        return "".join(f"{line}\n" for line in self._log)

    def _new_state(self) -> bytes | None:
        try:
            state = msgspec.msgpack.encode(self.state) if self.state else b""
        except (TypeError, ValueError, OverflowError) as error:
            raise BadInput(
                f"step.state cannot be kept: {error}", "it holds numbers, texts, lists and dicts; files go to outputs"
            ) from None
        return None if state == self._given.state else state


def _directory(path: str, option: str) -> Path:
    if not path:
        raise BadInput("this function has no such directory", f"ask for it with {option}")
    return Path(os.path.abspath(path))


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _touches(path: str, item: str) -> bool:
    """Whether one of two paths is the other, or lies in it."""
    short, long = sorted((path, item), key=len)
    return long.startswith(short) and (len(long) == len(short) or long[len(short)] in ".[")
