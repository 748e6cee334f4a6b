"""What an external program of the original reads on standard input and writes on standard output.

In: `<function-input>` with the directories, typed values and the finished command. Out: `<function-output>` with values, new
instances, connections and commands, an error or a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from xml.sax.saxutils import quoteattr

from cpc.core.errors import BadInput
from cpc.core.plain import FILE
from cpc.dataflow import elements
from cpc.dataflow.answer import PATH, Answer, FinishedJob, StepInput
from cpc.dataflow.elements import Element

#: The form's version, as the original counts.
VERSION = 1
_UNSPEAKABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_SCALARS = ("bool", "int", "float", "string", "file")


class Shape(Protocol):
    """What the form has to know of a type."""

    @property
    def name(self) -> str:
        """The type's name."""

    @property
    def kind(self) -> str:
        """The built-in type that it comes from."""

    def below(self, part: str | int) -> Shape | None:
        """The shape of a member."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that the program asks for. `directory` as it is written; `least` and `most` are named resources."""

    directory: str
    executable: str
    args: tuple[str, ...] = ()
    priority: int = 0
    min_version: str = ""
    max_version: str = ""
    env: dict[str, str] = field(default_factory=dict)
    output_files: tuple[str, ...] = ()
    least: dict[str, int] = field(default_factory=dict)
    most: dict[str, int] = field(default_factory=dict)


def write(step: StepInput, trees: Sequence[Shape], finished: FinishedJob | None) -> str:
    """The program's input. `trees`: the shapes of in, out, sub_in and sub_out. BadInput: a text that XML cannot hold."""
    news = _with_holders(step.updated)
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f'<function-input version="{VERSION}">']
    directories = (
        ("output_dir", step.output_dir),
        ("persistent_dir", step.persistent_dir),
        ("base_dir", step.base_dir),
    )
    lines.append(f"  <env{_attributes(each for each in directories if each[1])}/>")
    given = (
        ("inputs", "in", step.inputs, trees[0]),
        ("subnet-inputs", "sub_in", step.sub_inputs, trees[2]),
        ("outputs", "out", step.outputs or {}, trees[1]),
        ("subnet-outputs", "sub_out", step.sub_outputs or {}, trees[3]),
    )
    writer = _Writer(step, news, lines)
    for element, tree, values, shape in given:
        lines.append(f"  <{element}>")
        for name, value in values.items():
            writer.value(value, shape.below(name), name, f"{tree}.{name}", "    ")
        lines.append(f"  </{element}>")
    lines.append("  <commands>")
    if finished is not None:
        facts = [("id", finished.job), ("dir", finished.directory), ("cputime", repr(finished.cpu_seconds))]
        if finished.exit_code is not None:
            facts.append(("return_code", str(finished.exit_code)))
        lines.append(f"    <command{_attributes(facts)}>")
        lines += [f"      <arg value={_quoted(arg, 'an argument')}/>" for arg in finished.argv]
        lines.append("    </command>")
    lines += ["  </commands>", "</function-input>", ""]
    return "\n".join(lines)


@dataclass(slots=True)
class _Writer:
    step: StepInput
    news: set[str]
    lines: list[str]

    def value(self, value: Any, shape: Shape | None, name: str, path: str, indent: str) -> None:
        """One typed value and all within it. `name`: of a record's field or dict's entry."""
        kind = shape.kind if shape is not None else _kind(value)
        facts = [("type", shape.name if shape is not None and shape.name else kind)]
        if name:
            facts.append(("field", name))
        facts += [("seqnr", str(self.step.number)), ("updated", "1" if path in self.news else "0")]
        if value is not None and kind in _SCALARS:
            facts.append(("value", self._text(value, path)))
        head = f"{indent}<{kind}{_attributes(facts)}"
        if not isinstance(value, list) and not (isinstance(value, dict) and kind in ("record", "dict")):
            self.lines.append(f"{head}/>")
            return
        self.lines.append(f"{head}>")
        if isinstance(value, list):
            for index, each in enumerate(value):
                self.value(each, shape.below(index) if shape else None, "", f"{path}[{index}]", f"{indent}  ")
        else:
            for member, each in value.items():
                self.value(each, shape.below(member) if shape else None, member, f"{path}.{member}", f"{indent}  ")
        self.lines.append(f"{indent}</{kind}>")

    def _text(self, value: Any, path: str) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, dict):
            digest = value[FILE]["content"]["digest"].hex()
            if digest not in self.step.files:
                raise BadInput(f"the file of {path} is not on this machine")
            return self.step.files[digest]
        return value if isinstance(value, str) else repr(value)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "file" if FILE in value else "record"
    names = {bool: "bool", int: "int", float: "float", str: "string", list: "array"}
    return names.get(type(value), "string")


