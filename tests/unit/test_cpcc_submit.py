"""`submit` and `run`: what is sent, what is refused before anything is sent, how they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cpc.core.errors import BadInput, Unavailable
from cpc.core.views import LogView, Submitted, UploadView
from tests.helpers import sample_views as sample
from tests.helpers.command_line import Cpcc
from tests.helpers.fake_api import Call, FakeApi, Sse, Turns, fake_api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    (tmp_path / "door").mkdir()
    with fake_api(tmp_path / "door") as running:
        running.on("POST", "/projects/villin/jobs", Submitted(id="57", size=1))
        running.on("POST", "/projects/villin/uploads", _uploaded)
        yield running


def _uploaded(call: Call) -> UploadView:
    size = call.json["size"]
    return UploadView(id="u", size=size, received=size, done=True, digest=call.json["digest"])


@pytest.fixture
def cpcc(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cpcc:
    api.configure(tmp_path / "home")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Cpcc(tmp_path / "home")


def sent(api: FakeApi) -> dict[str, Any]:
    """The one spec that was submitted."""
    (call,) = api.asked("POST", "/projects/villin/jobs")
    found: dict[str, Any] = call.json["spec"]
    return found


def test_the_jobs_own_options_are_its_own(api: FakeApi, cpcc: Cpcc) -> None:
    said = cpcc("submit", "--", "sim", "-p", "5", "--json", "--", "-n", "a b")
    assert said.code == 0
    assert sent(api)["argv"] == ["sim", "-p", "5", "--json", "--", "-n", "a b"]


@pytest.mark.parametrize(
    "words", [("sim", "-x"), ("sim",), ("--name", "a", "sim", "--", "real"), (), ("--",), ("--cores", "0", "--", "x")]
)
def test_a_command_line_that_is_not_clear_is_refused_as_such(api: FakeApi, cpcc: Cpcc, words: tuple[str, ...]) -> None:
    said = cpcc("submit", *words)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert api.calls == []


def test_files_and_directories_are_sent_with_their_places(api: FakeApi, cpcc: Cpcc) -> None:
    Path("data/deep").mkdir(parents=True)
    Path("data/a").write_text("1")
    Path("data/deep/b").write_text("2")
    Path("data/around").symlink_to("..")  # a circle
    Path("tool").write_text("#!/bin/sh")
    Path("tool").chmod(0o755)
    Path("odd:name").write_text("3")
    Path("in.txt").write_text("4")
    words = ("--input", "data", "--input", "data:copy/of", "--input", "tool:bin/tool", "--input", "odd:name")
    assert cpcc("submit", *words, "--stdin", "in.txt", "--", "bin/tool").code == 0
    spec = sent(api)
    inputs = {entry["path"]: entry.get("executable", False) for entry in spec["inputs"]}
    wanted = {"data/a", "data/deep/b", "copy/of/a", "copy/of/deep/b", "bin/tool", "odd:name", "in.txt"}
    assert wanted <= set(inputs)
    assert inputs["bin/tool"]
    assert not inputs["data/a"]
    assert spec["stdin"] == "in.txt"


def test_the_contents_of_a_directory_may_go_to_the_top(api: FakeApi, cpcc: Cpcc) -> None:
    Path("data").mkdir()
    Path("data/a").write_text("1")
    assert cpcc("submit", "--input", "data:.", "--", "x").code == 0
    assert [entry["path"] for entry in sent(api)["inputs"]] == ["a"]


def test_a_table_makes_an_array(api: FakeApi, cpcc: Cpcc) -> None:
    Path("runs.csv").write_text('\ufeffseed, label\n1,"a, b"\n\n2,"two\nlines"\n', encoding="utf-8")
    assert cpcc("submit", "--from-csv", "runs.csv", "--", "sim", "{seed}").code == 0
    spec = sent(api)
    assert spec["array"] == 2
    assert spec["table"] == {"columns": ["seed", "label"], "rows": [["1", "a, b"], ["2", "two\nlines"]]}


def test_words_in_braces_that_are_no_columns_stay_and_are_told(api: FakeApi, cpcc: Cpcc) -> None:
    Path("runs.csv").write_text("seed,temperature\n1,300\n")
    words = (
        "--from-csv",
        "runs.csv",
        "--env",
        "T={temp}",
        "--",
        "awk",
        "{print}",
        "{seed}",
        "{index}",
        "{temp} { $1 } {}",
    )
    said = cpcc("submit", *words)
    assert sent(api)["argv"][1:] == ["{print}", "{seed}", "{index}", "{temp} { $1 } {}"]
    note = "{print}, {temp} stay as they are; this array fills in {index}, {seed}, {temperature}"
    assert said.err.splitlines() == [f"Note: {note}"]
    assert cpcc("--quiet", "submit", *words).err == ""
    assert cpcc("--json", "submit", *words).err == ""
    api.on("POST", "/projects/villin/jobs", Submitted(id="", size=1, dry_run=True))
    assert f"   Note: {note}" in cpcc("submit", "--dry-run", *words).out.splitlines()


@pytest.mark.parametrize(
    "words",
    [("--array", "3", "--", "echo", "{index}"), ("--", "echo", "{seed}"), ("--array", "2", "--", "echo", "{ a }")],
)
def test_braces_that_nobody_could_mean_as_a_column_are_not_talked_about(
    api: FakeApi, cpcc: Cpcc, words: tuple[str, ...]
) -> None:
    assert cpcc("submit", *words).err == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "holds no rows"), (b"a,b\n", "holds no rows"), (b"a,b\n1,2\n3\n", "line 3: 1 fields"),
        (b"a,b\n\xff,1\n", "not UTF-8"), (b'a,b\n"1,2\n', "line"), (b"a,a\n1,2\n", "same name"),
        (b"a b\n1\n", "cannot be a column"), (b"index\n1\n", "cannot be a column"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_told_with_its_line(api: FakeApi, cpcc: Cpcc, text: bytes, words: str) -> None:
    Path("runs.csv").write_bytes(text)
    said = cpcc("submit", "--from-csv", "runs.csv", "--", "x")
    assert said.code == 1
    assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert api.calls == []


@pytest.mark.parametrize(
    "words",
    [
        ("--input", "nothing"), ("--input", "pipe"), ("--stdin", "nothing"), ("--input", "a", "--input", "a"),
        ("--input", "a:../out"), ("--input", "a:/etc/passwd"), ("--memory", "much"), ("--walltime", "soon"),
        ("--spec", "nothing.json"), ("--spec", "a"), ("--versions", "new"), ("--after", "x"), ("--env", "1=2"),
        ("--label", "a b"), ("--max-cores", "2", "--cores", "4"), ("--name", "a\nb"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_before_anything_is_sent(
    api: FakeApi, cpcc: Cpcc, words: tuple[str, ...]
) -> None:
    Path("a").write_text("1")
    os.mkfifo("pipe")
    said = cpcc("submit", *words, "--", "x")
    assert said.code == 1, said
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert api.calls == []


def test_a_dry_run_uploads_nothing(api: FakeApi, cpcc: Cpcc) -> None:
    Path("a").write_text("1")
    answer = Submitted(id="", size=1, dry_run=True, warnings=("no worker has 900 cores",))
    api.on("POST", "/projects/villin/jobs", answer)
    said = cpcc("submit", "--dry-run", "--input", "a", "--cores", "900", "--", "x")
    assert "nothing was stored" in said.out
    assert "no worker has 900 cores" in said.out
    assert [call.path for call in api.calls] == ["/projects/villin/jobs"]
    assert api.calls[0].json["dry_run"] is True


def test_a_description_in_a_file_is_changed_by_options(api: FakeApi, cpcc: Cpcc) -> None:
    Path("job.json").write_text('{"argv": ["sim"], "need": {"cores": 4, "gpus": 1}, "env": {"A": "1"}, "priority": 3}')
    assert cpcc("submit", "--spec", "job.json", "--cores", "8", "--env", "B=2=3", "--need", "licence=2").code == 0
    spec = sent(api)
    assert spec["argv"] == ["sim"]
    assert spec["need"] == {"cores": 8, "gpus": 1, "other": {"licence": 2}}
    assert spec["env"] == {"A": "1", "B": "2=3"}
    assert spec["priority"] == 3


def test_dependencies_are_named(api: FakeApi, cpcc: Cpcc) -> None:
    assert cpcc("submit", "--after", "5", "--after-end", "6[1]", "--", "x").code == 0
    assert sent(api)["after"] == [{"job": "5"}, {"job": "6[1]", "on": "end"}]
    assert cpcc("submit", "--pairwise", "--", "x").code == 2


@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_run_shows_both_streams_and_ends_like_the_job(api: FakeApi, cpcc: Cpcc, state: str, code: int) -> None:
    def stream(call: Call) -> Sse:
        text = "out\n" if call.query["stream"] == "stdout" else "err\n"
        part = LogView(stream=call.query["stream"], offset=0, data=text, end=True, next=4)
        return Sse([("4", "log", part), ("", "end", {})])

    api.on("GET", "/jobs/57/logs/follow", stream)
    api.on("GET", "/jobs/57", sample.detail(state=state, reason="it was so"))
    api.on("GET", "/jobs/57/outputs", [])
    said = cpcc("run", "--", "sim")
    assert said.code == code
    assert said.out == "out\n"
    assert said.err.splitlines()[0] == "Submitted job 57 to project villin"
    assert "err" in said.err.splitlines()
    assert ("it was so" in said.err) == (code == 1)


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(
    api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cpc.client.commands.following.follow_both", interrupted)
    said = cpcc("run", "--", "sim")
    assert said.code == 130
    assert "cpcc logs -f 57" in said.err
    assert "cpcc cancel 57" in said.err
    assert api.asked("POST", "/jobs/57/cancel") == []


def test_waiting_goes_on_while_the_server_is_away(api: FakeApi, cpcc: Cpcc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr("cpc.client.transport.PATIENCE", 0.0)
    away = Unavailable("the server is stopping")
    api.on("GET", "/jobs/57", sample.detail(state="running"))
    api.on("GET", "/jobs/57/wait", Turns(away, away, away, sample.detail(state="succeeded")))
    said = cpcc("wait", "57")
    assert said.code == 0
    assert said.err.splitlines() == ["the server is stopping; still trying"]


def test_waiting_no_longer_than_told_ends_with_one(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("GET", "/jobs/57", sample.detail(state="running"))
    api.on("GET", "/jobs/57/wait", sample.detail(state="running"))
    said = cpcc("wait", "57", "--timeout", "0.2s")
    assert said.code == 1
    assert "57 has not ended yet" in said.err
    assert float(api.asked("GET", "/jobs/57/wait")[0].query["timeout"]) <= 0.2


def test_submit_and_wait_says_the_id_first(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("GET", "/jobs/57", sample.detail(state="failed", reason="exit code 3"))
    said = cpcc("--quiet", "submit", "--wait", "--", "x")
    assert (said.code, said.out, said.err) == (1, "57\n", "")
    said = cpcc("--json", "submit", "--wait", "--", "x")
    assert said.kind == "ended"
    assert said.data[0]["kind"] == "job"


def test_without_a_project_nothing_is_sent(api: FakeApi, cpcc: Cpcc, tmp_path: Path) -> None:
    api.configure(tmp_path / "other", project="")
    said = Cpcc(tmp_path / "other")("submit", "--", "x")
    assert said.code == 1
    assert "no project selected" in said.err
    assert api.calls == []


def test_a_refusal_of_the_server_is_one_line_without_control_characters(api: FakeApi, cpcc: Cpcc) -> None:
    api.on("POST", "/projects/villin/jobs", BadInput("no \x1b[31m such\nthing", "try\tagain"))
    said = cpcc("submit", "--", "x")
    assert said.code == 1
    assert said.err == "cpcc: no ·[31m such thing (try again)\n"
