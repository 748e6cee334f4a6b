"""The original's XML for programs that are controllers: `function-input` on their stdin, `function-output` on their stdout."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from xml.etree import ElementTree

from cpc.controller.original import values
from cpc.controller.original.command import Command
from cpc.controller.original.function_output import FunctionOutput
from cpc.controller.original.values import Files, Updates, Value
from cpc.core.errors import BadInput
from cpc.dataflow import elements
from cpc.dataflow.answer import StepInput
from cpc.dataflow.code import Shape
from cpc.dataflow.elements import Element

VERSION = "1"
_TREES = (("in", "inputs"), ("out", "outputs"), ("sub_in", "subnet-inputs"), ("sub_out", "subnet-outputs"))
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


def function_input(step: StepInput, shapes: tuple[Shape, ...], files: Files, ended: Command | None) -> bytes:
    """What the program reads. BadInput when a text holds characters that XML cannot."""
    root = ElementTree.Element("function-input", version=VERSION)
    places = {
        "output_dir": step.output_dir, "persistent_dir": step.persistent_dir, "base_dir": step.base_dir,
    }  # fmt: skip
    ElementTree.SubElement(root, "env", {name: path for name, path in places.items() if path})
    updates = Updates(step.updated)
    for index, ((tree, name), raw) in enumerate(
        zip(_TREES, (step.inputs, step.outputs, step.sub_inputs, step.sub_outputs), strict=True)
    ):
        parent = ElementTree.SubElement(root, name)
        for field, one in (raw or {}).items():
            shape = shapes[index].below(field) if shapes else None
            value = values.read(one, shape, files, updates, (tree, field))
            parent.append(_written(value, shape, step.number, field))
    commands = ElementTree.SubElement(root, "commands")
    if ended is not None:
        commands.append(_command_written(ended))
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _written(value: Value, shape: Shape | None, number: int, field: str = "") -> ElementTree.Element:
    content = value.value
    kind = ("file" if value.file else value.type) if shape is None else shape.kind
    attributes = {"type": value.type, "seqnr": str(number), "updated": "1" if value.isUpdated() else "0"}
    if field:
        attributes["field"] = field
    if isinstance(content, bool):
        attributes["value"] = "true" if content else "false"
    elif content is not None and not isinstance(content, list | dict):
        attributes["value"] = _text(content if isinstance(content, str) else repr(content))
    element = ElementTree.Element(kind, attributes)
    if isinstance(content, list):
        element.extend(_written(one, shape and shape.member, number) for one in content)
    elif isinstance(content, dict):
        element.extend(_written(one, shape and shape.below(name), number, name) for name, one in content.items())
    return element


def _command_written(command: Command) -> ElementTree.Element:
    attributes = {"id": command.id, "dir": command.dir, "used_cpu_time": repr(command.cputime)}
    if command.returncode is not None:
        attributes["return_code"] = str(command.returncode)
    element = ElementTree.Element("command", attributes)
    for argument in command.args:
        ElementTree.SubElement(element, "arg", value=_text(argument))
    return element


def _text(text: str) -> str:
    found = _NOT_XML.search(text)
    if found:
        raise BadInput(
            f"{text[:60]!r} holds {found.group()!r}, which XML cannot", "external functions get no such texts"
        )
    return text


def function_output(text: str) -> FunctionOutput:
    """What the program wrote. BadInput says what is wrong with it, with line and column."""
    root = elements.read(text, "the program's output")
    if root.name != "function-output":
        raise root.wrong(f"the root element is <{root.name}>, not <function-output>")
    root.only("outputs", "subnet-outputs", "new-instances", "new-connections", "commands", "error", "warning")
    output = FunctionOutput()
    _outputs(root.one("outputs"), output.setOut)
    _outputs(root.one("subnet-outputs"), output.setSubOut)
    for one in _within(root.one("new-instances"), "instance"):
        output.addInstance(one.need("id"), one.need("function"))
    for one in _within(root.one("new-connections"), "connection"):
        if "value" in one.attributes:
            output.addConnection(None, one.need("dst"), _simple(one, one.need("type"), one.get("value")))
        else:
            output.addConnection(one.need("src"), one.need("dst"))
    commands = root.one("commands")
    if commands is not None and commands.flag("cancel_prev"):
        output.cancelPrevCommands()
    for one in _within(commands, "command"):
        output.addCommand(_command(one))
    for one in root.all("error"):
        output.setError(one.get("msg") or one.words)
    for one in root.all("warning"):
        output.setWarning(one.get("msg") or one.words)
    return output


def _within(parent: Element | None, name: str) -> Iterator[Element]:
    if parent is not None:
        parent.only(name)
        yield from parent.all(name)


def _outputs(parent: Element | None, put: Callable[[str, Value], None]) -> None:
    for one in _within(parent, "value"):
        if len(one.children) != 1:
            raise one.wrong(f"<value> holds {len(one.children)} values, not one")
        put(one.need("id"), _value(one.children[0]))


def _value(element: Element) -> Value:
    if element.name == "array":
        return values.ArrayValue([_value(one) for one in element.children])
    if element.name in ("record", "dict"):
        return values.DictValue({one.need("field"): _value(one) for one in element.children})
    return _simple(element, element.name, element.attributes.get("value"))


def _simple(element: Element, kind: str, text: str | None) -> Value:
    make = _MAKERS.get(kind)
    if make is None:
        raise element.wrong(f"there is no base type {kind}", f"there are {', '.join(_MAKERS)}, array, dict and record")
    try:
        return make(text)
    except ValueError:
        raise element.wrong(f"{text!r} is no {kind}") from None


def _bool(text: str | None) -> Value:
    if text is not None and text.lower() not in _TRUE + _FALSE:
        raise ValueError(text)
    return values.BoolValue(None if text is None else text.lower() in _TRUE)


_MAKERS: Mapping[str, Callable[[Any], Value]] = {
    "bool": _bool,
    "int": values.IntValue,
    "float": values.FloatValue,
    "string": values.StringValue,
    "file": values.FileValue,
}


def _command(element: Element) -> Command:
    element.only("arg", "env", "output-file", "min-required", "max-allowed", "reserved")
    command = Command(
        os.path.abspath(element.need("dir")),
        element.need("executable"),
        [one.get("value") for one in element.all("arg")],
        addPriority=_whole(element, "add_priority"),
        minVersion=element.get("min_version") or None,
        maxVersion=element.get("max_version") or None,
        env={one.need("name"): one.get("value") for one in element.all("env")},
        outputFiles=[one.need("name") for one in element.all("output-file")] or None,
    )
    for place, amounts in (("min-required", command.minRequired), ("max-allowed", command.maxAllowed)):
        for one in _within(element.one(place), "resource"):
            amounts[one.need("name")] = _whole(one, "value")
    return command


def _whole(element: Element, attribute: str) -> int:
    text = element.get(attribute) or "0"
    try:
        return int(text)
    except ValueError:
        raise element.wrong(f"{attribute}={text!r} is not a whole number") from None
