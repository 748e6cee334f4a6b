"""`cpcc graph`: a project's network as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cpc.client.commands import changing
from cpc.client.context import Context, pass_context
from cpc.client.output import harmless, plural
from cpc.core.errors import BadInput, Conflict

if TYPE_CHECKING:
    from cpc.client.drawing.chart import Chart

FORMATS = (".svg", ".png", ".dot")


@click.command("graph")
@click.argument("item", required=False, default="")
@click.option("-o", "file", metavar="FILE", help="Where to: .svg, .png or .dot; - is standard output, as SVG.")
@click.option("--dot", is_flag=True, help="Print it as text for Graphviz instead.")
@click.option(
    "--by-function/--by-instance", default=None,
    help="A box for each function, or for each instance; by default whatever is legible.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace the file if it is something else than a picture of this format.")
@pass_context
def graph(context: Context, item: str, file: str | None, dot: bool, by_function: bool | None, force: bool) -> None:
    """Draw the network of the project, or that within the instance ITEM, by default into a file NAME.svg.

    Boxes are instances, coloured by their state; lines are connections.
    """
    from cpc.client.drawing import chart

    network = changing.network(context)
    target = Path(file or f"{(item or network.project).replace(':', '.')}.svg")
    if file != "-" and not dot and target.suffix not in FORMATS:
        raise BadInput(f"{target} is not a picture that can be drawn", f"name a file that ends in {', '.join(FORMATS)}")
    found = network.drawing(item)
    drawn = chart.chart(found, f"{network.project}:{item}".rstrip(":"), by_function)
    if context.out.json:
        context.out.data("network", found, lambda: "")
    elif dot or file == "-":
        sys.stdout.write(picture(drawn, ".dot" if dot else ".svg").decode())
    else:
        write(target, picture(drawn, target.suffix), force)
        what = plural(len(found.instances), "instance")
        more = ", a box for each function" if drawn.by_function else ""
        context.out.data("network", found, lambda: harmless(f"Drew {what} into {target}{more}"), lambda: [str(target)])


def picture(chart: Chart, suffix: str) -> bytes:
    """A chart as the bytes of a file."""
    from cpc.client.drawing import dot, layout, png, svg

    if suffix == ".dot":
        return dot.render(chart).encode()
    placed = layout.lay_out(chart)
    return png.render(chart, placed) if suffix == ".png" else svg.render(chart, placed).encode()


BEGINNINGS = {".svg": b"<svg ", ".png": b"\x89PNG", ".dot": b"digraph "}


def write(target: Path, picture: bytes, force: bool) -> None:
    """An older picture is replaced; anything else only if it must be."""
    try:
        if target.exists() and not force:
            with open(target, "rb") as there:
                if not there.read(8).startswith(BEGINNINGS[target.suffix]):
                    raise Conflict(f"{target} exists, and is no picture of a network", "use --force to replace it")
        target.write_bytes(picture)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror}") from error
