"""One run of a decorated function: a step's inputs in, an answer out, whatever the function does."""

from __future__ import annotations

import traceback
from typing import Any

from cpc.api.functions import Function
from cpc.api.step import Step
from cpc.core.errors import CopernicusError
from cpc.dataflow.answer import Answer, StepInput


def run(function: Function[..., Any], given: StepInput) -> Answer:
    """The answer of one run. What the function raises becomes the answer's error: text of a refusal, else the traceback."""
    step: Step | None = None
    try:
        step = Step(given, function.hints(), function.__module__)
        function.carry_out(step)
        return step.answer()
    except Exception as error:
        said = explain(error)
        return Answer(error=said) if step is None else step.failed(said)


def explain(error: BaseException) -> str:
    """What went wrong, for people: a refusal in its own words, anything else with the way that led there."""
    if isinstance(error, CopernicusError):
        return str(error) or type(error).__name__
    lines = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in lines.stack if not frame.filename.endswith(_OWN)]
    lines.stack = traceback.StackSummary.from_list(frames or list(lines.stack))
    return f"{type(error).__name__}: {error}\n\n{''.join(lines.format()).rstrip()}"


_OWN = ("cpc/api/running.py", "cpc/api/functions.py", "cpc/api/commands.py", "cpc/api/controllers.py")
