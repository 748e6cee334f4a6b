"""The stable names that plugins may use. Version 1: names are added, never changed or taken away.

Entry point groups: `cpc.platforms.v1` (subclasses of `Platform`), `cpc.executables.v1` (subclasses of `Executable`).
"""

from __future__ import annotations

from cpc.api.executable import Executable, Found, Search, check_name, check_version
from cpc.api.node import Gpu, Node
from cpc.api.platform import CORES, CORES_PER_JOB, GpuPool, Option, Place, Platform
from cpc.api.variables import Value, fill, fill_all
from cpc.core.errors import BadInput, CopernicusError, NotFound, Unavailable
from cpc.core.resources import Amounts, parse_size, show_size

VERSION = 1

__all__ = [
    "CORES",
    "CORES_PER_JOB",
    "VERSION",
    "Amounts",
    "BadInput",
    "CopernicusError",
    "Executable",
    "Found",
    "Gpu",
    "GpuPool",
    "Node",
    "NotFound",
    "Option",
    "Place",
    "Platform",
    "Search",
    "Unavailable",
    "Value",
    "check_name",
    "check_version",
    "fill",
    "fill_all",
    "parse_size",
    "show_size",
]
