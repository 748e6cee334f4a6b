"""Settings: one table, values that are checked, changes that take effect after the commit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpc.core.errors import BadInput, Denied, NotFound
from cpc.server.principal import SERVER
from cpc.server.settings import SETTINGS, Settings, size, span, whole
from cpc.store import settings as store_settings
from tests.helpers.people import People, people


@pytest.fixture
def world(database_url: str) -> Iterator[People]:
    yield from people(database_url)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_default_is_one_of_the_values_it_takes(name: str) -> None:
    SETTINGS[name].parse(SETTINGS[name].default)
    assert SETTINGS[name].text


def test_a_change_counts_at_once_and_after_a_restart(world: People) -> None:
    told: list[str] = []
    world.settings.watch(told.append)
    assert world.settings.number("heartbeat_time") == 120.0
    view = world.do(world.settings.set(world.call(SERVER), "heartbeat-time", " 5m "))
    assert (view.name, view.value, view.default, told) == ("heartbeat_time", "5m", "120", ["heartbeat_time"])
    assert world.settings.number("heartbeat_time") == 300.0
    later = Settings(world.store, world.gate)
    world.do(later.load())
    assert later.number("heartbeat_time") == 300.0
    assert world.do(later.get(SERVER, "heartbeat_time")) == view


def test_the_empty_text_is_the_default_again(world: People) -> None:
    for value in ("5m", ""):
        world.do(world.settings.set(world.call(SERVER), "heartbeat_time", value))
    assert world.settings.number("heartbeat_time") == 120.0
    assert world.do(world.store.read(store_settings.all_set)) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("heartbeat_time", "0"), ("heartbeat_time", "soon"), ("heartbeat_time", "-5"), ("heartbeat_time", "nan"),
     ("heartbeat_time", "5 parsecs"), ("beats", "2.5"), ("beats", "1"), ("min_free_space", "lots"),
     ("log_level", "loud"), ("site_key", "relative/path"), ("keep_jobs", "5")],
)  # fmt: skip
def test_a_value_out_of_its_limits_changes_nothing(world: People, name: str, value: str) -> None:
    with pytest.raises(BadInput, match=name):
        world.do(world.settings.set(world.call(SERVER), name, value))
    assert world.do(world.settings.get(SERVER, name)).value == SETTINGS[name].default


def test_an_unknown_setting_is_answered_with_those_there_are(world: People) -> None:
    with pytest.raises(NotFound, match="heartbeat_time"):
        world.do(world.settings.set(world.call(SERVER), "hartbeat", "5"))


def test_settings_are_for_super_users(world: People) -> None:
    ann = world.user("ann")
    with pytest.raises(Denied):
        world.do(world.settings.page(ann))
    with pytest.raises(Denied):
        world.do(world.settings.set(world.call(ann), "beats", "5"))
    root = world.user("root", True)
    assert len(world.do(world.settings.page(root)).items) == len(SETTINGS)


def test_a_stored_value_of_another_release_counts_as_the_default(world: People) -> None:
    def unit(tx: object) -> None:
        store_settings.put(tx, "beats", "thousands")  # type: ignore[arg-type]
        store_settings.put(tx, "from_the_future", "1")  # type: ignore[arg-type]

    world.do(world.store.write(unit))
    world.do(world.settings.load())
    assert world.settings.whole("beats") == 4


def test_texts_and_paths_come_as_what_they_are(world: People) -> None:
    world.do(world.settings.set(world.call(SERVER), "backup_directory", "/opt/a"))
    assert world.settings.text("backup_directory") == "/opt/a"
    assert world.settings.text("log_level") == "info"
    assert world.settings.whole("min_free_space") == 1 << 30


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5h", 5400), ("2 d", 172800), ("15M", 900), ("1w", 604800), ("3min", 180)]
)
def test_times_may_have_units(text: str, seconds: float) -> None:
    assert span(0, 1e9)(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"), [("5", 5), ("1K", 1024), ("2 GiB", 2 << 30), ("1.5m", 3 << 19), ("3TB", 3 << 40)]
)
def test_sizes_may_have_units(text: str, number: int) -> None:
    assert size(0, 1 << 60)(text) == number


@given(st.text(max_size=30))
def test_any_text_is_a_value_or_bad_input(text: str) -> None:
    for parse in (span(1, 100), size(1, 100), whole(1, 100)):
        try:
            value = parse(text)
        except BadInput:
            continue
        assert isinstance(value, int | float)
        assert 1 <= value <= 100
