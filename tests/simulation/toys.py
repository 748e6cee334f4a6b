"""The module of the simulated projects: one function of each kind. How they must end follows from their inputs alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cpc.api import File, Finished, Job, Step, command, controller, function

MUCH = b"what a controller gives its jobs " * 3000  # more than travels inside a message


def job(x: float) -> Job:
    """A program that writes 2 x, and fails when x is negative; see `programs`."""
    kind = "value" if x >= 0 else "bad"
    seconds = f"{x * 13 % 30:.1f}"
    return Job(["run", kind, seconds, repr(x)], files={"in": MUCH}, max_losses=1000, max_failures=1)


@function
def negative(a: float) -> float:
    if a < 0:
        raise ValueError("A was negative!")
    return -a


@function
def write(a: float) -> File:
    Path("said").write_text(f"{a!r}\n" * 30_000)
    return File("said")


@function
def read(f: File) -> float:
    return float(f.read_text().splitlines()[-1])


@command(outputs={"value": float})
def twice(x: float) -> Job:
    """One simulation."""
    return job(x)


@twice.collect
def told(done: Finished) -> dict[str, float]:
    return {"value": float(done.text("out"))}


@controller(outputs={"total": float, "runs": int}, sub_inputs={"values": list[float | None]}, persistent=True)
def grow(step: Step, *, n: int) -> None:
    """A network of `n` simulations, added two at a time; it never gets smaller."""
    _count(step)
    values = [one for one in step.sub_input("values", []) if one is not None]
    started = len(step.instances)
    for number in range(started, min(n, started + 2)):
        name = step.add(f"s{number}", twice)
        step.set(f"{name}:in.x", float(number))
        step.connect(f"{name}:out.value", f"self:sub_in.values[{number}]")
    if len(values) == started:
        step.output("total", sum(values))


@controller(outputs={"ys": list[float | None], "runs": int}, persistent=True)
def ask(step: Step, *, xs: list[float]) -> None:
    """A job for each element that has changed."""
    _ask(step, xs)


@controller(outputs={"ys": list[float | None], "runs": int}, persistent=True, cancel_on_change=True)
def ask_anew(step: Step, *, xs: list[float]) -> None:
    """The same, and what is under way is of no use when an element changes."""
    _ask(step, xs)


def _ask(step: Step, xs: Iterable[float]) -> None:
    _count(step)
    known = step.state.setdefault("known", {})
    if step.fresh:
        for number, x in enumerate(xs):
            if known.get(str(number)) != x:
                step.submit(job(x), f"{number} {x!r}")
    for done in step.finished:
        number, x = done.key.split()
        if not done.succeeded:
            step.fail(done.failure())
        known[number] = float(x)
        step.output(f"ys[{number}]", float(done.text("out")))


def _count(step: Step) -> None:
    """Each run whose answer is taken, once: in the state and in the persistent directory alike."""
    runs = step.state.get("runs", 0)
    lines = step.directory / "runs"
    found = len(lines.read_text().splitlines()) if lines.exists() else 0
    if found != runs:
        raise AssertionError(f"BOOKS: the directory is of run {found}, the state of run {runs}")
    with lines.open("a") as file:
        file.write(f"run {runs + 1}\n")
    step.state["runs"] = runs + 1
    step.output("runs", runs + 1)
