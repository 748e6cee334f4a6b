"""Intake pauses before the disk is full; what runs can hand in a while longer; nothing is refused without a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpc.core.errors import OverQuota, Unavailable
from cpc.server.storage import INTERVAL, show_size
from tests.helpers.files import Shop, block, content_of, wait

GB = 1 << 30


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path)
    shop.least = 8 * GB
    return shop


def test_intake_pauses_below_the_minimum_and_goes_on_with_some_more(shop):
    shop.disk.total = 9 * GB
    wait(shop.storage.start())
    assert shop.storage.intake_paused == ""
    shop.disk.total = 8 * GB - 1
    shop.timers.advance(INTERVAL)
    assert "8.0 GiB free" in shop.storage.intake_paused
    with pytest.raises(OverQuota, match="new jobs and files are taken when it has"):
        shop.files.check_intake()
    with pytest.raises(OverQuota):
        shop.announce(content_of(b"x"))
    shop.disk.total = 8 * GB + 1
    shop.timers.advance(INTERVAL)
    assert shop.storage.intake_paused  # no fluttering
    shop.disk.total = 9 * GB
    shop.timers.advance(INTERVAL)
    assert shop.storage.intake_paused == ""
    assert shop.upload(b"x").done
    shop.storage.stop()
    assert not shop.timers.getDelayedCalls()


def test_results_are_taken_down_to_the_hard_floor(shop):
    chunk = block(1, 70_000)
    shop.disk.total = 3 * GB
    wait(shop.storage.look())
    wait(shop.files.put_chunk(1, content_of(chunk).digest, chunk))
    assert shop.storage.takes_results
    shop.disk.total = 2 * GB - 1
    wait(shop.storage.look())
    assert not shop.storage.takes_results
    with pytest.raises(Unavailable, match=r"2\.0 GiB free"):
        wait(shop.files.put_chunk(1, content_of(chunk).digest, chunk))


def test_a_part_of_an_upload_is_refused_while_intake_is_paused(shop):
    view = shop.announce(content_of(block(1)))
    shop.disk.total = GB
    wait(shop.storage.look())
    with pytest.raises(OverQuota):
        wait(shop.files.part(shop.ann, view.id, 0, block(1)))
    shop.disk.total = 10 * GB
    wait(shop.storage.look())
    assert wait(shop.files.part(shop.ann, view.id, 0, block(1))).done


def test_what_is_written_between_two_looks_counts(shop):
    low = []
    shop.storage.on_low = lambda: low.append(1)
    shop.disk.total = 8 * GB + 100
    wait(shop.storage.look())
    shop.storage.took(100)
    assert shop.storage.intake_paused == ""
    shop.storage.took(1)
    assert shop.storage.intake_paused
    shop.storage.took(1)
    assert low == [1]  # once, so that unused chunks are removed at once


def test_room_is_made_at_each_look_while_the_disk_is_low(shop):
    """What a person removes then frees its space within seconds; and a try that the full disk has spoilt is made again."""
    low = []
    shop.storage.on_low = lambda: low.append(1)
    shop.disk.total = 8 * GB - 1
    wait(shop.storage.start())
    assert low == [1]
    shop.timers.advance(INTERVAL)
    shop.timers.advance(INTERVAL)
    assert low == [1, 1, 1]
    shop.disk.total = 10 * GB
    shop.timers.advance(INTERVAL)
    shop.timers.advance(INTERVAL)
    assert low == [1, 1, 1]


def test_a_disk_that_cannot_be_asked_changes_nothing(shop, monkeypatch):
    wait(shop.storage.look())

    def broken():
        raise OSError(5, "input/output error")

    monkeypatch.setattr(shop.disk, "space", broken)
    wait(shop.storage.start())
    assert shop.storage.intake_paused == ""
    shop.timers.advance(INTERVAL)
    assert len(shop.timers.getDelayedCalls()) == 1


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (GB, "1.0 GiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes_are_shown_for_people(size, text):
    assert show_size(size) == text
