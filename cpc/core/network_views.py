"""What the public API says of a project's dataflow network. Values are in the wire form of `cpc.core.plain`; times in µs UTC."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import field

from cpc.core.views import View


class FieldView(View, frozen=True):
    """A member of a record, or an input or output. `flags`: of opt, const, complete. `set`: whether it has a value."""

    name: str
    type: str
    flags: tuple[str, ...] = ()
    desc: str = ""
    set: bool = False
    source: str = ""  # what it is connected to


class InstanceView(View, frozen=True):
    """An instance in a list. `state` is that of itself and all within it: error before warning before held before active.

    `own`: its own state alone. `running`: what it does now, in a word; `ItemView` says more.
    """

    name: str
    path: str
    function: str
    state: str
    own: str
    running: str = ""


class ItemView(View, frozen=True):
    """What `ls` shows of a path: the project, an instance or a value.

    `instances` is one page; `count` how many there are; `states` counts all instances within, at every depth, and with
    `cpu_seconds_within` comes with the first page only. `running` is what
    the instance does now, in words: "runs its controller", "waits for 3 jobs", "" for nothing.
    """

    kind: Literal["project", "instance", "value"]
    name: str
    path: str
    function: str = ""
    type: str = ""
    state: str = ""
    own: str = ""
    error: str = ""
    warning: str = ""
    running: str = ""
    inputs: tuple[FieldView, ...] = ()
    outputs: tuple[FieldView, ...] = ()
    sub_inputs: tuple[FieldView, ...] = ()
    sub_outputs: tuple[FieldView, ...] = ()
    members: tuple[FieldView, ...] = ()  # of a compound value
    instances: tuple[InstanceView, ...] = ()
    next: str = ""
    count: int = 0
    states: dict[str, int] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    cpu_seconds_within: float = 0.0
    jobs: tuple[str, ...] = ()  # of the step under way


class ValueView(View, frozen=True):
    """An item's value. `set` false: it exists and has none."""

    path: str
    type: str
    set: bool
    value: Any = None


class Changed(View, frozen=True):
    """What a call has changed, a line each; `level` above 0: it was recorded in the open transaction instead."""

    lines: tuple[str, ...] = ()
    level: int = 0


class TransactionView(View, frozen=True):
    """The open transaction. `edits` of the top level, in words; `changes`: what committing them would do, as far as known.

    `problem`: why it could not be committed now.
    """

    level: int
    edits: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    problem: str = ""


class ModuleView(View, frozen=True):
    """A module that can be imported. `where`: the file or package it comes from. `problem`: why it cannot be imported."""

    name: str
    version: str = ""
    desc: str = ""
    where: str = ""
    problem: str = ""


class FunctionView(View, frozen=True):
    """A function's interface."""

    name: str
    kind: str
    desc: str = ""
    inputs: tuple[FieldView, ...] = ()
    outputs: tuple[FieldView, ...] = ()
    sub_inputs: tuple[FieldView, ...] = ()
    sub_outputs: tuple[FieldView, ...] = ()


class TypeView(View, frozen=True):
    """A type."""

    name: str
    base: str
    member: str = ""
    desc: str = ""
    fields: tuple[FieldView, ...] = ()


class InfoView(View, frozen=True):
    """What `info` shows: a module with its functions and types, or one of either."""

    name: str
    desc: str = ""
    version: str = ""
    functions: tuple[FunctionView, ...] = ()
    types: tuple[TypeView, ...] = ()


class LinkView(View, frozen=True):
    """A connection, as paths from the project's top."""

    source: str
    target: str


class NetworkView(View, frozen=True):
    """A network drawn: its instances (one page) and the connections among them."""

    path: str
    instances: tuple[InstanceView, ...] = ()
    links: tuple[LinkView, ...] = ()
    next: str = ""
    count: int = 0


class StepView(View, frozen=True):
    """One run of a function: which inputs (path → what they came from), jobs, workers, and which version of the code."""

    instance: str
    number: int
    function: str
    version: str
    opened: int
    closed: int | None = None
    state: str = ""
    inputs: tuple[LinkView, ...] = ()
    jobs: tuple[JobRunView, ...] = ()


class JobRunView(View, frozen=True):
    """A job of a step: the attempt whose result counts, where it ran, with which program."""

    job: str
    attempt: int = 0
    worker: str = ""
    host: str = ""
    program: str = ""


class ExplainView(View, frozen=True):
    """Where a value comes from: set by somebody, or made by a step; `via`: the connections it came through."""

    path: str
    set_by: str = ""
    set_at: int | None = None
    via: tuple[str, ...] = ()
    step: StepView | None = None


class RecordView(View, frozen=True):
    """One committed change of a project, for replay: edits of a person, or the answer of a step."""

    number: int
    time: int
    actor: str
    kind: str
    details: dict[str, Any] = field(default_factory=dict)
