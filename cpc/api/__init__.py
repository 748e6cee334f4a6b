"""The stable names that plugins and modules may use. Version 1: names are added, never changed or taken away.

Entry point groups: `cpc.platforms.v1` (subclasses of `Platform`), `cpc.executables.v1` (subclasses of `Executable`),
`cpc.schedulers.v1` (subclasses of `Scheduler`), `cpc.modules.v1` (Python modules of functions decorated with `function`,
`command` or `controller`), `cpc.doctor.v1` and `cpc.node-checks.v1` (functions that give a `Check` for each thing that they have
looked at, on the server's machine or on a node).
"""

from __future__ import annotations

from cpc.api.commands import Result, command
from cpc.api.controllers import controller
from cpc.api.executable import Executable, Found, Search, check_name, check_version
from cpc.api.file import File
from cpc.api.functions import Function, function
from cpc.api.hints import TypeName
from cpc.api.job import Finished, Job
from cpc.api.modules import describe
from cpc.api.node import Gpu, Node
from cpc.api.platform import CORES, CORES_PER_JOB, GpuPool, HostPool, Option, Place, Platform
from cpc.api.resources import RunDesc
from cpc.api.scheduler import (
    AtLimit,
    Check,
    Described,
    Handle,
    Http,
    HttpAnswer,
    NodeSeen,
    NodeState,
    NotConnected,
    Ran,
    Run,
    Scheduler,
    Seen,
    SeenOutcome,
    SeenState,
    Setting,
    Tools,
    Unsettled,
    Wanted,
    check_token,
)
from cpc.api.step import Failed, Step
from cpc.api.variables import Value, fill, fill_all
from cpc.core.errors import BadInput, CopernicusError, Damaged, NotFound, Refused, TooLarge, Unavailable
from cpc.core.resources import Amounts, parse_size, show_size

VERSION = 1

__all__ = [
    "CORES",
    "CORES_PER_JOB",
    "VERSION",
    "Amounts",
    "AtLimit",
    "BadInput",
    "Check",
    "CopernicusError",
    "Damaged",
    "Described",
    "Executable",
    "Failed",
    "File",
    "Finished",
    "Found",
    "Function",
    "Gpu",
    "GpuPool",
    "Handle",
    "HostPool",
    "Http",
    "HttpAnswer",
    "Job",
    "Node",
    "NodeSeen",
    "NodeState",
    "NotConnected",
    "NotFound",
    "Option",
    "Place",
    "Platform",
    "Ran",
    "Refused",
    "Result",
    "Run",
    "RunDesc",
    "Scheduler",
    "Search",
    "Seen",
    "SeenOutcome",
    "SeenState",
    "Setting",
    "Step",
    "TooLarge",
    "Tools",
    "TypeName",
    "Unavailable",
    "Unsettled",
    "Value",
    "Wanted",
    "check_name",
    "check_token",
    "check_version",
    "command",
    "controller",
    "describe",
    "fill",
    "fill_all",
    "function",
    "parse_size",
    "show_size",
]
