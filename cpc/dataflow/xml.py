"""Modules and uploads in the original's XML, with its elements and attributes as they are.

What is new: `eager` and `broadcast` (names of inputs) of a function, `cancel_on_change`, `time` and `memory` of a
controller, and the function type `command`, whose one job is described by an element `command`.
"""

from __future__ import annotations

from cpc.dataflow import elements
from cpc.dataflow.description import (
    CommandText,
    ConnectionText,
    ControllerText,
    FieldText,
    FunctionKind,
    FunctionText,
    InstanceText,
    ModuleText,
    NetworkText,
    TypeText,
)
from cpc.dataflow.elements import Element

#: The newest version of the format that can be read.
VERSION = 1
_KINDS = {
    "python": FunctionKind.PYTHON,
    "python-extended": FunctionKind.PYTHON_EXTENDED,
    "external": FunctionKind.EXTERNAL,
    "network": FunctionKind.NETWORK,
    "command": FunctionKind.COMMAND,
}
_LISTS = ("inputs", "outputs", "subnet-inputs", "subnet-outputs")
_SAVED = ("active", "task", "function-input", "command-list")


def read(text: str, name: str, *, source: str = "", directory: str = "") -> ModuleText:
    """The module `name` (an upload: empty). `source` is where it was found; BadInput gives line and column."""
    root = elements.read(text, source or (f"module {name}" if name else "uploaded file"))
    if root.name != "cpc":
        raise root.wrong(f"the root element is <{root.name}>, not <cpc>")
    version = root.get("version") or "0"
    if not version.isdecimal() or int(version) > VERSION:
        raise root.wrong(f"version {version!r} of the format cannot be read", f"versions up to {VERSION} can")
    for child in root.children:
        if child.name in _SAVED:
            raise child.wrong(f"<{child.name}> belongs to a saved project", "`cpcc load` restores one")
    root.only("import", "desc", "type", "function", "network")
    network = root.one("network")
    return ModuleText(
        name=name,
        desc=_desc(root),
        imports=tuple(each.need("name") for each in root.all("import")),
        types=tuple(_type(each) for each in root.all("type")),
        functions=tuple(_function(each) for each in root.all("function")),
        network=None if network is None else _network(network),
        source=source,
        directory=directory,
    )


def _desc(element: Element) -> str:
    return " ".join(each.words for each in element.all("desc"))


def _type(element: Element) -> TypeText:
    element.only("desc", "field")
    return TypeText(
        id=element.need("id"),
        base=element.need("base"),
        member=element.get("member-type"),
        fields=tuple(_field(each) for each in element.all("field")),
        extension=element.get("extension"),
        mime_type=element.get("mime-type"),
        desc=_desc(element),
    )


def _field(element: Element) -> FieldText:
    element.only("desc", "field")
    return FieldText(
        id=element.get("id"),
        type=element.need("type"),
        opt=element.flag("opt"),
        const=element.flag("const"),
        complete=element.flag("complete"),
        desc=_desc(element),
        fields=tuple(_field(each) for each in element.all("field")),
        member=element.get("member-type"),
    )


def _function(element: Element) -> FunctionText:
    kind = _KINDS.get(element.need("type"))
    if kind is None:
        raise element.wrong(f"there is no function type {element.get('type')!r}", f"there are {', '.join(_KINDS)}")
    element.only("desc", "controller", "network", "command", *_LISTS)
    inputs, outputs, sub_inputs, sub_outputs = (_fields(element.one(name)) for name in _LISTS)
    controller, network, command = element.one("controller"), element.one("network"), element.one("command")
    return FunctionText(
        id=element.need("id"),
        kind=kind,
        inputs=inputs,
        outputs=outputs,
        sub_inputs=sub_inputs,
        sub_outputs=sub_outputs,
        controller=None if controller is None or kind is FunctionKind.NETWORK else _controller(controller),
        network=None if network is None else _network(network),
        command=None if command is None else _command(command),
        desc=_desc(element),
        eager=element.flag("eager"),
        broadcast=tuple(element.get("broadcast").split()),
    )


def _fields(element: Element | None) -> tuple[FieldText, ...]:
    if element is None:
        return ()
    element.only("field", "desc")
    for each in element.all("field"):
        each.need("id")
    return tuple(_field(each) for each in element.all("field"))


def _controller(element: Element) -> ControllerText:
    element.only()
    module, function = element.get("import"), element.get("function")
    if function and not function.startswith(f"{module}.") and "." in function:
        module, _, function = function.rpartition(".")
    elif module:
        function = function.removeprefix(f"{module}.")
    return ControllerText(
        module=module,
        function=function,
        executable=element.get("executable"),
        persistent_dir=element.flag("persistent_dir"),
        output_dir=element.flag("output_dir"),
        log=element.flag("log"),
        access_outputs=element.flag("access_outputs"),
        access_subnet_outputs=element.flag("access_subnet_outputs"),
        cancel_on_change=element.flag("cancel_on_change"),
        time=element.number("time"),
        memory=int(element.number("memory")),
    )


def _network(element: Element) -> NetworkText:
    """Elements of the same kind keep their order; instances come first, as connections may name any of them."""
    for child in element.children:
        if child.name in _SAVED:
            raise child.wrong(f"<{child.name}> belongs to a saved project", "`cpcc load` restores one")
    element.only("instance", "connection", "assign", "desc")
    return NetworkText(
        instances=tuple(InstanceText(each.need("id"), each.need("function")) for each in element.all("instance")),
        connections=tuple(_connection(each) for each in element.children if each.name in ("connection", "assign")),
    )


def _connection(element: Element) -> ConnectionText:
    element.only()
    if element.name == "connection" and "value" not in element.attributes:
        return ConnectionText(element.need("src"), element.need("dest"))
    if "src" in element.attributes:
        raise element.wrong(f"a <{element.name}> has either src or value")
    if "value" not in element.attributes:
        raise element.wrong(f"<{element.name}> needs the attribute value")
    return ConnectionText("", element.need("dest"), element.get("value"), element.need("type"))


def _command(element: Element) -> CommandText:
    """One job: `executable` and `arg` elements; `file` puts an input into its directory, `output` takes one from there."""
    element.only("arg", "env", "file", "output")
    need = {name: int(element.number(name)) for name in ("cores", "gpus", "memory") if element.get(name)}
    spec: dict[str, object] = {"argv": [each.get("value") for each in element.all("arg")]}
    for name in ("executable", "versions"):
        if element.get(name):
            spec[name] = element.get(name)
    if element.get("walltime"):
        spec["walltime"] = element.number("walltime")
    if need:
        spec["need"] = {"cores": 1, **need}
    env = {each.need("name"): each.get("value") for each in element.all("env")}
    if env:
        spec["env"] = env
    return CommandText(
        spec=spec,
        files=tuple((each.need("path"), each.need("input")) for each in element.all("file")),
        outputs=tuple((each.need("id"), each.need("path")) for each in element.all("output")),
    )
