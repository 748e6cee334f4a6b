"""One run of tests or seeds in processes of its own, with a defect or without one, and what came of it."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.defects.defect import Defect
from tests.defects.patching import ROOT, VARIABLE

SITE = Path(__file__).resolve().parent / "site"
_PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "--tb=short", "-p", "no:cacheprovider")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+?)(?: - (.*))?$", re.MULTILINE)
_CRASHED = re.compile(r"\b(?:NameError|UnboundLocalError|SyntaxError|IndentationError|ImportError): .*")
_BROKEN = re.compile(r"^(seed \d+): (.*)$", re.MULTILINE)
_running: set[int] = set()  # process groups
FAILED = 1  # the exit code of pytest when a test has failed, and ours for a broken world; others mean that nothing was tested


@dataclass(frozen=True, slots=True)
class Outcome:
    """`caught`: something failed as it should. `by`: what; else why not. Seconds."""

    caught: bool
    by: str
    seconds: float
    output: str = ""


def commands(tests: Sequence[str], seeds: Sequence[range]) -> list[tuple[str, ...]]:
    """What is run for such a selection, one after the other."""
    found: list[tuple[str, ...]] = []
    if tests:
        found.append((*_PYTEST, *tests))
    if seeds:
        ranges = [f"{each.start}-{each.stop - 1}" for each in seeds]
        found.append((sys.executable, "-m", "tests.defects.seeds", *ranges))
    return found


def with_defect(defect: Defect, patience: float) -> Outcome:
    """Whether it is caught, within `seconds` times `patience`."""
    began = time.monotonic()
    until = began + defect.seconds * patience
    output = ""
    for command in commands(defect.tests, defect.seeds):
        code, output = _run(command, defect.name, until - time.monotonic())
        if code == FAILED:
            crashed = _CRASHED.search(
                output
            )  # a change that cannot even run is noticed by anything, and proves nothing
            words = f"does not run: {crashed[0]}" if crashed else _words(output)
            return Outcome(not crashed, words, time.monotonic() - began, output)
        if code is None:
            return Outcome(
                False, f"not caught within {defect.seconds * patience:.0f} s", time.monotonic() - began, output
            )
        if code:
            return Outcome(False, f"could not be run (exit code {code})", time.monotonic() - began, output)
    how = "skipped" if " skipped" in output and " passed" not in output else "NOT CAUGHT"
    return Outcome(False, f"{how} by {', '.join(defect.caught_by)}", time.monotonic() - began, output)


def without(command: Sequence[str], within: float) -> Outcome:
    """The same selection without a defect: `caught` means that it fails there too, and so proves nothing."""
    began = time.monotonic()
    code, output = _run(command, "", within)
    words = _words(output) if code == FAILED else "" if code == 0 else f"exit code {code}"
    return Outcome(code != 0, words, time.monotonic() - began, output)


def environment(name: str) -> dict[str, str]:
    """With it, every Python that is started has the defect of this name; "" for none."""
    # Where a skip is a failure, a test that did not look would count as one that has noticed.
    left_out = (VARIABLE, "CPC_TEST_NO_SKIPS")
    kept = {key: value for key, value in os.environ.items() if key not in left_out and not key.startswith("PYTEST_")}
    kept |= {"PYTHONPATH": os.pathsep.join((str(SITE), str(ROOT))), "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | ({VARIABLE: name} if name else {})


def _run(command: Sequence[str], name: str, within: float) -> tuple[int | None, str]:
    """(exit code, output); None when it took too long, and all it had started was ended."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(name), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
    )  # fmt: skip
    _running.add(process.pid)
    try:
        output, _ = process.communicate(timeout=max(1.0, within))
        return process.returncode, output
    except subprocess.TimeoutExpired:
        return None, _end(process)
    finally:
        _running.discard(process.pid)


def end_all() -> None:
    """Whoever ends the runner ends what it has started."""
    for group in tuple(_running):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGTERM)


def _end(process: subprocess.Popen[str]) -> str:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        return process.communicate(timeout=10)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0]


def _words(output: str) -> str:
    """The first thing that failed."""
    seed = _BROKEN.search(output)
    if seed:
        return f"{seed[1]}: {seed[2]}"
    found = _FAILED.search(output)
    return found[1].replace("tests/", "") if found else "an exit code without words"
