"""Functions, resolved: what an instance takes, gives and is run by."""

from __future__ import annotations

from dataclasses import dataclass, field

from cpc.dataflow.description import CommandText, ControllerText, FunctionKind, NetworkText
from cpc.dataflow.types import Type, record

#: Kinds whose instances may be part of a loop of connections: their code decides whether it goes round again.
DECIDING = frozenset((FunctionKind.PYTHON_EXTENDED, FunctionKind.CONTROLLER, FunctionKind.EXTERNAL))
#: Kinds that never have steps.
STEPLESS = frozenset((FunctionKind.NETWORK, FunctionKind.INLINE))


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function. `types`: the records of its four trees, by `Tree`. `module` and `version` say where it comes from."""

    name: str
    kind: FunctionKind
    types: tuple[Type, Type, Type, Type]
    controller: ControllerText | None = None
    network: NetworkText | None = None
    command: CommandText | None = None
    desc: str = ""
    eager: bool = False
    broadcast: tuple[str, ...] = ()
    module: str = ""
    version: str = ""
    directory: str = ""
    constants: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", any(each.const for each in self.types[0].fields))

    @property
    def stepless(self) -> bool:
        """Whether its instances never have steps: fixed networks, and arithmetic that is done at once."""
        return self.kind in STEPLESS

    @property
    def decides(self) -> bool:
        """Whether loops through its instances are allowed."""
        return self.kind in DECIDING

    @property
    def cancels(self) -> bool:
        """Whether a changed input ends the step under way."""
        return self.controller is not None and self.controller.cancel_on_change


_NOTHING = record("", ())
#: What the project's top network belongs to.
PROJECT = Function("", FunctionKind.NETWORK, (_NOTHING, _NOTHING, _NOTHING, _NOTHING))
