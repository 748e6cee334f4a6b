"""One module on its way into a library: names become types and functions, mistakes are named with their place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from cpc.core import plain
from cpc.core.errors import BadInput, Conflict, CopernicusError, NotFound
from cpc.dataflow import arithmetic, paths, values
from cpc.dataflow.description import ControllerText, FieldText, FunctionKind, FunctionText, ModuleText, TypeText
from cpc.dataflow.functions import Function
from cpc.dataflow.types import SCALARS, Field, Kind, Type

if TYPE_CHECKING:
    from cpc.dataflow.library import Library, Module

_COMPOUND = {kind.value: kind for kind in Kind if kind.compound}
#: The original's words for "anything" and "nothing" are no types of values.
_ABSTRACT = ("value", "null")
_TREES = ("in", "out", "sub_in", "sub_out")


class Resolver:
    """Resolves the definitions of one text, in whatever order they refer to each other."""

    def __init__(self, library: Library, text: ModuleText, former: Module | None) -> None:
        self._library = library
        self._text = text
        self._module = paths.key(text.name)
        self._type_texts = {self._name(each.id, "type"): each for each in text.types}
        self._function_texts = {self._name(each.id, "function"): each for each in text.functions}
        self._types: dict[str, Type] = {}
        self._under_way: list[str] = []
        self._former = former
        if len(self._type_texts) < len(text.types) or len(self._function_texts) < len(text.functions):
            raise BadInput(f"{self._where}: two definitions have the same name", "'-' means '_'")
        if former is not None:
            for name in (*self._type_texts, *self._function_texts):
                if name in former.types or name in former.functions:
                    raise Conflict(f"the project has a definition of {name} already", "give the new one another name")

    def all(self) -> tuple[dict[str, Type], dict[str, Function]]:
        """Types and functions by bare name; `<function>:in`, `:out`, `:sub_in`, `:sub_out` are types, too."""
        for name in self._type_texts:
            self._own(name)
        functions = {name: self._function(name, text) for name, text in self._function_texts.items()}
        for name, function in functions.items():
            self._check_network(name, function, functions)
        return self._types, functions

    @property
    def _where(self) -> str:
        return f"module {self._module}" if self._module else "the upload"

    def _name(self, name: str, what: str) -> str:
        try:
            return paths.entry_name(name)
        except BadInput as error:
            raise BadInput(f"{self._where}, {what} {name!r}: {error.message}", error.hint) from None

    def _full(self, name: str) -> str:
        return f"{self._module}::{name}" if self._module else name

    def _type(self, name: str, where: str) -> Type:
        """The type that a definition at `where` refers to."""
        name = paths.key(name)
        if name in SCALARS:
            return SCALARS[name]
        if name in _ABSTRACT or name in _COMPOUND:
            more = f"define a type with the base {name} and its member-type" if name in _COMPOUND else "name its type"
            raise BadInput(f"{where}: {name} alone does not say what it holds", more)
        try:
            if "::" in name and name.rpartition("::")[0] != self._module:
                return self._library.type(name)
            return self._own(name.rpartition("::")[2])
        except NotFound as error:
            raise BadInput(f"{where}: {error.message}", error.hint) from None

    def _own(self, name: str) -> Type:
        if name in self._types:
            return self._types[name]
        if self._former is not None and name in self._former.types:
            return self._former.types[name]
        if name in self._under_way:
            raise BadInput(f"{self._where}: the type {name} contains itself", "a value of it could never end")
        function, _, tree = name.rpartition(":")
        self._under_way.append(name)
        try:
            if name in self._type_texts:
                found = self._defined(name, self._type_texts[name])
            elif function in self._function_texts and tree in _TREES:
                found = self._tree(function, self._function_texts[function], tree)
            else:
                raise NotFound(f"type {name} not found in {self._where}", "define it, or import the module that does")
        finally:
            self._under_way.pop()
        self._types[name] = found
        return found

    def _defined(self, name: str, text: TypeText) -> Type:
        where = f"{self._where}, type {name}"
        base_name = paths.key(text.base)
        if base_name in _COMPOUND:
            base, kind = None, _COMPOUND[base_name]
        else:
            base = self._type(text.base, where)
            kind = base.kind
        return Type(
            name=self._full(name),
            kind=kind,
            base=base,
            member=self._member(kind, text.member, text.fields, base, where),
            fields=self._fields(text.fields, base, where) if kind is Kind.RECORD else (),
            extension=text.extension,
            mime_type=text.mime_type,
            desc=text.desc,
        )

    def _member(
        self, kind: Kind, name: str, fields: tuple[FieldText, ...], base: Type | None, where: str
    ) -> Type | None:
        """What an array or dict holds: by its name, or by the single nested field that describes it."""
        if kind not in (Kind.ARRAY, Kind.DICT):
            if name:
                raise BadInput(f"{where}: only arrays and dicts have members of a type", f"{kind} has none")
            return None
        inherited = base.member if base is not None else None
        if name:
            member = self._type(name, where)
        elif len(fields) == 1:
            member = self._anonymous(fields[0], where)
        elif inherited is not None:
            return inherited
        else:
            raise BadInput(f"{where}: {kind} does not say what it holds", "give its member-type")
        if inherited is not None and inherited not in member.chain():
            raise BadInput(f"{where}: {member.name} is no kind of {inherited.name}, which its parent holds")
        return member

    def _fields(self, texts: tuple[FieldText, ...], base: Type | None, where: str) -> tuple[Field, ...]:
        """The parent's fields, then the own ones; one with the name of a parent's takes its place."""
        fields = {each.name: each for each in (base.fields if base is not None else ())}
        own: set[str] = set()
        for text in texts:
            name = self._name(text.id, f"a field of {where}:")
            if name in own:
                raise BadInput(f"{where}: two fields have the name {name}", "'-' means '_'")
            own.add(name)
            fields[name] = self._field(name, text, f"{where}, field {name}")
        return tuple(fields.values())

    def _field(self, name: str, text: FieldText, where: str) -> Field:
        kind = self._anonymous(text, where)
        default = plain.read(text.default)
        values.of_plain(kind, default, 0, 0, where)
        opt = text.opt or default is not None
        return Field(name, kind, opt, text.const, text.complete, text.desc, default)

    def _anonymous(self, text: FieldText, where: str) -> Type:
        name = paths.key(text.type)
        if name not in _COMPOUND and not text.fields and not text.member:
            return self._type(name, where)
        base = None if name in _COMPOUND else self._type(name, where)
        kind = _COMPOUND[name] if base is None else base.kind
        member = self._member(kind, text.member, text.fields, base, where)
        fields = self._fields(text.fields, base, where) if kind is Kind.RECORD else ()
        return Type(name, kind, base, member, fields, desc=text.desc)

    def _tree(self, function: str, text: FunctionText, tree: str) -> Type:
        fields = dict(zip(_TREES, (text.inputs, text.outputs, text.sub_inputs, text.sub_outputs), strict=True))[tree]
        where = f"{self._where}, function {function}, {tree}"
        return Type(f"{self._full(function)}:{tree}", Kind.RECORD, fields=self._fields(fields, None, where))

    def _function(self, name: str, text: FunctionText) -> Function:
        where = f"{self._where}, function {name}"
        self._check_parts(where, name, text)
        types = tuple(self._own(f"{name}:{tree}") for tree in _TREES)
        broadcast = tuple(paths.key(each) for each in text.broadcast)
        for each in broadcast:
            if each not in types[0].positions or types[0].below(each).kind is not Kind.ARRAY:
                raise BadInput(f"{where}: {each} cannot be broadcast: it is no array among the inputs")
        return Function(
            name=self._full(name),
            kind=text.kind,
            types=types,  # type: ignore[arg-type]
            controller=_with_directory(text, (types[1], types[3])),
            network=text.network,
            command=text.command,
            desc=text.desc,
            eager=text.eager,
            broadcast=broadcast,
            module=self._module,
            version=self._text.version,
            directory=self._text.directory,
        )

    def _check_parts(self, where: str, name: str, text: FunctionText) -> None:
        """Whether a function has what its kind needs to be carried out."""
        kind = text.kind
        if kind is FunctionKind.INLINE:
            if self._full(name) not in arithmetic.FUNCTIONS:
                raise BadInput(f"{where}: there is no built-in arithmetic of this name")
        elif kind is FunctionKind.NETWORK:
            if text.network is None:
                raise BadInput(f"{where}: a network function needs a network")
        elif kind is FunctionKind.COMMAND:
            if text.command is None:
                raise BadInput(f"{where}: a command function needs a command")
        elif text.controller is None:
            raise BadInput(f"{where}: a {kind} function needs a controller")
        elif kind is FunctionKind.EXTERNAL:
            if not text.controller.executable:
                raise BadInput(f"{where}: an external controller needs an executable")
            if not self._text.directory:
                raise BadInput(f"{where}: an external function has no directory here", "install it as a module")
        elif not text.controller.function:
            raise BadInput(f"{where}: its controller names no Python function")

    def _check_network(self, name: str, function: Function, functions: dict[str, Function]) -> None:
        """A fixed network uses functions that exist, and not itself."""
        within = [(name, function)]
        seen: set[str] = set()
        while within:
            above, each = within.pop()
            for instance in each.network.instances if each.network is not None else ():
                where = f"{self._where}, function {name}, instance {instance.id}"
                try:
                    paths.instance_name(instance.id)
                    used = self._used(instance.function, each.module, functions)
                except CopernicusError as error:
                    raise BadInput(f"{where}: {error.message}", error.hint) from None
                if used is function:
                    raise BadInput(f"{where}: the network {above} is within itself")
                if used.name not in seen:
                    seen.add(used.name)
                    within.append((used.name, used))

    def _used(self, name: str, module: str, functions: dict[str, Function]) -> Function:
        owner, separator, bare = paths.key(name).rpartition("::")
        if (owner if separator else module) == self._module and bare in functions:
            return functions[bare]
        return self._library.function(name, module)


def _with_directory(text: FunctionText, outputs: tuple[Type, ...]) -> ControllerText | None:
    """What runs it. External programs, and functions that give files, have an output directory without asking for it."""
    controller = text.controller
    if controller is None or controller.output_dir:
        return controller
    wanted = text.kind is FunctionKind.EXTERNAL or any(_holds_files(each) for each in outputs)
    return replace(controller, output_dir=True) if wanted else controller


def _holds_files(type: Type) -> bool:
    """Whether values of the type are files, or have files in them."""
    if type.member is not None:
        return _holds_files(type.member)
    return type.kind is Kind.FILE or any(_holds_files(each.type) for each in type.fields)
