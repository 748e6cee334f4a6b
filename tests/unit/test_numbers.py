"""Numbers on command lines: one line says what is expected, whatever was written instead."""

from __future__ import annotations

import math

import click
import pytest

from cpc.client.main import cpcc
from cpc.core.numbers import PRIORITY, Real, Whole
from cpc.server.main import cpc_server


@pytest.mark.parametrize(
    ("kind", "written", "said"),
    [
        (Whole(1, 65535, "a port"), "abc", "'abc' is not a port, which is a whole number from 1 to 65535"),
        (Whole(1, 65535, "a port"), "65536", "'65536' is not a port, which is a whole number from 1 to 65535"),
        (Whole(1), "0", "'0' is not a whole number of at least 1"),
        (Whole(1), "1.5", "'1.5' is not a whole number of at least 1"),
        (Whole(None, 7), "8", "'8' is not a whole number of at most 7"),
        (PRIORITY, "31", "'31' is not a priority, which is a whole number from -30 to 30; higher comes first"),
        (Real(0, 7300, above=True), "0", "'0' is not a number above 0 and at most 7300"),
        (Real(0, above=True), "-1", "'-1' is not a number above 0"),
        (Real(0), "nan", "'nan' is not a number of at least 0"),
        (Real(0), "inf", "'inf' is not a number of at least 0"),
        (Real(0.1, 86400), "soon", "'soon' is not a number from 0.1 to 86400"),
    ],
)
def test_another_number_is_told_what_is_expected(kind: click.ParamType, written: str, said: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        kind.convert(written, None, None)
    assert refused.value.message == said


def test_the_ends_of_a_range_are_in_it() -> None:
    assert [Whole(1, 3).convert(text, None, None) for text in ("1", "3")] == [1, 3]
    assert [Real(0.5, 2).convert(text, None, None) for text in ("0.5", "2")] == [0.5, 2.0]
    assert Whole().convert("-7", None, None) == -7
    assert math.isclose(Real(0, 1, above=True).convert("1e-9", None, None), 1e-9)


def test_who_changes_the_order_of_servers_is_told_what_a_priority_is() -> None:
    with pytest.raises(
        click.BadParameter, match="whole number from 0 to 1000000; the server with 0 is asked first, and"
    ):
        cpcc.main(["node-pri", "lab.example.org", "2"], standalone_mode=False)


def test_no_command_speaks_of_ranges_as_click_does() -> None:
    """`cpcc` and `cpc-server`: every option and argument with a range is one of these."""
    todo: list[click.Command] = [cpcc, cpc_server]
    seen = 0
    while todo:
        command = todo.pop()
        for each in command.params:
            seen += isinstance(each.type, Whole | Real)
            if isinstance(each.type, click.IntRange | click.FloatRange):
                assert isinstance(each.type, Whole | Real), f"{command.name} {each.name}"
        if isinstance(command, click.Group):
            found = (
                command.get_command(click.Context(command), name)
                for name in command.list_commands(click.Context(command))
            )
            todo += [one for one in found if one is not None]
    assert seen > 20
