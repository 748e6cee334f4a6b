"""`@controller`: a function that reacts to its inputs and to finished jobs, and builds a network of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeAlias, TypeVar, Unpack

from cpc.api.functions import Function, Members, OptionArguments, Options, Shape, members_of, parameters
from cpc.api.step import Step

P = ParamSpec("P")
R = TypeVar("R")
Body: TypeAlias = Callable[Concatenate[Step, P], None]


class ControllerFunction(Function[Concatenate[Step, P], None]):
    """A function of a step; see `controller`."""

    def __init__(self, body: Body[P], options: Options, trees: tuple[Members, Members, Members]) -> None:
        super().__init__(body, options)
        self._others = trees

    def inputs(self) -> Members:
        """The parameters after the step."""
        return parameters(self.body, skip=1)

    def outputs(self) -> Members:
        """As the decorator says."""
        return self._others[0]

    def sub_inputs(self) -> Members:
        """As the decorator says."""
        return self._others[1]

    def sub_outputs(self) -> Members:
        """As the decorator says."""
        return self._others[2]

    def writes_files(self) -> bool:
        """Always: it may write inputs of jobs."""
        return True

    def carry_out(self, step: Step) -> None:
        """Call it with the step and its inputs."""
        self.call(step, **self.arguments(step))


def controller(
    *,
    outputs: Shape | None = None,
    sub_inputs: Shape | None = None,
    sub_outputs: Shape | None = None,
    **options: Unpack[OptionArguments],
) -> Callable[[Body[P]], ControllerFunction[P]]:
    """A function that runs when inputs have changed, and again whenever jobs that it submitted have ended.

    It gets a `Step`, and its inputs as keyword arguments. What it asks for (outputs, jobs, instances, connections) takes effect
    together when it returns. `outputs`, `sub_inputs` (what its own network returns to it) and `sub_outputs` (what
    that network can be connected to) are a dataclass, or names with types. The other options are those of `Options`.

        @controller(outputs={"mean": float})
        def adaptive(step: Step, *, error: float) -> None:
            samples = step.state.setdefault("samples", [])
            samples += [float(job.text()) for job in step.finished]
            if len(samples) < 4 or stderr(samples) > error:
                step.submit(Job([str(len(samples))], executable="mylab/sample"))
            else:
                step.output("mean", sum(samples) / len(samples))
    """
    trees = (members_of(outputs), members_of(sub_inputs), members_of(sub_outputs))
    return lambda body: ControllerFunction(body, Options(**options), trees)
