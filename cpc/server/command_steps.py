"""Functions of kind `command`: one job that is made from a template, and outputs that are taken from what it leaves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from cpc.core import plain
from cpc.core.digest import Content
from cpc.core.errors import BadInput
from cpc.core.manifest import Entry, wanted
from cpc.core.plain import FileRef, Plain
from cpc.core.spec import Input, JobSpec, fill
from cpc.dataflow import literals
from cpc.dataflow.answer import Answer, FinishedJob, Job
from cpc.dataflow.description import CommandText
from cpc.dataflow.functions import Function
from cpc.dataflow.instance import Tree
from cpc.dataflow.types import Field, Kind, Type
from cpc.server.steps import Run

#: The longest text that becomes a value.
MAX_TEXT = 1 << 20
#: Reads the beginning of a content.
Read = Callable[[Content, int], Awaitable[bytes]]

_STANDARD = ("stdout", "stderr")


async def answer(run: Run, read: Read) -> Answer:
    """The answer of a command's step: its job, or when that has ended its outputs. Errors are the answer's error."""
    try:
        if run.given.finished:
            return await _outputs(run.function, run.given.finished[-1], read)
        return Answer(jobs=(Job(_spec(run.function, run.given.inputs)),))
    except BadInput as error:
        return Answer(error=str(error))


# --- the job -------------------------------------------------------------------------------------------------------------


def _spec(function: Function, inputs: dict[str, Any]) -> JobSpec:
    command = _command(function)
    values = {name: plain.read(raw) for name, raw in inputs.items()}
    files = _files(command, values)
    places = {name: path for path, name in command.files}
    # What is not set is an empty text.
    texts = dict.fromkeys(function.types[Tree.IN].positions, "")
    texts |= {name: _text(value, places.get(name, "")) for name, value in values.items()}
    filled = _filled(command.spec, texts, {name: value for name, value in values.items() if isinstance(value, list)})
    try:
        spec = msgspec.convert(filled, JobSpec)
    except msgspec.ValidationError as error:
        raise BadInput(f"the job of {function.name} cannot be made: {error}", "its module has to be mended") from None
    return msgspec.structs.replace(spec, inputs=(*spec.inputs, *files))


def _command(function: Function) -> CommandText:
    assert function.command is not None, "a function of kind command has a template"
    return function.command


def _files(command: CommandText, values: dict[str, Plain]) -> list[Input]:
    """The files to be placed: one at its path, those of an array below it by number."""
    found: list[Input] = []
    for path, name in command.files:
        value = values.get(name)
        if isinstance(value, FileRef):
            found.append(Input(path, value.content))
        elif isinstance(value, list):
            each = ((f"{path}/{number}", file) for number, file in enumerate(value))
            found += [Input(place, file.content) for place, file in each if isinstance(file, FileRef)]
    return found


def _text(value: Plain, path: str) -> str:
    """A value as a template says it; a file is the path at which it lies."""
    if isinstance(value, FileRef):
        return path or value.name
    if isinstance(value, list):
        return " ".join(_text(each, path and f"{path}/{number}") for number, each in enumerate(value))
    return literals.show(value)


def _filled(part: Any, texts: dict[str, str], arrays: dict[str, list[Plain]]) -> Any:
    """A part of the template with the values in it. A text that is one array's name alone becomes several."""
    if isinstance(part, str):
        return fill(part, texts)
    if isinstance(part, dict):
        return {name: _filled(each, texts, arrays) for name, each in part.items()}
    if isinstance(part, list | tuple):
        found: list[Any] = []
        for each in part:
            name = each[1:-1] if isinstance(each, str) and each[:1] == "{" else ""
            found += texts[name].split() if name in arrays else [_filled(each, texts, arrays)]
        return found
    return part


# --- its outputs ---------------------------------------------------------------------------------------------------------


async def _outputs(function: Function, job: FinishedJob, read: Read) -> Answer:
    if not job.succeeded:
        return Answer(error=f"job {job.job} has failed: {job.reason or 'see its log'}")
    fields = {field.name: field for field in function.types[Tree.OUT].fields}
    paths = {name: name for name in _STANDARD if name in fields} | dict(_command(function).outputs)
    found: list[tuple[str, Any]] = []
    for name, path in paths.items():
        value = await _output(fields[name], path, job, read)
        if value is not None:
            found.append((name, plain.wire(value)))
    if "exit_code" in fields and "exit_code" not in paths:
        found.append(("exit_code", job.exit_code))
    return Answer(outputs=tuple(found))


async def _output(field: Field, path: str, job: FinishedJob, read: Read) -> Plain:
    entries = [entry for entry in job.files.entries if entry.content and wanted(entry.path, (path,))]
    if not entries:
        if field.opt or field.name in _STANDARD:
            return None
        raise BadInput(f"job {job.job} has left no {path}, which would be its output {field.name}", "see its log")
    if field.type.kind is Kind.FILE:
        return _file(entries[0])
    if field.type.kind is Kind.ARRAY and field.type.below(0).kind is Kind.FILE:
        return [_file(entry) for entry in entries]
    content = entries[0].content
    assert content is not None
    if content.size > MAX_TEXT:
        raise BadInput(f"{path} of job {job.job} has {content.size} bytes", f"a value is a text of at most {MAX_TEXT}")
    text = (await read(content, content.size)).decode("utf-8", "replace")
    return _value(field.type, text, f"{path} of job {job.job}")


def _file(entry: Entry) -> FileRef:
    assert entry.content is not None
    return FileRef(entry.path.rpartition(b"/")[2].decode("utf-8", "replace"), entry.content)


def _value(type: Type, text: str, where: str) -> Plain:
    """What a file says: a text as it is but for the last line's end, a number, or an array with an element on each line."""
    if type.kind is Kind.ARRAY and not text.lstrip().startswith("["):
        return [_value(type.below(0), line, where) for line in text.splitlines()]
    return literals.read(type, text.removesuffix("\n") if type.kind is Kind.STRING else text.strip(), where)
