"""What can be changed in a project, one by one: the members of a transaction. Written into the project's record as they are.

Paths are texts in the grammar of `cpc.dataflow.paths`, from the project's top. A list of edits is carried out whole or not
at all.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec


class _Edit(msgspec.Struct, frozen=True, tag_field="edit", forbid_unknown_fields=True):
    pass


class Import(_Edit, frozen=True, tag="import"):
    """Make a module's functions and types known to the project."""

    module: str


class Define(_Edit, frozen=True, tag="define"):
    """An uploaded definition (XML): types and functions of the project's own, and a network that is merged into the top."""

    text: str


class AddInstance(_Edit, frozen=True, tag="instance"):
    """A new instance at `path` of `function` (`module::name`), held."""

    path: str
    function: str


class RemoveInstance(_Edit, frozen=True, tag="remove"):
    """The instance, all within it and all connections to it are gone; its jobs are cancelled."""

    path: str


class Connect(_Edit, frozen=True, tag="connect"):
    """`target` follows `source` from now on."""

    source: str
    target: str


class Disconnect(_Edit, frozen=True, tag="disconnect"):
    """What was connected to `target` is not any more; `target` is unset."""

    target: str


class SetValue(_Edit, frozen=True, tag="set"):
    """`value` in the wire form of `cpc.core.plain`. An array that is set whole becomes as long as the value."""

    item: str
    value: Any


class SetLiteral(_Edit, frozen=True, tag="literal"):
    """As `cpcc set`: the text is read as the item's type has it."""

    item: str
    text: str


class Unset(_Edit, frozen=True, tag="unset"):
    """The item has no value any more; unset elements at the end of an array are cut off."""

    item: str


class Activate(_Edit, frozen=True, tag="activate"):
    """What is held at `path` and within it may run. Empty: the whole project."""

    path: str = ""


class Deactivate(_Edit, frozen=True, tag="deactivate"):
    """Hold `path` and all within it; jobs that wait are parked, running ones go on."""

    path: str = ""


class ClearError(_Edit, frozen=True, tag="clear-error"):
    """Clear the errors at `path` and within it, and run again."""

    path: str = ""


class Rerun(_Edit, frozen=True, tag="rerun"):
    """Run the instance again, whether its inputs have changed or not."""

    path: str


Edit: TypeAlias = (
    Import | Define | AddInstance | RemoveInstance | Connect | Disconnect | SetValue | SetLiteral | Unset | Activate
    | Deactivate | ClearError | Rerun
)  # fmt: skip
