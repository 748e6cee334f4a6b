"""Every deliberate defect still applies to the code and names tests that exist; a few are run. All of them: `make defects`."""

from __future__ import annotations

import re

import pytest

from tests.defects import runs
from tests.defects.catalogue import ALL, ROOMS
from tests.defects.defect import Defect, defect
from tests.defects.patching import ROOT, Rotten, changed, check

EACH = pytest.mark.parametrize("each", [pytest.param(one, id=one.name) for one in ALL.values()])
TEXT = """
LIMIT = 3

class Guard:
    def stops(self, count):
        return count >= LIMIT

    def says(self, count):
        return count >= LIMIT or count >= LIMIT
"""


@EACH
def test_a_defect_applies_to_the_code_as_it_is(each: Defect) -> None:
    try:
        check(each)
    except Rotten as why:
        pytest.fail(str(why), pytrace=False)


@EACH
def test_what_must_catch_it_exists(each: Defect) -> None:
    assert each.caught_by
    assert each.seeds or each.tests
    for one in each.tests:
        path, _, name = one.partition("::")
        text = (ROOT / path).read_text()
        assert not name or re.search(rf"^(async )?def {re.escape(name)}\(", text, re.MULTILINE), f"{path} has no {name}"


def test_no_defect_hides_another_of_its_name() -> None:
    names = [each.name for room in ROOMS for each in room]
    assert sorted(names) == sorted(ALL)


def test_every_promise_is_a_line_and_every_name_a_word() -> None:
    for each in ALL.values():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)+", each.name)
        assert each.promise
        assert len(each.promise) <= 80
        assert each.promise[0].islower()
        assert each.promise[-1] != "."


@pytest.mark.parametrize("name", [each.name for each in ALL.values() if each.quick])
def test_a_defect_is_caught(name: str) -> None:
    outcome = runs.with_defect(ALL[name], patience=3.0)
    assert outcome.caught, f"{outcome.by}\n{outcome.output}"


# --- the tools themselves ---------------------------------------------------------------------------------------------------


def apply(where: str, old: str, new: str) -> str:
    return changed("d", TEXT, [(where, old, new)])


def test_only_the_symbol_that_is_named_is_changed() -> None:
    assert apply("m:Guard.stops", ">=", ">") == TEXT.replace("return count >= LIMIT\n", "return count > LIMIT\n", 1)
    assert apply("m:LIMIT", "3", "4") == TEXT.replace("3", "4")


@pytest.mark.parametrize(
    ("where", "old", "new", "says"),
    [
        ("m:Guard.stops", "<=", "<", "has 0 times, not once: '<='"),
        ("m:Guard.says", ">=", ">", "has 2 times, not once: '>='"),
        ("m:Guard.gone", ">=", ">", "there is no m:Guard.gone any more"),
        ("m:Guard.stops", "count >=", "count  >=", "means the same"),
    ],
)
def test_a_defect_that_does_not_apply_is_said_in_one_line(where: str, old: str, new: str, says: str) -> None:
    with pytest.raises(Rotten) as refused:
        apply(where, old, new)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_run_has_caught_nothing() -> None:
    known = ALL["password-rate-limit-off"]
    nothing = defect(
        known.name, *known.changes[0], promise=known.promise, caught_by="tests/unit/test_accounts.py::nothing"
    )
    outcome = runs.with_defect(nothing, patience=1.0)
    assert not outcome.caught
    assert "exit code 4" in outcome.by
