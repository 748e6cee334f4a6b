"""Modules of functions and types: which there are, what is in them, made known to a project."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, table
from cpc.core.edits import Define, Import
from cpc.core.errors import BadInput

if TYPE_CHECKING:
    from cpc.core.network_views import FieldView, FunctionView, InfoView, TypeView

WIDTH = 72  # columns of a description


@click.command("list-modules")
@pass_context
def list_modules(context: Context) -> None:
    """List the modules that can be imported."""
    found = context.client().modules()

    def people() -> str:
        rows = [(one.name, one.version, one.problem or " ".join(one.desc.split())) for one in found]
        return "Available modules:\n" + table(("name", "version", ""), rows, margin=3)

    context.out.data("modules", found, people, lambda: [one.name for one in found])


@click.command("import")
@click.argument("module")
@pass_context
def import_module(context: Context, module: str) -> None:
    """Make the functions and types of a module known to the project."""
    changing.edit(context, Import(module), otherwise=f"Imported module {harmless(module)}")


@click.command("upload")
@click.argument("file")
@pass_context
def upload(context: Context, file: str) -> None:
    """Read types, functions, instances and connections from an XML file into the project. Instances are held."""
    changing.edit(context, Define(_text(file)), otherwise="Read file")


def _text(file: str) -> str:
    try:
        return Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file} is not XML in UTF-8: byte {error.start} is none of a text", "save it as UTF-8"
        ) from error


@click.command("info")
@click.argument("name")
@pass_context
def info(context: Context, name: str) -> None:
    """Describe a module, or a function or type of it: MODULE, MODULE::FUNCTION, MODULE::TYPE."""
    found = changing.network(context).info(name)
    context.out.data("info", found, lambda: _info(found), lambda: _names(found))


def _names(found: InfoView) -> list[str]:
    return [one.name for one in found.functions] + [one.name for one in found.types]


def _info(found: InfoView) -> str:
    """A module as a list; one function or type with all its fields."""
    if len(_names(found)) == 1 and _names(found) == [found.name]:
        return "\n".join([*map(_function, found.functions), *map(_type, found.types)])
    lines = [f"library {harmless(found.name)} {harmless(found.version)}".rstrip(), *_desc(found.desc, 1)]
    parts: tuple[tuple[str, Sequence[FunctionView | TypeView]], ...] = (
        ("functions", found.functions), ("types", found.types),
    )  # fmt: skip
    for title, things in parts:
        if things:
            lines.append(f" {title}:")
            for thing in things:
                lines += [f"    {harmless(_bare(thing.name))}", *_desc(thing.desc, 8)]
    return "\n".join(lines)


def _bare(name: str) -> str:
    return name.rpartition("::")[2]


def _function(found: FunctionView) -> str:
    lines = [f"function {harmless(found.name)} ({harmless(found.kind)})", *_desc(found.desc, 1)]
    parts = (
        ("inputs", found.inputs), ("outputs", found.outputs),
        ("sub-inputs", found.sub_inputs), ("sub-outputs", found.sub_outputs),
    )  # fmt: skip
    for title, fields in parts:
        lines += _fields(title, fields)
    return "\n".join(lines)


def _type(found: TypeView) -> str:
    of = f" of {found.member}" if found.member else ""
    return "\n".join(
        [
            f"type {harmless(found.name)} ({harmless(found.base + of)})",
            *_desc(found.desc, 1),
            *_fields("members", found.fields),
        ]
    )


def _fields(title: str, fields: Iterable[FieldView]) -> list[str]:
    lines = []
    for field in fields:
        flags = "".join(f", {FLAGS.get(flag, flag)}" for flag in field.flags)
        lines += [f"    {harmless(field.name)} ({harmless(field.type + flags)})", *_desc(field.desc, 8)]
    return [f" {title}:", *lines] if lines else []


FLAGS = {"opt": "optional"}


def _desc(text: str, columns: int) -> list[str]:
    indent = " " * columns
    words = harmless(" ".join(text.split()))
    return textwrap.wrap(words, WIDTH, initial_indent=indent, subsequent_indent=indent)
