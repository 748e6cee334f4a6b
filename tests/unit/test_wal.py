"""The write-ahead log of a killed server: what a power loss may leave is recovered, damage is never dropped silently."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from cpc.store import wal

ROWS = 12


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a log of ROWS + 1 transactions, as kill -9 leaves it."""
    directory = tmp_path_factory.mktemp("killed")
    live = directory / "live.db"
    database = sqlite3.connect(live, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA wal_autocheckpoint=0")
    database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    for number in range(ROWS):
        database.execute("INSERT INTO t VALUES (?, ?)", (number, f"row {number} " * 700))
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{live}{suffix}", directory / f"killed.db{suffix}")
    database.close()
    return directory / "killed.db"


def copy(killed: Path, directory: Path, change: object) -> Path:
    made = directory / "copy.db"
    shutil.copyfile(killed, made)
    log = bytearray(wal.of(killed).read_bytes())
    change(log)  # type: ignore[operator]
    wal.of(made).write_bytes(log)
    return made


def rows(path: Path) -> int:
    """How many SQLite recovers."""
    database = sqlite3.connect(path)
    try:
        return int(database.execute("SELECT count(*) FROM t").fetchone()[0])
    except sqlite3.OperationalError:  # not even the table
        return -1
    finally:
        database.close()


def test_a_whole_log_is_sound(killed: Path, tmp_path: Path) -> None:
    made = copy(killed, tmp_path, lambda log: None)
    assert wal.damage(made) is None
    assert rows(made) == ROWS
    assert wal.damage(tmp_path / "without.db") is None


def test_a_log_is_cut_where_a_power_loss_would_cut_it_and_nothing_is_called_damage(
    killed: Path, tmp_path: Path
) -> None:
    whole = len(wal.of(killed).read_bytes())
    chance = random.Random(1)
    for length in [0, 1, 31, 32, 33, 56, whole - 1, *(chance.randrange(whole) for _ in range(30))]:
        assert (
            wal.damage(copy(killed, tmp_path, lambda log, length=length: log.__delitem__(slice(length, None)))) is None
        )


def test_any_flipped_bit_is_found_unless_only_the_last_transaction_is_touched(killed: Path, tmp_path: Path) -> None:
    """SQLite keeps what lies before the bit and drops the rest: with this look before it, never more than the last."""
    whole = len(wal.of(killed).read_bytes())
    chance = random.Random(2)
    found = 0
    for place in [0, 3, 4, 8, 11, 12, 16, 20, 24, 28, *(chance.randrange(32, whole) for _ in range(120))]:

        def flip(log: bytearray, place: int = place) -> None:
            log[place] ^= 1 << chance.randrange(8)

        made = copy(killed, tmp_path, flip)
        said = wal.damage(made)
        left = rows(made)
        assert said is not None or left >= ROWS - 1, f"a bit at {place}: {ROWS - left} rows lost without a word"
        if said is not None:
            found += 1
            assert said.lost > 1 or said.offset == 0
    assert found > 100


def test_frames_of_an_older_life_of_the_log_are_no_damage(tmp_path: Path) -> None:
    """After a checkpoint the log is written anew from its beginning; what is left of the old one lies behind."""
    live = tmp_path / "live.db"
    database = sqlite3.connect(live, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
    for number in range(20):
        database.execute("INSERT INTO t VALUES (?, ?)", (number, "x" * 5000))
    database.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    database.execute("INSERT INTO t VALUES (99, 'new')")
    assert wal.damage(live) is None
    database.close()
