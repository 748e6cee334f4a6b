"""Types: what a value can be, what may be connected to what.

User types inherit from one parent. A record inherits its parent's fields and adds its own behind them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from cpc.core.errors import NotFound
from cpc.core.plain import Plain

#: The way from a tree's root to a member: names (NFC, `_` for `-`) of record fields and dict entries, array indexes.
Path: TypeAlias = tuple[str | int, ...]


class Kind(enum.StrEnum):
    """The built-in type at the root of a type's chain of parents."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STRING = "string"
    FILE = "file"
    RECORD = "record"
    ARRAY = "array"
    DICT = "dict"

    @property
    def compound(self) -> bool:
        """Whether its values have members."""
        return self in (Kind.RECORD, Kind.ARRAY, Kind.DICT)


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A member of a record. `default` is used where an optional one is not set."""

    name: str
    type: Type
    opt: bool = False
    const: bool = False
    complete: bool = False
    desc: str = ""
    default: Plain = None

    @property
    def flags(self) -> tuple[str, ...]:
        """Of opt, const, complete: those that hold, as `ls` shows them."""
        words = (("opt", self.opt), ("const", self.const), ("complete", self.complete))
        return tuple(word for word, holds in words if holds)


@dataclass(frozen=True, slots=True, eq=False)
class Type:
    """A type, known by `name` (`int`, `resource::run_desc`). `member`: what arrays and dicts hold; `fields`: of records."""

    name: str
    kind: Kind
    base: Type | None = None
    member: Type | None = None
    fields: tuple[Field, ...] = ()
    extension: str = ""
    mime_type: str = ""
    desc: str = ""
    positions: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", {each.name: place for place, each in enumerate(self.fields)})

    @property
    def words(self) -> str:
        """The type in words: `an int`, `toy::floats, an array`."""
        kind = self.kind.value
        said = f"{'an' if kind[0] in 'ai' else 'a'} {kind}"
        return said if kind == self.name else f"{self.name}, {said}"

    def chain(self) -> Iterator[Type]:
        """Itself, its parent, and so on up to the built-in type."""
        each: Type | None = self
        while each is not None:
            yield each
            each = each.base

    def below(self, part: str | int, where: str = "") -> Type:
        """The type of one member; NotFound when values of this type can have no such member. `where`: its path, for people."""
        if self.kind is Kind.RECORD and part in self.positions:
            return self.fields[self.positions[part]].type
        if self.kind is Kind.ARRAY and isinstance(part, int) and self.member is not None:
            return self.member
        if self.kind is Kind.DICT and isinstance(part, str) and self.member is not None:
            return self.member
        raise NotFound(f"{where or self.name} ({self.name}) has no member {_part(part)}", self._members())

    def at(self, path: Path, where: str = "") -> Type:
        """The type at the end of a path; NotFound names the first part that cannot be."""
        found = self
        for part in path:
            found = found.below(part, where)
        return found

    def _members(self) -> str:
        if self.kind is Kind.RECORD:
            return "it has " + (", ".join(self.positions) or "no members")
        if self.kind is Kind.ARRAY:
            return "elements of an array are written [0], [1], … and [+] for the next one"
        return "entries of a dict are written .name" if self.kind is Kind.DICT else "it is a single value"


def _part(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else repr(part)


#: The built-in types that a field can have by name.
SCALARS: dict[str, Type] = {kind.value: Type(kind.value, kind) for kind in Kind if not kind.compound}


def record(name: str, fields: Iterable[Field], desc: str = "") -> Type:
    """A record that no module has named."""
    return Type(name, Kind.RECORD, fields=tuple(fields), desc=desc)


class Fit(enum.Enum):
    """How values of one type become values of another."""

    SAME = "same"  # as they are, down to the layout in memory
    CONVERTED = "converted"  # member by member: an int becomes a float, fields that are not asked for stay behind


def fit(source: Type, target: Type) -> Fit | None:
    """How a value of `source` becomes one of `target`; None when it cannot."""
    if source is target:
        return Fit.SAME
    if source.kind is not target.kind:
        return Fit.CONVERTED if (source.kind, target.kind) == (Kind.INT, Kind.FLOAT) else None
    if source.kind is Kind.RECORD:
        return _fit_records(source, target)
    if source.member is not None and target.member is not None:
        return fit(source.member, target.member)
    if source.kind is Kind.FILE and not _same_content(source, target):
        return None
    return Fit.SAME


def _fit_records(source: Type, target: Type) -> Fit | None:
    same = len(source.fields) == len(target.fields)
    for place, wanted in enumerate(target.fields):
        position = source.positions.get(wanted.name)
        if position is None:
            if not wanted.opt:
                return None
            same = False
            continue
        each = fit(source.fields[position].type, wanted.type)
        if each is None:
            return None
        same = same and each is Fit.SAME and position == place
    return Fit.SAME if same else Fit.CONVERTED


def _same_content(source: Type, target: Type) -> bool:
    """Files of two types that declare different extensions are different things, unless one is derived from the other."""
    if source in target.chain() or target in source.chain():
        return True
    one, other = _extension(source), _extension(target)
    return not one or not other or one == other


def _extension(type: Type) -> str:
    return next((each.extension.lstrip(".").lower() for each in type.chain() if each.extension), "")
