"""What a take knows about itself, and that names never collide."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from impact_plugin.audio.files import PARTIAL
from impact_plugin.errors import ImpactError
from impact_plugin.request import Request
from impact_plugin.takes.categories import CATEGORIES, words_of
from impact_plugin.takes.record import MORE, ROW, Change, TakeRecord
from impact_plugin.takes.save import save_take, write_new
from impact_plugin.takes.ucs import _RULES, FALLBACK

WAVE = np.linspace(-0.5, 0.5, 4410, dtype=np.float32)
PROMPT = 'a "quoted" prompt, with ünicode and a \\ backslash ' + "\U0001f4a5" * 1900
RECORD = TakeRecord(
    id="7",
    variant=1,
    prompt=PROMPT,
    seed=16777215,
    seconds=0.1,
    rate=44100,
    iterations=16,
    guidance=4.5,
    model="starter",
    elapsed_s=1.25,
    first_preview_s=None,
    request={"prompt": PROMPT, "negative": "\U0001f4a5" * 2000, "seed": 16777215, "seconds": 0.1},
    native_rate=44100,
    made="2025-01-02T03:04:05+00:00",
    changes=(Change(iteration=3, prompt="another", weight=0.5),),
)


def test_record_makes_the_request_again() -> None:
    assert Request.parse(RECORD.request).seed == RECORD.seed


def test_row_is_the_contracts() -> None:
    row = RECORD.row()
    assert list(row) == list(ROW)
    assert row["first_preview_s"] is None
    assert row["variant"] == 1
    assert list(RECORD.long_row()) == [*ROW, *MORE]


def test_path_is_not_embedded() -> None:
    text = RECORD.model_copy(update={"path": "/home/somebody/take.wav"}).to_json()
    assert "somebody" not in text
    assert "\n" not in text
    assert TakeRecord.from_json(text) == RECORD


def test_records_of_later_versions_can_be_read() -> None:
    text = json.dumps({**json.loads(RECORD.to_json()), "impact": 2, "something_new": [1]})
    assert TakeRecord.from_json(text).seed == RECORD.seed


@pytest.mark.parametrize("change", [{"rating": 6}, {"rating": -1}, {"loop": [5, 4]}, {"time_reference": -1}, {"id": 5}])
def test_records_that_cannot_be(change: dict[str, object]) -> None:
    data = {**json.loads(RECORD.to_json()), **change}
    with pytest.raises(ImpactError) as caught:
        TakeRecord.from_json(json.dumps(data))
    assert caught.value.code == "bad_file"
    with pytest.raises(ValidationError):
        TakeRecord.model_validate(data)


@settings(deadline=None)
@given(st.text(max_size=300) | st.binary(max_size=300))
def test_any_text_is_a_record_or_refused(text: str | bytes) -> None:
    with pytest.raises(ImpactError) as caught:
        TakeRecord.from_json(text)
    assert caught.value.code == "bad_file"


def test_stem_is_a_name_of_the_universal_category_system() -> None:
    record = RECORD.model_copy(update={"prompt": "glass breaks", "ucs": "GLASBrk", "seed": 5})
    assert record.stem == "GLASBrk_GlassBreaks_IMPACT_starter_s5-t01"


def test_names_are_never_used_twice(tmp_path: Path) -> None:
    paths = [Path(save_take(tmp_path, "take", WAVE, RECORD).path).name for _ in range(3)]
    assert paths == ["take.wav", "take_2.wav", "take_3.wav"]
    before = (tmp_path / "take.wav").read_bytes()
    assert Path(save_take(tmp_path, "take", -WAVE, RECORD, overwrite=True).path).name == "take.wav"
    assert (tmp_path / "take.wav").read_bytes() != before
    assert len(list(tmp_path.iterdir())) == 3


def test_every_take_has_an_id_of_its_own(tmp_path: Path) -> None:
    saved = [save_take(tmp_path, "take", WAVE, RECORD) for _ in range(20)]
    assert len({record.take for record in saved}) == 20
    assert all(len(record.take) == 16 and int(record.take, 16) >= 0 for record in saved)
    assert saved[0].made == RECORD.made


def test_a_name_that_is_taken_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "take.wav").write_bytes(b"somebody else's")
    monkeypatch.setattr(Path, "exists", lambda self: False)
    assert write_new(tmp_path, "take", ".wav", b"ours").name == "take_2.wav"
    assert (tmp_path / "take.wav").read_bytes() == b"somebody else's"
    assert not list(tmp_path.glob(f".*{PARTIAL}"))


def test_every_category_has_words() -> None:
    for catid in {catid for _, catid in _RULES} | {FALLBACK}:
        assert all(words_of(catid)), catid
    assert words_of("GUNRif") == ("GUNS", "RIFLE")
    assert words_of("COMMic") == ("COMMUNICATIONS", "")
    assert words_of("THUN") == ("WEATHER", "THUNDER")
    assert words_of("XXXXMisc") == words_of("") == words_of("door") == ("", "")
    assert all(short == short.upper() and word == word.upper() for short, word in CATEGORIES.items())
