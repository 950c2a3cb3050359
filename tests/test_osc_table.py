"""The one table: complete, consistent, and what everything else is made of."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest

from impact_plugin.daemon.events import EVENTS
from impact_plugin.daemon.osc import docs, query
from impact_plugin.daemon.osc.handlers import Handlers
from impact_plugin.daemon.osc.table import ADDRESSES, REPLIES, read_call
from impact_plugin.daemon.osc.values import read_id
from impact_plugin.errors import Code, ImpactError

CONTRACT = """\
/impact/generate /impact/preset /impact/prompt /impact/edit/vary /impact/edit/inpaint /impact/edit/extend
/impact/edit/loop /impact/edit/morph /impact/cancel /impact/queue /impact/set /impact/get /impact/presets /impact/takes
/impact/models /impact/play /impact/stop /impact/notify /impact/status /impact/version /impact/help /impact/ping
/impact/sync /impact/quit"""


def call(path: str, *values: Any) -> dict[str, Any]:
    return read_call(ADDRESSES[path], values).values


def test_every_address_of_the_contract_is_there_and_one_more() -> None:
    assert set(ADDRESSES) - set(CONTRACT.split()) == {"/impact/resume"}
    assert set(CONTRACT.split()) <= set(ADDRESSES)


@pytest.mark.parametrize("entry", ADDRESSES.values(), ids=lambda entry: entry.path)
def test_every_address_has_a_handler_and_words(entry: Any) -> None:
    assert callable(getattr(Handlers, entry.handler))
    assert entry.text
    optional = [argument.optional for argument in entry.arguments]
    assert optional == sorted(optional), "required arguments come first"
    assert not (entry.pairs and any(optional)), "pairs would be taken for optional arguments"


def test_no_answer_is_ever_a_command() -> None:
    assert not REPLIES & set(ADDRESSES)
    assert {kind.address for kind in EVENTS.values()} <= REPLIES


@pytest.mark.parametrize(("given", "taken"), [(3, 3), (3.0, 3), ("3", 3), (" 3.0 ", 3), (True, None), (3.5, None)])
def test_whole_numbers_come_as_int_float_or_text(given: Any, taken: int | None) -> None:
    if taken is None:
        with pytest.raises(ImpactError) as refused:
            call("/impact/sync", given)
        assert refused.value.code == "bad_argument"
        assert "n must be a whole number" in refused.value.text
    else:
        assert call("/impact/sync", given) == {"n": taken}


@pytest.mark.parametrize(("given", "taken"), [(1, True), (0.0, False), ("on", True), ("0", False), (True, True)])
def test_flags_come_as_anything_that_says_yes_or_no(given: Any, taken: bool) -> None:
    assert call("/impact/notify", given, "9001") == {"on": taken, "port": 9001}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "1e400", "", None, "9_9", -1, 65536, 0.5])
def test_numbers_that_are_none_or_out_of_range(value: Any) -> None:
    with pytest.raises(ImpactError) as refused:
        call("/impact/notify", 1, value)
    assert refused.value.code == "bad_argument"
    assert "port must be a whole number from 1 to 65535" in refused.value.text


@pytest.mark.parametrize(("given", "taken"), [(7, 7), (7.0, 7), ("7", "7"), ("door 1", "door 1"), ("", ""), (None, "")])
def test_ids(given: Any, taken: Any) -> None:
    found = read_id(given)
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize("given", [True, float("nan"), float("inf"), 2**40, "/impact/x", "a\nb", "x" * 201, "\ud800"])
def test_what_is_no_id(given: Any) -> None:
    with pytest.raises(ImpactError, match="id"):
        read_id(given)


def test_missing_and_surplus_arguments_name_what_is_expected() -> None:
    with pytest.raises(ImpactError, match=re.escape("prompt is missing: /impact/generate id prompt [key value]...")):
        call("/impact/generate", "a")
    with pytest.raises(ImpactError, match=re.escape("2 arguments are too many: /impact/queue")):
        call("/impact/queue", 1, 2)
    with pytest.raises(ImpactError, match="seconds has no value"):
        call("/impact/generate", "a", "door", "seconds")


def test_the_document_is_what_the_table_says() -> None:
    assert docs.FILE.read_text(encoding="utf-8") == docs.page(), "run: python -m impact_plugin.daemon.osc.docs"
    assert docs.main(["--check"]) == 0


def test_the_document_says_all_of_it() -> None:
    page = docs.page()
    for word in [*ADDRESSES, *REPLIES, *get_args(Code)]:
        assert f"`{word}`" in page
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(line.count(" | ") == line.replace("\\|", "").count("|") - 2 for line in rows), "a broken table row"


def test_oscquery_describes_every_address() -> None:
    for path, entry in ADDRESSES.items():
        status, node = query.answer(path, host="127.0.0.1", port=9800)
        assert status == 200
        assert node is not None
        assert node["FULL_PATH"] == path
        assert node["ACCESS"] in (1, 2, 3)
        assert entry.text in node["DESCRIPTION"]
        assert len(node.get("TYPE", "")) == len(entry.arguments) == len(node.get("RANGE", []))
        assert set(node.get("TYPE", "")) <= set("ifs")


def test_oscquery_answers_as_the_proposal_says() -> None:
    def ask(path: str, attribute: str = "") -> tuple[int, Any]:
        return query.answer(path, attribute, host="127.0.0.1", port=9801)

    assert ask("/")[1]["CONTENTS"]["impact"]["CONTENTS"]["edit"]["ACCESS"] == 0
    assert ask("/", "HOST_INFO")[1]["OSC_PORT"] == 9801
    assert ask("/impact/notify", "TYPE") == (200, {"TYPE": "ii"})
    assert ask("/impact/notify")[1]["RANGE"] == [{"VALS": [0, 1]}, {"MIN": 1, "MAX": 65535}]
    assert ask("/impact/ping", "VALUE") == (204, None)
    assert ask("/impact/ping", "NONSENSE") == (400, None)
    assert ask("/impact/nothing")[0] == 404
