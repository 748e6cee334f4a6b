"""cpcc's commands for projects as networks: what they show: descriptions, explanations, pictures, what happens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cpc.core.errors import NotFound
from cpc.core.network_views import Changed, ExplainView, FieldView, LinkView, NetworkView
from cpc.core.views import LogView
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc
from tests.helpers.fake_api import Call, Cut, Turns
from tests.helpers.network_door import HERE, Door, api, cpcc, refused

__all__ = ["api", "cpcc"]


# --- looking ---


def test_an_instance_is_described_with_its_values_messages_and_what_it_does(api: Door, cpcc: Cpcc) -> None:
    flags = FieldView(name="mdp", type="file", flags=("opt", "complete"), source="prep:out.mdp", set=True)
    found = sample.item(
        inputs=(*sample.fields("a"), flags), own="active", state="error", running="waits for 2 jobs", jobs=("57", "58"),
        warning="odd\nbox", instances=(sample.instance("sim_0", "gromacs::mdrun", "error"),), count=1,
        states={"error": 1, "active": 3},
    )  # fmt: skip
    api.network("GET", "item", found)
    assert cpcc("ls", "sum").out.splitlines() == [
        "Instance sum:", "Instance of: float::add", "State: active, error within",
        "Now: it waits for 2 jobs (57, 58)", "Warning:", "   odd", "   box", "Inputs:", "   a: float  (not set)",
        "   mdp: file, optional, complete  from prep:out.mdp", "Outputs:", "   c: float", "Function instances:",
        "   sim_0 (error)", "In it: 4 instances: 3 active, 1 error", "CPU-seconds used in this instance: 3",
        "CPU-seconds used in this instance and its sub-instances: 13",
    ]  # fmt: skip


def test_a_value_is_described_with_its_members(api: Door, cpcc: Cpcc) -> None:
    members = (FieldView(name="[0]", type="int", set=True), FieldView(name="[1]", type="int"))
    found = sample.item(kind="value", path="db:in.numbers", type="int_array", members=members, count=100_000)
    api.network("GET", "item", found)
    assert cpcc("list", "db:in.numbers").out.splitlines() == [
        "Input/Output Value db:in.numbers:", "Type: int_array", "Sub-items:", "   [0]: int", "   [1]: int  (not set)",
        "   … 100000 in all (`cpcc get` shows them)",
    ]  # fmt: skip


def test_a_network_of_a_hundred_thousand_instances_is_a_page(api: Door, cpcc: Cpcc) -> None:
    shown = [sample.instance(f"i{at}") for at in range(100)]
    states = {"active": 99_990, "error": 10}
    api.network("GET", "item", sample.top(*shown, count=100_000, next="i99", states=states))
    lines = cpcc("ls").out.splitlines()
    assert len(lines) < 110
    assert lines[-2:] == [
        "   … 100000 instances in all (--all shows them, --after i99 goes on)",
        "In it: 100000 instances: 99990 active, 10 error",
    ]
    assert api.asked("GET", f"{HERE}/item")[0].query == {"limit": "100"}


def test_programs_get_all_instances(api: Door, cpcc: Cpcc) -> None:
    def page(call: Call) -> Any:
        first = int(call.query.get("after", "-1")) + 1
        found = [sample.instance(str(at)) for at in range(first, min(first + int(call.query["limit"]), 2500))]
        return sample.top(*found, next=found[-1].name if found[-1].name != "2499" else "")

    api.network("GET", "item", page)
    assert cpcc("ls", "--quiet").out.split() == [str(at) for at in range(2500)]
    assert len(cpcc("ls", "--json").data["instances"]) == 2500
    assert len(cpcc("ls", "--all").out.splitlines()) == 2502
    assert len(cpcc("ls", "--after", "99", "--quiet").out.split()) == 100


def test_a_log_is_printed_whole(api: Door, cpcc: Cpcc) -> None:
    def part(call: Call) -> LogView:
        offset = int(call.query["offset"])
        return LogView(stream="log", offset=offset, data=f"line {offset}\n", end=offset == 14, next=offset + 7)

    api.network("GET", "instance-log", part)
    assert cpcc("log", "a").out == "line 0\nline 7\nline 14\n"


def test_a_functions_interface_is_described(api: Door, cpcc: Cpcc) -> None:
    module = sample.info()
    api.network("GET", "info", msgspec.structs.replace(module, name="float::add", types=()))
    assert cpcc("info", "float::add").out == (
        "function float::add (inline)\n Adds: c=a+b.\n inputs:\n    a (float)\n    b (float)\n"
    )
    api.network("GET", "info", msgspec.structs.replace(module, name="float::numbers", functions=()))
    assert cpcc("info", "float::numbers").out == "type float::numbers (array of float)\n"


def test_the_status_says_how_the_network_is_and_how_to_get_at_errors(api: Door, cpcc: Cpcc) -> None:
    states = {"active": 2, "error": 1}
    api.on("GET", "/projects/villin", sample.project(instances=states, errors=("run:sim_0",)))
    said = cpcc("status", "villin").out
    assert "   3 function instances, of which\n         2 in state 'active'\n         1 in state 'error'\n" in said
    assert "        cpcc get run:sim_0.msg.error\n" in said


def test_an_explanation_goes_back_as_far_as_it_is_asked(api: Door, cpcc: Cpcc) -> None:
    first = sample.step(instance="prep", inputs=(LinkView(source="", target="prep:in.conf"),), jobs=())
    chain = {
        "run:out.conf": ExplainView(path="run:out.conf", step=sample.step()),
        "run:in.tpr": ExplainView(path="run:in.tpr", via=("prep:out.tpr",), step=first),
        "prep:in.conf": ExplainView(path="prep:in.conf", set_by="user:alice", set_at=sample.NOW),
    }
    api.network("GET", "explain", lambda call: chain[call.query["path"]])
    assert cpcc("explain", "run:out.conf", "--quiet").out.split() == ["run:out.conf"]
    said = cpcc("explain", "run:out.conf", "--depth", "9").out
    for words in (
        "made by run 3 of run", "function gromacs::mdrun 3.0.0", "with run:in.tpr from prep:out.tpr",
        "by job 57, attempt 2, worker w1 on node1, gromacs/mdrun 2022.5", "follows prep:out.tpr", "set by user:alice",
    ):  # fmt: skip
        assert words in said
    assert said.count("made by run") == 2


def test_what_was_computed_at_once_has_no_run(api: Door, cpcc: Cpcc) -> None:
    step = sample.step(instance="sum", function="float::add", number=0, jobs=(), state="computed")
    api.network("GET", "explain", ExplainView(path="sum:out.c", step=step))
    assert "   computed by sum, 2025-" in cpcc("explain", "sum:out.c").out


# --- pictures ---


def test_a_picture_is_written_in_the_format_of_its_name(api: Door, cpcc: Cpcc) -> None:
    link = LinkView(source="a:out.c", target="b:in.a")
    api.network(
        "GET", "network", NetworkView(path="", instances=(sample.instance("a"), sample.instance("b")), links=(link,))
    )
    assert cpcc("graph").out == "Drew 2 instances into villin.svg\n"
    assert Path("villin.svg").read_text().startswith("<svg ")
    assert cpcc("graph", "-o", "net.png").code == 0
    assert Path("net.png").read_bytes().startswith(b"\x89PNG")
    assert cpcc("graph", "--dot").out.startswith('digraph "villin" {')
    assert cpcc("graph", "-o", "-").out == Path("villin.svg").read_text()
    assert cpcc("graph").code == 0, "an older picture is replaced"
    Path("villin.svg").write_text("my letter")
    assert "no picture" in refused(cpcc("graph"))
    assert Path("villin.svg").read_text() == "my letter"


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_server_is_asked(api: Door, cpcc: Cpcc) -> None:
    assert "net.bmp" in refused(cpcc("graph", "-o", "net.bmp"))
    assert api.calls == []


def test_without_pillow_a_png_is_refused_with_what_to_do(
    api: Door, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    api.network("GET", "network", NetworkView(path="", instances=(sample.instance("a"),)))
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert "pip install" in refused(cpcc("graph", "-o", "net.png"))
    assert list(Path().iterdir()) == []


# --- watching ---


def test_a_project_is_watched_with_its_network(api: Door, cpcc: Cpcc) -> None:
    from cpc.client.commands import live

    api.on("GET", "/status", sample.status(api.info))
    api.on("GET", "/projects/villin", sample.project(instances={"active": 1, "error": 1}, errors=("run",)))
    api.on("GET", "/projects/villin/arrays", [sample.array()])
    running = sample.instance("sum", running="waits for 3 jobs")
    api.network("GET", "item", sample.top(running, sample.instance("run", state="error")))
    text = live._project(api.client(), "villin")
    for words in ("2 instances: 1 active, 1 error", "cpcc get run.msg.error", "waits for 3 jobs", "sim {seed}"):
        assert words in text


def test_only_a_project_that_is_there_is_watched(api: Door, cpcc: Cpcc) -> None:
    api.on("GET", "/projects/nosuch", NotFound("there is no project nosuch"))
    assert "no project nosuch" in refused(cpcc("watch", "nosuch"))


def test_a_lost_reply_changes_nothing_twice(api: Door, cpcc: Cpcc) -> None:
    api.network("POST", "edits", Turns(Cut, Changed(lines=("Set it.",))))
    assert cpcc("set", "a:in.x[+]", "1").out == "Set it.\n"
    keys = [call.headers["idempotency-key"] for call in api.asked("POST", f"{HERE}/edits")]
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_the_json_of_a_hostile_answer_is_printed_as_data(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "value", sample.value("a", "\x1b[2J"))
    assert json.loads(cpcc("get", "a", "--json").out)["data"]["value"] == "\x1b[2J"
