"""Whether the code that modules in XML name is there and can be run: asked when they are imported or uploaded, not at a run.

Modules in Python are read by importing them, which is check enough; those in XML only name their code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from cpc.core.errors import BadInput
from cpc.core.journal import Journal
from cpc.dataflow.code import Code, code
from cpc.dataflow.description import FunctionKind, ModuleText
from cpc.dataflow.library import LOCAL, Library, nothing

#: Kinds that an XML file names code for.
_NAMED = (FunctionKind.PYTHON, FunctionKind.PYTHON_EXTENDED, FunctionKind.EXTERNAL)
_LONGEST = 1000  # characters of what is said of one


class Checker(Protocol):
    """The part of the controllers' pool that is needed: tries code in a process of its own."""

    def check(self, codes: Sequence[Code]) -> Awaitable[tuple[tuple[str, str], ...]]: ...


async def refuse(checker: Checker, texts: Sequence[ModuleText]) -> None:
    """BadInput, in one line, when code that the modules name is not there or cannot be run.

    `texts`: modules, each behind those that it imports, and uploads. What the resolver refuses is refused here, too.
    """
    named = codes(texts)
    if not named:
        return
    problems = await checker.check(tuple(named))
    if not problems:
        return
    function, problem = problems[0]
    module = function.rpartition("::")[0]
    source = next((text.source for text in texts if text.name == module and text.source), "") or "the upload"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    words = problem.strip().partition("\n")[0][:_LONGEST]
    raise BadInput(
        f"{source}, function {function.rpartition('::')[2]}: {words}{more}",
        "nothing was imported; put its code in place first",
    )


def codes(texts: Sequence[ModuleText]) -> list[Code]:
    """What is to be tried of these modules and uploads."""
    modules = {text.name: text for text in texts if text.name != LOCAL}
    library = Library(lambda name: modules[name] if name in modules else nothing(name))
    found: list[Code] = []
    for text in texts:
        wanted = [one for one in text.functions if one.kind in _NAMED and one.controller is not None]
        if text.name == LOCAL:
            # Without types: an upload may use those of the project. Only programs want them, which no upload can bring.
            found += [Code(one.id, one.kind, one.controller) for one in wanted if one.controller is not None]
            continue
        library.need(text.name, Journal())
        found += [code(library.function(f"{text.name}::{one.id}")) for one in wanted]
    return found
