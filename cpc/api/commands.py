"""`@command`: a function whose step is one job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeAlias

from cpc.api.file import File
from cpc.api.functions import Function, Members, Options, Shape, members_of, named
from cpc.api.job import Finished, Job
from cpc.api.step import Failed, Step
from cpc.api.values import Member
from cpc.core.errors import BadInput

P = ParamSpec("P")
Collect: TypeAlias = Callable[[Finished], Any]
_READ: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float}


@dataclass(frozen=True, slots=True)
class Result:
    """An output that the job leaves as a file at `path`; with another `type` (str, int, float), what the file says.

    `optional`: the output stays unset when the job leaves no such file.
    """

    path: str
    type: Any = File
    optional: bool = False

    def take(self, job: Finished) -> Any:
        """The output; Failed when it is not there, or cannot be read."""
        if not job.has(self.path):
            if self.optional:
                return None
            raise Failed(f"job {job.job} left no file {self.path}\n{job.tail.rstrip()}".rstrip())
        if self.type is File:
            return job.file(self.path)
        try:
            return _READ[self.type](job.text(self.path).strip() if self.type is not str else job.text(self.path))
        except ValueError as error:
            raise Failed(f"job {job.job}: file {self.path}: {error}") from None


class CommandFunction(Function[P, Job]):
    """One job; see `command`."""

    def __init__(
        self, body: Callable[P, Job], options: Options, defaults: Job, results: Mapping[str, Result], others: Members
    ) -> None:
        super().__init__(body, options)
        self.defaults = defaults
        self.results = results
        self.others = others
        self._collect: Collect | None = None

    def outputs(self) -> Members:
        """Those taken from files, and those that `collect` gives."""
        taken = {name: Member(one.type | None if one.optional else one.type) for name, one in self.results.items()}
        if self.others and self._collect is None:
            raise BadInput(f"output {next(iter(self.others))} comes from nowhere", "give its path, or write a collect")
        return {**taken, **self.others}

    def writes_files(self) -> bool:
        """Always: the job's input files may be written there."""
        return True

    def collect(self, body: Collect) -> Collect:
        """Decorates the Python function that makes outputs of the finished job: a dict, or a record with their names."""
        self._collect = body
        return body

    def job(self, *args: P.args, **kwargs: P.kwargs) -> Job:
        """The job for these inputs, complete with the decorator's defaults."""
        return self._complete(self.body(*args, **kwargs))

    def carry_out(self, step: Step) -> None:
        """Submit the job, or take the outputs of the one that has ended."""
        if step.fresh:
            step.submit(self._complete(self.call(**self.arguments(step))))
            return
        job = step.finished[-1]
        if not job.succeeded:
            raise Failed(job.failure())
        for name, value in self.results_of(job).items():
            step.output(name, value)

    def _complete(self, job: Any) -> Job:
        if not isinstance(job, Job):
            raise BadInput(f"{self.name} returned a {type(job).__name__}", "a @command returns a Job")
        return job.over(self.defaults)

    def results_of(self, job: Finished) -> dict[str, Any]:
        """The outputs that a finished job makes."""
        found = {name: one.take(job) for name, one in self.results.items()}
        return found if self._collect is None else {**found, **named(self.outputs(), self._collect(job))}


def command(
    *,
    executable: str | None = None,
    outputs: Shape | None = None,
    cores: int | None = None,
    max_cores: int | None = None,
    gpus: int | None = None,
    memory: int | str | None = None,
    walltime: float | str | None = None,
    versions: str | None = None,
    labels: Sequence[str] | None = None,
    checkpoint: Sequence[str] | None = None,
    eager: bool = False,
    broadcast: Sequence[str] = (),
    cancel_on_change: bool = False,
) -> Callable[[Callable[P, Job]], CommandFunction[P]]:
    """A function that is one job: it returns the `Job`, and the outputs are taken from what the job leaves.

    `outputs` maps names to paths of the job's files, to `Result`s, or to types; those with a type alone, or all of a
    dataclass, are made by a function decorated with `collect`. What the job itself does not say is as said here.

        @command(executable="gromacs/gmx", outputs={"xvg": "energy.xvg", "average": float})
        def energy(edr: File, item: str) -> Job:
            return Job(["energy", "-f", "run.edr"], files={"run.edr": edr, "choice": item.encode()}, stdin="choice")

        @energy.collect
        def read(job: Finished) -> dict[str, float]:
            return {"average": average(job.text("stdout"))}
    """
    defaults = Job(
        executable=executable,
        cores=cores,
        max_cores=max_cores,
        gpus=gpus,
        memory=memory,
        walltime=walltime,
        versions=versions,
        labels=labels,
        checkpoint=checkpoint,
    )
    options = Options(eager=eager, broadcast=broadcast, cancel_on_change=cancel_on_change)
    results, others = _split(outputs)
    return lambda body: CommandFunction(body, options, defaults, results, others)


def _split(outputs: Shape | None) -> tuple[dict[str, Result], Members]:
    """The outputs that are taken from files, and the others."""
    if not isinstance(outputs, Mapping):
        return {}, members_of(outputs)
    results = {
        name: Result(one) if isinstance(one, str) else one
        for name, one in outputs.items()
        if isinstance(one, str | Result)
    }
    return results, members_of({name: one for name, one in outputs.items() if name not in results})
