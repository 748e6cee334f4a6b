"""What goes to a controller and what comes back: one run of the code behind a function, on one snapshot of its inputs.

A value that is a file which the controller wrote is a map with the single keys `$path` (absolute, below one of the step's
directories) and `name`: whoever takes the answer stores the file and puts its `$file` there (`cpc.core.plain`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from cpc.core.manifest import Manifest
from cpc.core.spec import JobSpec

PATH = "$path"


class FinishedJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job of the step that has ended. `ordinal` is its number within the step, from 0; `key` what the controller called it.

    `directory`: where the server has put its outputs, `stdout` and `stderr` among them; "" when it left none.
    """

    ordinal: int
    job: str
    succeeded: bool
    key: str = ""
    exit_code: int | None = None
    reason: str = ""
    tail: str = ""
    argv: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
    files: Manifest = Manifest()
    directory: str = ""


class StepInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """Values are in the wire form of `cpc.core.plain`; `files` maps digests (hex) to local paths of the files in them.

    `updated`: paths below `in` and `sub_in` (`in.conf[3]`) that changed since the instance's last step; a compound is
    listed by its changed leaves. `finished`: jobs of this step that ended since its last run. `state` is what the last
    answer of this instance left. Directories are absolute; "" where the function has none.
    """

    project: str
    instance: str
    function: str
    number: int
    inputs: dict[str, Any] = {}
    sub_inputs: dict[str, Any] = {}
    outputs: dict[str, Any] | None = None
    sub_outputs: dict[str, Any] | None = None
    instances: tuple[str, ...] = ()  # names of the instances in its own network
    updated: tuple[str, ...] = ()
    finished: tuple[FinishedJob, ...] = ()
    pending: int = 0  # jobs of the step that have not ended
    state: bytes = b""
    files: dict[str, str] = {}
    output_dir: str = ""
    persistent_dir: str = ""
    base_dir: str = ""


class LocalInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input of a job that is not stored yet: `local`, a file below one of the step's directories, or else `data`.

    `path` is its place in the run directory.
    """

    path: str
    local: str = ""
    data: bytes = b""
    executable: bool = False


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job that a controller asks for; `key` comes back with it when it has ended.

    `files` are inputs beside those of the spec: whoever takes the answer stores them and adds them to it.
    """

    spec: JobSpec
    key: str = ""
    files: tuple[LocalInput, ...] = ()


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a run returns. Names are relative to the instance: items of its outputs, instances of its own network.

    With jobs, or while jobs of the step have not ended, the step goes on and the controller runs again when they have; else
    it is over. Outputs may be set at any time; they are applied in the commit of this answer. `error` stops the
    instance. `state` None leaves the former one.
    """

    outputs: tuple[tuple[str, Any], ...] = ()
    sub_outputs: tuple[tuple[str, Any], ...] = ()
    instances: tuple[tuple[str, str], ...] = ()
    connections: tuple[tuple[str, str], ...] = ()
    values: tuple[tuple[str, Any], ...] = ()  # (target in the own network, value)
    jobs: tuple[Job, ...] = ()
    cancel_jobs: bool = False
    error: str = ""
    warning: str = ""
    log: str = ""
    state: bytes | None = None
