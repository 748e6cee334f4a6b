"""Jobs and arrays through real programs: what goes in and comes out is what was meant, byte for byte."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpc.client import transfer
from cpc.core.spec import Input, Table
from tests.helpers.network_of_processes import Network


@pytest.fixture(scope="module")
def lab(either: Network) -> Iterator[Network]:
    """A network of each kind of database, with one worker."""
    with either.working():
        yield either


@pytest.fixture(scope="module")
def one(network: Network) -> Iterator[Network]:
    """The same on SQLite only, for what the database has no part in."""
    with network.working():
        yield network


def test_a_job_comes_back_byte_for_byte(lab: Network, tmp_path: Path) -> None:
    every_byte = bytes(range(256)) * 40
    (tmp_path / "data").write_bytes(every_byte)
    job = lab.cpcc(
        "submit", "--quiet", "--input", f"{tmp_path}/data:in/data", "--stdin", str(tmp_path / "data"), "--",
        "/bin/sh", "-c", "cat; cat in/data in/data > out; echo to stderr >&2",
    ).done().strip()  # fmt: skip
    found = lab.success_of(job)
    assert (found.exit_code, found.attempts, found.failures, found.losses) == (0, 1, 0, 0)
    assert lab.output(job) == every_byte
    assert lab.output(job, "out") == every_byte * 2
    assert lab.output(job, "stderr") == b"to stderr\n"


def test_every_element_of_an_array_runs_once_with_its_own_values(lab: Network) -> None:
    rows = tuple((str(number * number), f"name {number}") for number in range(25))
    array = lab.shell(
        'echo "$CPC_INDEX|$CPC_SQUARE|$1|$2"; echo "{index}" > "file-{index}"',
        array=25, table=Table(("square", "title"), rows),
    )  # fmt: skip
    assert lab.end_of_array(array).jobs["succeeded"] == 25
    for number in (0, 7, 24):
        job = f"{array}[{number}]"
        assert lab.output(job).decode().startswith(f"{number}|{number * number}|")
        assert lab.output(job, f"file-{number}") == f"{number}\n".encode()
        assert lab.job(job).attempts == 1


@pytest.mark.parametrize(
    "word",
    [
        "two words",
        "'single' \"double\"",
        "a\nnew\n\nline",
        "$HOME `id` \\ * ? ; | & < >",
        "",
        "grüße 分子 ☃",
        "--option=-x",
        " ",
    ],
    ids=["blank", "quotes", "newlines", "shell", "empty", "unicode", "option", "blank only"],
)
def test_a_word_of_the_command_line_arrives_as_it_was_written(one: Network, word: str) -> None:
    job = one.cpcc("submit", "--quiet", "--", "printf", "%s|", word, "end").done().strip()
    one.success_of(job)
    assert one.output(job) == f"{word}|end|".encode()


def test_the_environment_arrives_as_it_was_written(one: Network) -> None:
    value = "a b\n'c' \"d\" $HOME ü="
    job = one.cpcc("submit", "--quiet", "--env", f"GIVEN={value}", "--", "/usr/bin/printenv", "GIVEN").done().strip()
    one.success_of(job)
    assert one.output(job) == f"{value}\n".encode()


def test_a_job_knows_who_it_is(one: Network) -> None:
    job = one.shell('echo "$CPC_JOB $CPC_ATTEMPT $CPC_CORES"; env | grep -c "^CPC_HOME=" || true')
    one.success_of(job)
    assert one.output(job) == f"{job} 1 1\n0\n".encode()


def test_a_big_output_arrives_whole(lab: Network) -> None:
    data = "b''.join(hashlib.sha256(b'%d' % n).digest() for n in range(20 << 15))"
    before = lab.figures()
    job = lab.submit("python3", "-c", f"import hashlib; open('big', 'wb').write({data})")
    lab.success_of(job)
    after = lab.figures()
    whole = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(20 << 15))
    assert len(whole) == 20 << 20
    assert lab.output(job, "big") == whole
    came, went = 'transfer_bytes_total{direction="in"}', 'transfer_bytes_total{direction="out"}'
    assert 0 <= after[came] - before[came] - len(whole) < 1000  # and the streams
    assert lab.figures()[went] - after[went] == len(whole)
    staged = 'job_stage_seconds_count{direction="out"}'
    assert after[staged] - before[staged] == 1
    assert after["db_transaction_seconds_count"] > before["db_transaction_seconds_count"]


def test_many_small_files_arrive(one: Network, tmp_path: Path) -> None:
    job = one.shell("mkdir -p d/e; i=0; while [ $i -lt 1000 ]; do echo $i > d/e/$i; i=$((i+1)); done")
    one.success_of(job)
    one.cpcc("fetch", job, "-o", str(tmp_path / "results")).done()
    found = {path.name: path.read_text() for path in (tmp_path / "results/d/e").iterdir()}
    assert found == {str(number): f"{number}\n" for number in range(1000)}


def test_links_and_odd_names_come_back(one: Network, tmp_path: Path) -> None:
    job = one.shell(
        "echo data > 'a b'; ln -s 'a b' link; mkdir 'émpty'; echo 1 > \"$(printf 'new\\nline')\"; echo 2 > -rf; "
        "echo 3 > \"$(printf 'latin-\\351')\"; echo '#!/bin/sh' > run; chmod 755 run; ln -s /etc/passwd outside"
    )
    one.success_of(job)
    paths = {transfer.raw_path(file): file for file in one.client.outputs(job)}
    assert {b"a b", b"link", b"-rf", b"new\nline", b"latin-\xe9", b"run"} <= set(paths)
    assert b"outside" not in paths
    transfer.fetch(one.client, job, tmp_path)
    assert os.readlink(tmp_path / "link") == "a b"
    assert (tmp_path / "new\nline").read_text() == "1\n"
    assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9")).read_text() == "3\n"
    assert os.access(tmp_path / "run", os.X_OK)
    assert not os.access(tmp_path / "-rf", os.X_OK)
    assert not (tmp_path / "outside").exists()


def test_only_the_wanted_outputs_come_back(one: Network) -> None:
    job = one.shell("mkdir d; touch a.dat d/b.dat c.txt d/e.txt", outputs=("*.dat", "d/*.txt"))
    one.success_of(job)
    found = {file.path for file in one.client.outputs(job) if file.kind == "file"}
    assert {"a.dat", "d/e.txt", "stdout", "stderr"} <= found
    assert "c.txt" not in found


def test_a_file_travels_once(one: Network, tmp_path: Path) -> None:
    big = tmp_path / "input"
    big.write_bytes(os.urandom(10 << 20))
    sent: list[int] = []
    content = transfer.upload(one.client, big, progress=lambda done, _all: sent.append(done))
    assert sent[0] == 0
    again: list[int] = []
    assert transfer.upload(one.client, big, progress=lambda done, _all: again.append(done)) == content
    assert again == [10 << 20]  # done before anything was sent
    job = one.submit("cmp", "x", "y", inputs=(Input("x", content), Input("y", content)))
    one.success_of(job)
    stored = one.client.get_project().storage_used
    one.cpcc("submit", "--quiet", "--input", f"{big}:z", "--", "true").done()
    assert one.client.get_project().storage_used == stored


def test_the_worker_keeps_an_input_for_the_next_job(one: Network, tmp_path: Path) -> None:
    big = tmp_path / "input"
    big.write_bytes(os.urandom(5 << 20))
    content = transfer.upload(one.client, big)
    for _ in range(2):
        one.success_of(one.submit("test", "-s", "x", inputs=(Input("x", content),)))
    kept = [path for path in one.directory.glob("w*/cache/**/*") if path.is_file() and path.stat().st_size == 5 << 20]
    assert len(kept) <= 1
