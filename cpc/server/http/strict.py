"""Reading what people send: JSON bodies and query strings into declared types, with nothing unknown let through."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote_to_bytes

import msgspec

from cpc.core.errors import BadInput

T = TypeVar("T")

MAX_PARAMETERS = 50


class Json(Generic[T]):
    """A decoder for one body type. Unknown fields are refused at every depth, with their path.

    The types of core are shared with the machine door, where unknown keys must be ignored, so they do not refuse them by
    themselves: a twin of the type, whose leaves are skipped and not read, looks at the names only. `newer`: unknown fields
    are ignored.
    """

    def __init__(self, kind: type[T], newer: bool = False) -> None:
        self.kind = kind
        self._read = msgspec.json.Decoder(kind)
        names = msgspec.Raw if newer else _names(kind)
        self._names = None if names is msgspec.Raw else msgspec.json.Decoder(names)

    def decode(self, raw: bytes) -> T:
        """The value, or BadInput that says where and why. An empty body is `{}`."""
        raw = raw or b"{}"
        try:
            if self._names is not None:
                self._names.decode(raw)
            value = self._read.decode(raw)
            if b"\\u0000" in raw:
                _no_nul(msgspec.json.decode(raw), "$")
        except RecursionError:
            raise BadInput("the body is nested too deeply") from None
        except msgspec.ValidationError as error:
            raise BadInput(_in_words(str(error))) from None
        except (msgspec.DecodeError, ValueError):
            raise BadInput("the body is not JSON", "send one JSON object in UTF-8") from None
        return value


class Query(Generic[T]):
    """A decoder for one query type: each parameter once, lists with commas, nothing unknown."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind
        hints = get_type_hints(kind)
        self._lists = {name for name, hint in hints.items() if get_origin(hint) is tuple}
        self._optional = {name for name, hint in hints.items() if type(None) in get_args(hint)}

    def decode(self, raw: bytes) -> T:
        """The value of a raw query string, or BadInput that names the parameter."""
        given: dict[str, Any] = {}
        pairs = [pair for pair in raw.split(b"&") if pair]
        if len(pairs) > MAX_PARAMETERS:
            raise BadInput(f"more than {MAX_PARAMETERS} query parameters")
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            key = text_of(name.replace(b"+", b" "), "a query parameter's name")
            if key in given:
                raise BadInput(f"query parameter {key[:80]!r} is there twice")
            given[key] = text_of(value.replace(b"+", b" "), f"query parameter {key[:80]!r}")
        for listed in self._lists & given.keys():
            given[listed] = tuple(part for part in given[listed].split(",") if part)
        for optional in self._optional & given.keys():
            if given[optional].lower() == "null":  # msgspec would take it for None
                raise BadInput(f"query parameter {optional!r} is null", "leave it out instead")
        try:
            return msgspec.convert(given, self.kind, strict=False)
        except (msgspec.ValidationError, ValueError, OverflowError) as error:
            raise BadInput("in the query: " + _in_words(str(error))) from None


def text_of(raw: bytes, what: str) -> str:
    """Percent-decoded UTF-8 text without NUL, or BadInput that names `what`."""
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{what} is not UTF-8") from None
    if "\0" in text:
        raise BadInput(f"{what} holds a NUL character")
    return text


def _in_words(message: str) -> str:
    """msgspec's message, which ends in `at `$.path``, without backticks."""
    return message.replace("`", "'")


def _no_nul(value: Any, path: str) -> None:
    if isinstance(value, str) and "\0" in value:
        raise BadInput(f"a NUL character cannot be in a text - at '{path}'")
    if isinstance(value, dict):
        for name, inner in value.items():
            _no_nul(name, path)
            _no_nul(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _no_nul(inner, f"{path}[{number}]")


def _names(kind: Any) -> Any:
    """A type that accepts what `kind` accepts and more, but no unknown names; Raw where there are none below."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _twin(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _names(inner[0])
    if origin in (tuple, list):
        return list[_list_item(inner)] if _list_item(inner) is not msgspec.Raw else msgspec.Raw  # type: ignore[misc]
    if origin is dict:
        below = _names(inner[1])
        return msgspec.Raw if below is msgspec.Raw else dict[str, below]  # type: ignore[valid-type]
    if origin in (Union, types.UnionType):
        twins = [twin for twin in map(_names, inner) if twin is not msgspec.Raw]
        return Union[twins[0], None] if len(twins) == 1 and type(None) in inner else msgspec.Raw  # noqa: UP007
    return msgspec.Raw


def _list_item(inner: tuple[Any, ...]) -> Any:
    return _names(inner[0]) if inner else msgspec.Raw


_twins: dict[type, Any] = {}


def _twin(kind: type[msgspec.Struct]) -> Any:
    found = _twins.get(kind)
    if found is None:
        hints = get_type_hints(kind, include_extras=True)
        fields: list[tuple[str, Any, Any]] = [
            (field, _names(hints[field]) | msgspec.UnsetType, msgspec.UNSET) for field in kind.__struct_fields__
        ]
        make: Callable[..., Any] = msgspec.defstruct
        found = _twins[kind] = make(kind.__name__, fields, forbid_unknown_fields=True)
    return found
