"""`_test::extended_err`, written against the original's API."""

from __future__ import annotations

from typing import Any


def extended_err(inp: Any) -> Any:
    """a + b; an error if a is negative, a warning if b is."""
    from cpc.dataflow import FloatValue  # type: ignore[attr-defined]  # put there in controller processes only

    out = inp.getFunctionOutput()
    if inp.testing():
        return out
    a, b = inp.getInput("a"), inp.getInput("b")
    if a < 0:
        out.setError("A was negative!")
    if b < 0:
        out.setWarning("B was negative!")
    out.setOut("a", FloatValue(a + b))
    return out
