"""A chart as text for Graphviz, for those who want to go on drawing."""

from __future__ import annotations

from cpc.client.drawing import colours
from cpc.client.drawing.chart import Box, Chart


def render(chart: Chart) -> str:
    """A digraph from left to right; lines are labelled with the input that they lead to."""
    lines = [
        f"digraph {_quoted(chart.title)} {{",
        "   rankdir=LR;",
        '   node [shape=box, style="rounded,filled", fontname="monospace"];',
        '   edge [fontname="monospace", fontsize=10];',
    ]
    lines += [f"   n{number} [{_box(box)}];" for number, box in enumerate(chart.boxes)]
    for line in chart.lines:
        count = f" × {line.count}" if line.count > 1 else ""
        lines.append(f"   n{line.source} -> n{line.target} [label={_quoted(line.input + count)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _box(box: Box) -> str:
    fill, stroke = colours.of(box.states, box.border)
    label = "\n".join(filter(None, (box.title, box.subtitle)))
    return f"label={_quoted(label)}, fillcolor={_quoted(fill)}, color={_quoted(stroke)}"


def _quoted(text: str) -> str:
    clean = "".join(letter if letter.isprintable() or letter == "\n" else "·" for letter in text)
    return '"' + clean.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