def _with_holders(updated: Iterable[str]) -> set[str]:
    """The updated leaves and everything that holds one."""
    found: set[str] = set()
    for path in updated:
        while path and path not in found:
            found.add(path)
            path = path[: max(path.rfind("."), path.rfind("["), 0)]  # noqa: PLW2901 - upwards
    return found


def _attributes(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(f" {name}={_quoted(value, name)}" for name, value in facts)


def _quoted(value: str, what: str) -> str:
    if _UNSPEAKABLE.search(value):
        raise BadInput(f"{what} holds a character that XML cannot, so no external program can get it")
    return quoteattr(value, {"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})


def read(text: str) -> tuple[Answer, tuple[Command, ...]]:
    """What the program wrote: an answer without jobs, and the commands to make jobs of. BadInput gives the line.

    A file is `{PATH: path}`, as the program has written the path.
    """
    root = elements.read(text, "the program's output")
    if root.name != "function-output":
        raise root.wrong(f"the root element is <{root.name}>, not <function-output>")
    version = root.get("version") or "0"
    if not version.isdecimal() or int(version) > VERSION:
        raise root.wrong(f"version {version!r} of the form cannot be read")
    root.only("outputs", "subnet-outputs", "new-instances", "new-connections", "commands", "error", "warning")
    connections = [each for group in root.all("new-connections") for each in group.all("connection")]
    groups = list(root.all("commands"))
    answer = Answer(
        outputs=_outputs(root, "outputs"),
        sub_outputs=_outputs(root, "subnet-outputs"),
        instances=tuple(
            (each.need("id"), each.need("function"))
            for group in root.all("new-instances")
            for each in group.all("instance")
        ),
        connections=tuple((each.need("src"), each.need("dst")) for each in connections if each.get("src")),
        values=tuple(
            (each.need("dst"), _scalar(each, each.need("type"))) for each in connections if not each.get("src")
        ),
        cancel_jobs=any(each.flag("cancel_prev") for each in groups),
        error=" ".join(each.get("msg") or "error" for each in root.all("error")),
        warning=" ".join(each.get("msg") for each in root.all("warning")),
    )
    return answer, tuple(_command(each) for group in groups for each in group.all("command"))


def _outputs(root: Element, name: str) -> tuple[tuple[str, Any], ...]:
    found = []
    for group in root.all(name):
        group.only("value")
        for each in group.all("value"):
            if len(each.children) != 1:
                raise each.wrong("a <value> holds one typed value")
            found.append((each.need("id"), _value(each.children[0])))
    return tuple(found)


def _value(element: Element) -> Any:
    if element.name == "array":
        return [_value(each) for each in element.children]
    if element.name in ("record", "dict"):
        return {each.need("field"): _value(each) for each in element.children}
    return _scalar(element, element.name)


def _scalar(element: Element, kind: str) -> Any:
    if kind not in _SCALARS:
        raise element.wrong(
            f"there is no type of values {kind!r}", "bool, int, float, string, file, array, record, dict"
        )
    if "value" not in element.attributes:
        return None
    text = element.get("value")
    try:
        if kind == "bool":
            return element.flag("value")
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except ValueError:
        raise element.wrong(f"{text!r} is not {'an int' if kind == 'int' else 'a float'}") from None
    return {PATH: text} if kind == "file" else text


def _command(element: Element) -> Command:
    env = element.one("env")
    named = list(element.all("env")) if env is None or "name" in env.attributes else env.children
    return Command(
        directory=element.get("dir"),
        executable=element.need("executable"),
        args=tuple(each.get("value") for each in element.all("arg")),
        priority=_whole(element, "add_priority"),
        min_version=element.get("min_version"),
        max_version=element.get("max_version"),
        env={each.get("name") or each.name: each.get("value") for each in named},
        output_files=tuple(each.get("name") or each.get("value") for each in element.all("output_file")),
        least=_resources(element.one("min-required")),
        most=_resources(element.one("max-allowed")),
    )


def _resources(element: Element | None) -> dict[str, int]:
    """`<resource name="cores" value="1"/>`, or `<cores value="1"/>`."""
    return (
        {} if element is None else {each.get("name") or each.name: _whole(each, "value") for each in element.children}
    )


def _whole(element: Element, attribute: str) -> int:
    text = element.get(attribute) or "0"
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise element.wrong(f"{attribute}={text!r} is not a whole number")
    return int(text)
