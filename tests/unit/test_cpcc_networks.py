"""cpcc's commands for projects as networks: what they ask the server for, what they print, and what they refuse in one line."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from cpc.client import values
from cpc.core import plain
from cpc.core.errors import BadInput, Conflict, NotFound
from cpc.core.network_views import Changed, TransactionView
from cpc.core.views import UploadView
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc
from tests.helpers.fake_api import Raw, Sse, Turns
from tests.helpers.network_door import HERE, Door, api, cpcc, ref, refused

__all__ = ["api", "cpcc"]


# --- changing ---

CHANGES: list[tuple[str, list[dict[str, Any]]]] = [
    ("import gromacs", [{"edit": "import", "module": "gromacs"}]),
    ("instance float::add sum", [{"edit": "instance", "path": "sum", "function": "float::add"}]),
    ("rm-instance sum", [{"edit": "remove", "path": "sum"}]),
    ("connect a:out.x b:in.y", [{"edit": "connect", "source": "a:out.x", "target": "b:in.y"}]),
    ("disconnect b:in.y", [{"edit": "disconnect", "target": "b:in.y"}]),
    ("set a:in.x -5", [{"edit": "literal", "item": "a:in.x", "text": "-5"}]),
    ("set a:in.x -- -5", [{"edit": "literal", "item": "a:in.x", "text": "-5"}]),
    ("set a:in.x [1,2.5]", [{"edit": "literal", "item": "a:in.x", "text": "[1,2.5]"}]),
    ("unset a:in.x[2]", [{"edit": "unset", "item": "a:in.x[2]"}]),
    ("activate", [{"edit": "activate", "path": ""}]),
    ("activate a:b", [{"edit": "activate", "path": "a:b"}]),
    ("deactivate a", [{"edit": "deactivate", "path": "a"}]),
    ("hold", [{"edit": "deactivate", "path": ""}]),
    ("clear-error", [{"edit": "clear-error", "path": ""}]),
    ("force-rerun a", [{"edit": "rerun", "path": "a"}]),
]


@pytest.mark.parametrize(("line", "edits"), CHANGES)
def test_a_change_is_asked_for_in_one_call_and_told_in_the_servers_words(
    api: Door, cpcc: Cpcc, line: str, edits: list[dict[str, Any]]
) -> None:
    said = cpcc(*line.split())
    assert (said.code, said.out) == (0, "Done.\n"), said.err
    sent = [
        {"path": ""} | edit if edit["edit"] in ("activate", "deactivate", "clear-error") else edit
        for edit in api.edits[0]
    ]
    assert sent == edits


@pytest.mark.parametrize("line", [line for line, _ in CHANGES])
def test_a_change_that_is_refused_is_one_line_and_exit_code_one(api: Door, cpcc: Cpcc, line: str) -> None:
    api.network("POST", "edits", BadInput("a:in.x is of type int: 'abc' is none", "write it as 12"))
    assert "a:in.x is of type int: 'abc' is none (write it as 12)" in refused(cpcc(*line.split()))


@pytest.mark.parametrize("line", [line for line, _ in CHANGES])
def test_a_change_is_made_in_the_project_that_is_named_anywhere(api: Door, cpcc: Cpcc, line: str) -> None:
    api.on("POST", "/projects/other/edits", Changed(lines=("There.",)))
    name, *words = line.split()
    assert cpcc(name, "-p", "other", *words).out == "There.\n"
    assert api.edits == []


def test_a_change_in_a_transaction_says_that_it_waits(api: Door, cpcc: Cpcc) -> None:
    api.network("POST", "edits", Changed(lines=("Set a:in.x to 1",), level=2))
    assert cpcc("set", "a:in.x", "1").out == "Set a:in.x to 1\n(when transaction level 2 is committed)\n"


def test_clearing_errors_where_there_are_none_says_so(api: Door, cpcc: Cpcc) -> None:
    api.network("POST", "edits", Changed())
    assert cpcc("clear-error").out == "No errors cleared.\n"


def test_an_upload_carries_the_text_of_a_file(api: Door, cpcc: Cpcc) -> None:
    Path("net.xml").write_bytes(b"\xef\xbb\xbf<cpc><desc>\xc3\xa9</desc></cpc>")
    assert cpcc("upload", "net.xml").code == 0
    assert api.edits == [[{"edit": "define", "text": "<cpc><desc>é</desc></cpc>"}]]


def test_what_cannot_be_uploaded_is_named(api: Door, cpcc: Cpcc) -> None:
    Path("latin.xml").write_bytes(b"<cpc>\xe9</cpc>")
    assert "byte 5" in refused(cpcc("upload", "latin.xml"))
    assert "nosuch.xml" in refused(cpcc("upload", "nosuch.xml"))
    assert "Is a directory" in refused(cpcc("upload", "."))
    assert api.calls == []


# --- transactions ---


def test_a_transaction_is_looked_at_before_it_is_committed(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "transaction", TransactionView(level=1, edits=("Set a to 1",), changes=("b: 1 to 2",)))
    assert cpcc("diff").out == (
        "Transaction level 1 has recorded:\n   Set a to 1\nCommitting it would change:\n   b: 1 to 2\n"
    )


def test_a_transaction_that_cannot_be_committed_is_told_by_the_exit_code_too(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "transaction", TransactionView(level=1, edits=("Set a to 1",), problem="there is no a"))
    said = cpcc("diff")
    assert said.code == 1
    assert "cannot be committed now: there is no a" in said.out


def test_without_a_transaction_there_is_nothing_to_look_at_commit_or_roll_back(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "transaction", TransactionView(level=0))
    api.network("POST", "transaction/commit", Conflict("No transactions to commit."))
    api.network("DELETE", "transaction", Conflict("No transactions to cancel."))
    assert "no transaction is open" in refused(cpcc("diff"))
    assert "No transactions to commit." in refused(cpcc("commit"))
    assert "No transactions to cancel." in refused(cpcc("rollback"))


# --- values ---


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "None"), (float("inf"), "inf"), (float("nan"), "nan"),
        (True, "true"), (3, "3"), (41.0, "41"), (0.1 + 0.2, "0.30000000000000004"), (1e300, "1e+300"),
        ("two words", "two words"), ([], "[ ]"), ([2, 2], "[ 2, 2 ]"), ([1, None], "[ 1, None ]"),
        ({"a": 35.0, "b": 6.5}, "{ a : 35, b : 6.5 }"), ({}, "{ }"), (ref("conf.gro", b"x"), "conf.gro"),
        (["x" * 15] * 3, "[\n  xxxxxxxxxxxxxxx,\n  xxxxxxxxxxxxxxx,\n  xxxxxxxxxxxxxxx\n]"),
        ({"n": ["x" * 25] * 2}, "{\n  n : [\n    " + "x" * 25 + ",\n    " + "x" * 25 + "\n  ]\n}"),
    ],
)  # fmt: skip
def test_values_are_printed_as_people_know_them_and_floats_exactly(
    api: Door, cpcc: Cpcc, value: Any, shown: str
) -> None:
    api.network("GET", "value", sample.value("a:out.x", plain.wire(value)))
    assert cpcc("get", "a:out.x").out == f"a:out.x: {shown}\n"


def test_json_gives_the_value_as_it_is(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "value", sample.value("a:out.x", plain.wire({"f": ref("c", b"x"), "n": [0.1]})))
    said = cpcc("get", "a:out.x", "--json")
    assert plain.read(said.data["value"]) == {"f": ref("c", b"x"), "n": [0.1]}


def test_messages_keep_their_lines(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "value", sample.value("a.msg.error", "Traceback:\n\tline 3\n\x1b[2Jboom", "string"))
    assert cpcc("get", "a.msg.error").out == "a.msg.error: Traceback:\n    line 3\n·[2Jboom\n"


def test_an_unknown_item_is_one_line_and_exit_code_one(api: Door, cpcc: Cpcc) -> None:
    for what in ("value", "item", "instance-log", "network", "explain", "info"):
        api.network("GET", what, NotFound("there is no nosuch in villin", "see `cpcc ls`"))
    for line in (
        "get nosuch",
        "getf nosuch",
        "ls nosuch",
        "log nosuch",
        "graph nosuch",
        "explain nosuch",
        "info nosuch",
    ):
        assert "there is no nosuch" in refused(cpcc(*line.split()))
    assert list(Path().iterdir()) == []


def test_waiting_ends_with_the_value(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "value", Turns(sample.value("a:out.x", None), sample.value("a:out.x", 7.0)))
    api.network("GET", "item", sample.item(path="a"))
    api.on("GET", "/events/stream", lambda call: Sse([("1", "network.answered", sample.event(1))]))
    assert cpcc("get", "--wait", "a:out.x").out == "a:out.x: 7\n"


def test_waiting_ends_with_the_error_of_the_instance(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "value", sample.value("a:out.x", None))
    api.network("GET", "item", sample.item(path="a", own="error", error="A was negative!"))
    api.on("GET", "/events/stream", lambda call: Sse([], api.closing))
    said = cpcc("get", "--wait", "a:out.x")
    assert said.code == 1
    assert "A was negative!" in said.err
    assert api.asked("GET", f"{HERE}/item")[0].query["path"] == "a"


def test_waiting_ends_when_its_time_is_over(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "value", sample.value("a:out.x", None))
    api.network("GET", "item", sample.item(path="a"))
    api.on("GET", "/events/stream", lambda call: Sse([], api.closing))
    assert "no value after 0.2 s" in refused(cpcc("get", "--wait", "--timeout", "0.2", "a:out.x"))
    assert "--wait" in refused(cpcc("get", "--timeout", "3", "a:out.x"), 2)


# --- files ---


def test_files_are_uploaded_before_they_are_set_and_set_in_one_change(api: Door, cpcc: Cpcc) -> None:
    done = UploadView(id="u", size=1, received=1, done=True, digest="")
    api.network("POST", "uploads", done)
    for name in "abc":
        Path(name).write_text(name)
    assert cpcc("setf", "run:in.conf[+]", "a", "b", "./c").code == 0
    assert [edit["item"] for edit in api.edits[0]] == ["run:in.conf[+]"] * 3
    assert [plain.read(edit["value"]) for edit in api.edits[0]] == [ref(name, name.encode()) for name in "abc"]
    assert [call.path.rpartition("/")[2] for call in api.calls] == ["uploads"] * 3 + ["edits"]


def test_a_file_that_cannot_be_read_changes_nothing(api: Door, cpcc: Cpcc) -> None:
    Path("a").write_text("")
    assert "nosuch" in refused(cpcc("setf", "run:in.conf[+]", "a", "nosuch"))
    assert "run:in.conf takes one file, and 2 are given" in refused(cpcc("setf", "run:in.conf", "a", "a"))
    assert api.edits == []


def test_a_file_goes_to_where_it_is_wanted(api: Door, cpcc: Cpcc) -> None:
    api.holds("run:out.conf", b"water\n")
    assert cpcc("getf", "-f", "here.gro", "run:out.conf").out == "item run:out.conf saved in here.gro\n"
    assert Path("here.gro").read_bytes() == b"water\n"
    assert cpcc("get-file", "run:out.conf", "-o", "there").out == "Fetched 1 file into there\n"
    assert Path("there/data").read_bytes() == b"water\n"


def test_a_file_is_printed_byte_by_byte(api: Door, cpcc: Cpcc, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from cpc.client import main

    data = bytes(range(256)) * 1000
    api.holds("run:out.xtc", data)
    assert main.run(["--home", str(cpcc.home), "getf", "run:out.xtc"]) == 0
    assert capfdbinary.readouterr().out == data


def test_files_of_arrays_and_records_are_told_apart_by_where_they_are(api: Door, cpcc: Cpcc) -> None:
    api.holds("run:out", {"confs": [b"0", b"1"], "log": b"l", "energy": 3.0, "missing": None}, "record")
    assert cpcc("getf", "run:out", "-o", "out").out == "Fetched 3 files into out\n"
    found = {str(path.relative_to("out")): path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    assert found == {"confs/0/data": b"0", "confs/1/data": b"1", "log/data": b"l"}
    assert "-o DIR" in refused(cpcc("getf", "run:out"))


def test_names_that_others_chose_cannot_lead_out_of_the_directory() -> None:
    for way, name in ((("..", "x"), "y"), (("a/../../b",), "c"), ((), ".."), (("",), "/etc/passwd"), ((), "\x1b\n")):
        place = values.place(way, ref(name, b""))
        assert not place.is_absolute()
        assert ".." not in place.parts
        assert str(place).isprintable()


def test_what_is_there_already_is_not_replaced(api: Door, cpcc: Cpcc) -> None:
    api.holds("run:out.conf", b"new")
    Path("old").write_text("mine")
    assert "--force" in refused(cpcc("getf", "-f", "old", "run:out.conf"))
    assert Path("old").read_text() == "mine"
    assert cpcc("getf", "-f", "old", "run:out.conf", "--force").code == 0
    assert Path("old").read_bytes() == b"new"


def test_what_is_no_file_is_not_fetched(api: Door, cpcc: Cpcc) -> None:
    api.holds("sum:out.c", 3.0, "float")
    assert "is no file but of type float" in refused(cpcc("getf", "sum:out.c"))
    assert "no file in sum:out.c" in refused(cpcc("getf", "sum:out.c", "-o", "x"))
    api.holds("run:out.conf", None)
    assert "run:out.conf is not set" in refused(cpcc("getf", "run:out.conf"))
    refused(cpcc("getf", "run:out.conf", "-f", "x", "-o", "y"), 2)
    assert list(Path().iterdir()) == []


def test_a_file_that_arrives_damaged_is_not_kept(api: Door, cpcc: Cpcc) -> None:
    api.holds("run:out.conf", b"water")
    api.network("GET", "file", Raw(b"wader"))
    assert "did not arrive" in refused(cpcc("getf", "-f", "x", "run:out.conf"))
    assert list(Path().iterdir()) == []


# --- saving and loading ---


def test_a_saved_project_is_one_file_that_is_whole(api: Door, cpcc: Cpcc) -> None:
    api.network("GET", "archive", Raw(gzip.compress(b"x" * 30_000_000)))
    assert cpcc("save", "villin").out.startswith("Saved villin to villin.tar.gz (")
    assert gzip.decompress(Path("villin.tar.gz").read_bytes()) == b"x" * 30_000_000
    assert "--force" in refused(cpcc("save", "villin"))
    assert cpcc("save", "villin", "other.tgz", "--quiet").out == "other.tgz\n"


def test_a_project_that_broke_off_leaves_the_former_file(api: Door, cpcc: Cpcc) -> None:
    Path("villin.tar.gz").write_text("before")
    data = gzip.compress(bytes(range(256)) * 1000)
    for answer, words in (
        (Raw(data, cut=500), "broke off"),
        (Raw(data[:-1]), "broke off"),
        (Raw(b"dear"), "no archive"),
    ):
        api.network("GET", "archive", answer)
        assert words in refused(cpcc("save", "villin", "--force"))
    assert {path.name: path.read_text() for path in Path().iterdir()} == {"villin.tar.gz": "before"}


def loading(api: Door, answer: Any) -> None:
    api.on("POST", "/projects", sample.project("two"))
    api.on("POST", "/projects/two/uploads", UploadView(id="u", size=1, received=1, done=True, digest=""))
    api.on("POST", "/projects/two/load", answer)
    api.on("DELETE", "/projects/two", Raw(b"{}"))
    Path("v.tar.gz").write_bytes(b"\x1f\x8bsaved")


def test_a_project_is_loaded_and_made_the_current_one(api: Door, cpcc: Cpcc) -> None:
    loading(api, Changed(lines=("Loaded 3 instances",)))
    assert cpcc("load", "v.tar.gz", "two").out == "Loaded 3 instances\n"
    sent = api.asked("POST", "/projects/two/load")[0].json["file"]
    assert plain.read(sent) == ref("v.tar.gz", b"\x1f\x8bsaved")
    assert cpcc("pwd").out == "Working project: two\n"
    assert api.asked("DELETE", "/projects/two") == []


def test_a_project_that_cannot_be_loaded_is_not_left_behind(api: Door, cpcc: Cpcc) -> None:
    loading(api, BadInput("the archive has a member ../x", "save it again"))
    assert "../x" in refused(cpcc("load", "v.tar.gz", "two"))
    assert len(api.asked("DELETE", "/projects/two")) == 1
    assert cpcc("pwd").out == "Working project: villin\n"


def test_what_is_no_archive_makes_no_project(api: Door, cpcc: Cpcc) -> None:
    loading(api, Changed())
    Path("letter").write_text("dear")
    assert "not a saved project" in refused(cpcc("load", "letter", "two"))
    assert "nosuch" in refused(cpcc("load", "nosuch", "two"))
    assert api.calls == []


def test_a_project_that_exists_is_not_loaded_over(api: Door, cpcc: Cpcc) -> None:
    loading(api, Changed())
    api.on("POST", "/projects", Conflict("there is a project 'two' already"))
    assert "already" in refused(cpcc("load", "v.tar.gz", "two"))
    assert api.asked("DELETE", ".*") == []
