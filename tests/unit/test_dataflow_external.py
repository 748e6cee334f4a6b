"""External programs of the original read and write the form that they always did."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.digest import of_chunks
from cpc.core.errors import BadInput
from cpc.core.plain import FileRef, wire
from cpc.dataflow import external
from cpc.dataflow.answer import FinishedJob, StepInput
from cpc.dataflow.types import SCALARS, Field, Kind, Type, record

CONTENT = of_chunks([b"atoms"])
INTS = Type("m::ints", Kind.ARRAY, member=SCALARS["int"])
INPUTS = record(
    "f:in",
    [
        Field("xs", INTS),
        Field("text", SCALARS["string"]),
        Field("on", SCALARS["bool"]),
        Field("r", SCALARS["float"]),
        Field("conf", SCALARS["file"]),
        Field("most", Type("m::most", Kind.DICT, member=SCALARS["int"])),
    ],
)
NONE = record("", [])


def given_to(
    program_inputs: dict[str, Any], finished: FinishedJob | None = None, updated: tuple[str, ...] = ()
) -> ET.Element:
    step = StepInput(
        project="p", instance="a", function="m::f", number=4, inputs=program_inputs, updated=updated,
        files={CONTENT.digest.hex(): "/run/files/conf.gro"}, output_dir="/run/out", base_dir="/run",
    )  # fmt: skip
    return ET.fromstring(external.write(step, (INPUTS, NONE, NONE, NONE), finished))


def test_inputs_are_typed_elements_with_what_is_new() -> None:
    found = given_to(
        {"xs": [1, None, 3], "on": True, "r": 0.1, "conf": wire(FileRef("conf.gro", CONTENT)), "most": {"cores": 2}},
        updated=("in.xs[2]", "in.most.cores"),
    )
    assert (found.tag, found.get("version")) == ("function-input", "1")
    env = found.find("env")
    assert env is not None
    assert env.attrib == {"output_dir": "/run/out", "base_dir": "/run"}
    by_field = {each.get("field"): each for each in found.findall("inputs/*")}
    xs = by_field["xs"]
    assert (xs.tag, xs.attrib) == ("array", {"type": "m::ints", "field": "xs", "seqnr": "4", "updated": "1"})
    assert [(each.tag, each.get("value"), each.get("updated")) for each in xs] == [
        ("int", "1", "0"), ("int", None, "0"), ("int", "3", "1"),
    ]  # fmt: skip
    assert by_field["on"].get("value") == "true"
    assert by_field["r"].get("value") == "0.1"
    assert by_field["conf"].get("value") == "/run/files/conf.gro"
    assert [(each.get("field"), each.get("value")) for each in by_field["most"]] == [("cores", "2")]


def test_the_finished_command_is_handed_in() -> None:
    found = given_to({}, FinishedJob(0, "57", succeeded=False, argv=("a b", "<"), exit_code=3, directory="/run/57"))
    command = found.find("commands/command")
    assert command is not None
    assert command.get("return_code") == "3"
    assert command.get("dir") == "/run/57"
    assert [each.get("value") for each in command] == ["a b", "<"]


@given(st.text())
def test_every_text_arrives_as_it_is_or_is_refused(text: str) -> None:
    try:
        found = given_to({"text": text})
    except BadInput:
        assert any(char < " " or char >= "\ufffe" for char in text)
        return
    value = found.find("inputs/string")
    assert value is not None
    assert value.get("value") == text


def test_outputs_instances_connections_and_commands_are_read() -> None:
    answer, commands = external.read("""<?xml version="1.0"?>
    <function-output version="1">
      <outputs>
        <value id="ys[0]"><float type="float" value="1.5"/></value>
        <value id="all"><array type="m::ints"><int value="1"/><int/></array></value>
        <value id="fit">
          <record type="m::fit"><float field="slope" value="2"/><file field="conf" value="out.gro"/></record>
        </value>
      </outputs>
      <subnet-outputs><value id="n"><bool value="true"/></value></subnet-outputs>
      <new-instances><instance id="s0" function="gromacs::mdrun"/></new-instances>
      <new-connections>
        <connection src="self:ext_in.x" dst="s0:in.x"/><connection value="3" type="int" dst="s0:in.n"/>
      </new-connections>
      <commands cancel_prev="yes">
        <command executable="math/double" dir="0" add_priority="-2" min_version="1.0">
          <arg value="2"/><env name="A" value="b"/><output_file name="out"/>
          <min-required><resource name="cores" value="2"/></min-required><max-allowed><cores value="8"/></max-allowed>
        </command>
      </commands>
      <warning msg="hm"/>
    </function-output>""")
    assert answer.outputs == (
        ("ys[0]", 1.5), ("all", [1, None]), ("fit", {"slope": 2.0, "conf": {external.PATH: "out.gro"}}),
    )  # fmt: skip
    assert answer.sub_outputs == (("n", True),)
    assert answer.instances == (("s0", "gromacs::mdrun"),)
    assert answer.connections == (("self:ext_in.x", "s0:in.x"),)
    assert answer.values == (("s0:in.n", 3),)
    assert (answer.cancel_jobs, answer.warning, answer.error) == (True, "hm", "")
    assert commands == (
        external.Command(
            "0",
            "math/double",
            ("2",),
            -2,
            "1.0",
            env={"A": "b"},
            output_files=("out",),
            least={"cores": 2},
            most={"cores": 8},
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no element found"),
        ("Traceback (most recent call last):", "the program's output"),
        ("<other/>", "the root element is <other>"),
        ('<function-output version="9"/>', "version '9'"),
        ('<function-output><outputs><value id="x"/></outputs></function-output>', "a <value> holds one typed value"),
        (
            '<function-output><outputs><value id="x"><int value="1.5"/></value></outputs></function-output>',
            "'1.5' is not an int",
        ),
        (
            '<function-output><outputs><value id="x"><blob/></value></outputs></function-output>',
            "no type of values 'blob'",
        ),
    ],
)
def test_output_that_is_not_in_the_form_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        external.read(text)
