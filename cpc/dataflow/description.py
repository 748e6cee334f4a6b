"""Modules as they are written down: by original XML, by Python functions with type hints, by an upload.

Everything refers to everything by name; `cpc.dataflow.library` resolves them. These structures cross processes and lie in
the database.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class FunctionKind(StrEnum):
    """How a function's steps are carried out."""

    INLINE = "inline"  # arithmetic that ships with the server, run by the engine itself (`cpc.dataflow.arithmetic`)
    PYTHON = "python"  # a Python function of plain values
    PYTHON_EXTENDED = "python-extended"  # a Python function of the original's controller objects
    CONTROLLER = (
        "controller"  # a Python function of `cpc.api.Step`; `@function`, `@command` and `@controller` of cpc.api
    )
    EXTERNAL = "external"  # a program: XML in, XML out
    NETWORK = "network"  # a fixed network of other functions
    COMMAND = "command"  # one job, described by its template; no controller


class FieldText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member of a record or of a function's inputs or outputs. `type` as written: bare in its own module, or full.

    `default` is in the wire form of `cpc.core.plain`; with one, the field is `opt`, and unset means the default.
    """

    id: str
    type: str
    opt: bool = False
    const: bool = False
    complete: bool = False
    desc: str = ""
    fields: tuple[FieldText, ...] = ()  # of an anonymous record
    member: str = ""  # of an anonymous array or dict
    default: Any = None


class TypeText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A type. `base` is its parent; `member` the type of an array's or dict's elements."""

    id: str
    base: str
    member: str = ""
    fields: tuple[FieldText, ...] = ()
    extension: str = ""
    mime_type: str = ""
    desc: str = ""


class InstanceText(msgspec.Struct, frozen=True):
    """An instance in a fixed network."""

    id: str
    function: str


class ConnectionText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A connection in a fixed network; with `source` empty, `value` (a literal of `type`) is what the target begins with."""

    source: str
    target: str
    value: str = ""
    type: str = ""


class NetworkText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fixed network."""

    instances: tuple[InstanceText, ...] = ()
    connections: tuple[ConnectionText, ...] = ()


class ControllerText(msgspec.Struct, frozen=True, omit_defaults=True):
    """What runs a function's steps.

    `module` and `function` name Python code (`mylab.fit`, `run`), `executable` a program beside the module's file. The flags are
    the original's. `cancel_on_change`: a changed input ends the step under way and its jobs. `time` (s) and `memory`
    (bytes) limit one run; 0: the server's.
    """

    module: str = ""
    function: str = ""
    executable: str = ""
    persistent_dir: bool = False
    output_dir: bool = False
    log: bool = False
    access_outputs: bool = False
    access_subnet_outputs: bool = False
    cancel_on_change: bool = False
    time: float = 0.0
    memory: int = 0


class CommandText(msgspec.Struct, frozen=True, omit_defaults=True):
    """The one job of a `command` function: its spec's fields with `{input}` in the texts, files by name, outputs by path.

    `spec` has the fields of `cpc.core.spec.JobSpec` in builtins (`executable`, `argv`, `need`, `walltime`, …); `{name}` in its
    texts is the input's value. `files`: (path in the run directory, file input). `outputs`: (output, path); an output that
    is no file is read from the text that the job wrote there. `stdout`, `stderr` and `exit_code` are outputs wherever
    declared.
    """

    spec: dict[str, Any] = {}
    files: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()


class FunctionText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function: four lists of fields and what carries it out. `eager`: runs when activated even if no input is set.

    `broadcast`: the 1-or-N rule: inputs named here may have one element where others have N.
    """

    id: str
    kind: FunctionKind
    inputs: tuple[FieldText, ...] = ()
    outputs: tuple[FieldText, ...] = ()
    sub_inputs: tuple[FieldText, ...] = ()
    sub_outputs: tuple[FieldText, ...] = ()
    controller: ControllerText | None = None
    network: NetworkText | None = None
    command: CommandText | None = None
    desc: str = ""
    eager: bool = False
    broadcast: tuple[str, ...] = ()


class ModuleText(msgspec.Struct, frozen=True, omit_defaults=True):
    """A module. `name` is `a` or `a::b`; `source` says where it was found, for people; `code`: it names code to be run."""

    name: str
    version: str = ""
    desc: str = ""
    imports: tuple[str, ...] = ()
    types: tuple[TypeText, ...] = ()
    functions: tuple[FunctionText, ...] = ()
    network: NetworkText | None = None  # of an upload: what is merged into the project's top network
    source: str = ""
    directory: str = ""  # where its external programs lie

    @property
    def code(self) -> bool:
        """Whether it names code: Python or a program."""
        return any(function.controller is not None for function in self.functions)
