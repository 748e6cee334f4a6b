"""Whether a description of the API (OpenAPI) keeps what an earlier one has promised, in words where it does not.

What was taken must be taken: no input may leave, become necessary, or be taken in fewer types. What was answered must be
answered: no field may leave, be left out, or be of another type. More of either is fine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_TIGHTER = {  # bounds of an input: whether the new one takes less
    "maxLength": lambda old, new: new < old, "maximum": lambda old, new: new < old, "maxItems": lambda old, new: new < old,
    "exclusiveMaximum": lambda old, new: new < old, "minLength": lambda old, new: new > old,
    "minimum": lambda old, new: new > old, "minItems": lambda old, new: new > old,
    "exclusiveMinimum": lambda old, new: new > old, "pattern": lambda old, new: new != old,
}  # fmt: skip
_NONE = {"maxLength": float("inf"), "maximum": float("inf"), "maxItems": float("inf"), "exclusiveMaximum": float("inf"),
         "minLength": 0, "minimum": float("-inf"), "minItems": 0, "exclusiveMinimum": float("-inf"), "pattern": ""}  # fmt: skip


def broken(before: Schema, now: Schema) -> list[str]:
    """Every promise that is not kept; empty when all are."""
    return list(dict.fromkeys(_Comparison(before, now).all()))


class _Comparison:
    def __init__(self, before: Schema, now: Schema) -> None:
        self._before = before
        self._now = now
        self._seen: set[tuple[str, str, bool]] = set()

    def all(self) -> Iterator[str]:
        for path, methods in self._before["paths"].items():
            for method, old in methods.items():
                name = f"{method.upper()} {path}"
                new = self._now["paths"].get(path, {}).get(method)
                if new is None:
                    yield f"{name} is gone"
                else:
                    yield from self._operation(name, old, new)

    def _operation(self, name: str, old: Schema, new: Schema) -> Iterator[str]:
        if old["operationId"] != new["operationId"]:
            yield f"{name}: operationId {old['operationId']} is now {new['operationId']}"
        if not old.get("security") and new.get("security"):
            yield f"{name} needs a token now"
        yield from self._parameters(name, old, new)
        yield from self._body(name, old.get("requestBody"), new.get("requestBody"))
        for status, answer in old["responses"].items():
            if not status.startswith("2"):
                continue
            if status not in new["responses"]:
                yield f"{name} does not answer {status} any more"
                continue
            given = new["responses"][status].get("content", {})
            for kind, content in answer.get("content", {}).items():
                if kind not in given:
                    yield f"{name} does not answer {kind} any more"
                else:
                    yield from self._answer(f"{name} → ", content["schema"], given[kind]["schema"])

    def _parameters(self, name: str, old: Schema, new: Schema) -> Iterator[str]:
        then = {(each["in"], each["name"]): each for each in old.get("parameters", ())}
        there = {(each["in"], each["name"]): each for each in new.get("parameters", ())}
        for key, each in then.items():
            if key not in there:
                yield f"{name}: the {key[0]} parameter {key[1]} is not taken any more"
            else:
                yield from self._input(f"{name} ?{key[1]}", each["schema"], there[key]["schema"])
        for key, each in there.items():
            if each.get("required") and not then.get(key, {}).get("required"):
                yield f"{name}: the {key[0]} parameter {key[1]} is necessary now"

    def _body(self, name: str, old: Schema | None, new: Schema | None) -> Iterator[str]:
        if new is not None and new.get("required") and not (old or {}).get("required"):
            yield f"{name}: a body is necessary now"
        for kind, content in (old or {}).get("content", {}).items():
            given = (new or {}).get("content", {})
            if kind not in given:
                yield f"{name}: a body of {kind} is not taken any more"
            else:
                yield from self._input(f"{name} ← ", content["schema"], given[kind]["schema"])

    # --- schemas --------------------------------------------------------------------------------------------------------

    def _input(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        """What was taken is taken."""
        yield from self._compare(path, old, new, is_input=True)

    def _answer(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        """What was answered is answered."""
        yield from self._compare(path, old, new, is_input=False)

    def _compare(self, path: str, old: Schema, new: Schema, is_input: bool) -> Iterator[str]:
        if "$ref" in old and "$ref" in new:
            pair = (old["$ref"], new["$ref"], is_input)
            if pair in self._seen:
                return
            self._seen.add(pair)
            # From here on it has a name of its own, whoever refers to it first.
            path = f"{old['$ref'].rpartition('/')[2]}{' (taken)' if is_input else ''}"
        then, there = _forms(self._before, old), _forms(self._now, new)
        kinds, others = {_kind(each) for each in then}, {_kind(each) for each in there}
        more, less = (others, kinds) if is_input else (kinds, others)
        missing = {kind for kind in less if kind not in more and not (kind == "integer" and "number" in more)}
        if missing and "anything" not in more:
            yield f"{path} was {' or '.join(sorted(kinds))} and is {' or '.join(sorted(others))}"
            return
        for one in then:
            same = [each for each in there if _kind(each) == _kind(one) and _title(each) == _title(one)]
            same = same or [each for each in there if _kind(each) == _kind(one)]
            if same:
                yield from self._form(path, one, same[0], is_input)

    def _form(self, path: str, old: Schema, new: Schema, is_input: bool) -> Iterator[str]:
        if is_input:
            gone = [each for each in old.get("enum", ()) if "enum" in new and each not in new["enum"]]
            if gone:
                yield f"{path} does not take {', '.join(map(repr, gone))} any more"
            for bound, is_tighter in _TIGHTER.items():
                if bound in new and is_tighter(old.get(bound, _NONE[bound]), new[bound]):
                    yield f"{path} takes less: {bound} was {old.get(bound, 'not there')} and is {new[bound]}"
        if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
            yield from self._compare(f"{path}[]", old["items"], new["items"], is_input)
        if isinstance(old.get("additionalProperties"), dict) and isinstance(new.get("additionalProperties"), dict):
            yield from self._compare(f"{path}.*", old["additionalProperties"], new["additionalProperties"], is_input)
        then, there = old.get("properties", {}), new.get("properties", {})
        for name, schema in then.items():
            if name not in there:
                yield f"{path}.{name} is gone"
                continue
            yield from self._compare(f"{path}.{name}", schema, there[name], is_input)
        was, required = set(old.get("required", ())), set(new.get("required", ()))
        if is_input:
            yield from (f"{path}.{name} is necessary now" for name in sorted(required - was))
        else:
            yield from (f"{path}.{name} may be left out now" for name in sorted((was & set(there)) - required))


def _forms(document: Schema, schema: Schema) -> list[Schema]:
    """What a value may look like: references followed, alternatives one by one."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _forms(document, document["components"]["schemas"][name])
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [form for each in schema[word] for form in _forms(document, each)]
    return [schema]


def _kind(schema: Schema) -> str:
    if "enum" in schema and "type" not in schema:
        return {str: "string", int: "integer", bool: "boolean"}.get(type(schema["enum"][0]), "anything")
    return str(schema.get("type", "anything"))


def _title(schema: Schema) -> str:
    """Which structure a form is: its `kind`, where that tells several apart, or its title."""
    tag = schema.get("properties", {}).get("kind", {})
    return str(tag.get("enum", tag.get("const", ""))) + str(schema.get("title", ""))
