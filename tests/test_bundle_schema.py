"""`bundle.yaml`: what is read, and the one line that says why it is not."""

from __future__ import annotations

import string
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from impact_plugin.bundle.schema import BundleInfo, Licence, Part, Parts, parse_info
from impact_plugin.document import MAX_BYTES, read_document
from impact_plugin.errors import ImpactError

GOOD = f"""\
format: 1
name: doors
description: Creaks.
licences:
  - covers: weights
    licence: CC-BY-4.0
rate: 44100
seconds_limit: 10
defaults:
  iterations: 16
  guidance: 3.5
parts:
  codec:
    kind: starter
    config: {{bands: 160}}
    weights: codec.safetensors
    sha256: "{"0" * 64}"
  text:
    kind: minilm
  generator:
    kind: impact
    weights: weights/generator.safetensors
    sha256: "{"a" * 64}"
"""


def refused(text: str | bytes) -> ImpactError:
    """The error that a file's content gives; it must be one line and name the file."""
    with pytest.raises(ImpactError) as caught:
        parse_info("b/bundle.yaml", text.encode() if isinstance(text, str) else text)
    error = caught.value
    assert error.code == "bad_file"
    assert "\n" not in error.text
    assert error.text.startswith("b/bundle.yaml")
    return error


def test_good() -> None:
    info = parse_info("bundle.yaml", GOOD.encode())
    assert info.name == "doors"
    assert info.defaults == {"iterations": 16, "guidance": 3.5}
    assert info.parts.codec.config == {"bands": 160}
    assert info.parts.text.weights is None
    assert info.seconds_limit == 10.0


def test_written_description_reads_the_same() -> None:
    info = parse_info("bundle.yaml", GOOD.encode())
    again = parse_info("bundle.yaml", yaml.safe_dump(info.to_data(), sort_keys=False).encode())
    assert again == info
    assert again.fingerprint == info.fingerprint


def test_fingerprint_is_of_what_is_heard() -> None:
    info = parse_info("bundle.yaml", GOOD.encode())
    renamed = parse_info("bundle.yaml", GOOD.replace("name: doors", "name: gates").encode())
    other = parse_info("bundle.yaml", GOOD.replace("a" * 64, "b" * 64).encode())
    assert info.fingerprint == renamed.fingerprint != other.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("licences:", "licenses:", 4, "did you mean 'licences'?"),
        ("    kind: starter", "    knid: starter", 14, "did you mean 'kind'?"),
        ("licence: CC-BY-4.0", "license: CC-BY-4.0", 6, "did you mean 'licence'?"),
        ("rate: 44100\n", "", 1, "key 'rate' is missing"),
        ("rate: 44100", "rate: '44100'", 7, "rate: input should be a valid integer"),
        ("rate: 44100", "rate: 5", 7, "greater than or equal to 8000"),
        ("seconds_limit: 10", "seconds_limit: -1", 8, "greater than 0"),
        ("seconds_limit: 10", "seconds_limit: .nan", 8, "not-a-number"),
        ("seconds_limit: 10", "seconds_limit: true", 8, "valid number"),
        ("name: doors", "name: ../doors", 2, "must be 1 to 64 letters"),
        ("guidance: 3.5", "guidance: [1]", 11, "defaults.guidance: a setting is"),
        ("guidance: 3.5", "2: 3.5", 11, "keys must be words"),
        ("guidance: 3.5", "iterations: 3.5", 11, "given twice"),
        ("format: 1", "format: 2", 1, "update impact-plugin"),
        ("format: 1", "format: true", 1, "update impact-plugin"),
        ("format: 1\n", "", 1, "'format: 1' is missing"),
        ("codec.safetensors", "codec.pt", 16, "may hold a pickle"),
        ("codec.safetensors", "codec.bin", 16, "may hold a pickle"),
        ("codec.safetensors", "codec.CKPT", 16, "may hold a pickle"),
        ("codec.safetensors", "codec.pkl", 16, "may hold a pickle"),
        ("codec.safetensors", "codec.onnx", 16, "must be a .safetensors file"),
        ("codec.safetensors", "../codec.safetensors", 16, "leads out of"),
        ("codec.safetensors", "a/../../codec.safetensors", 16, "leads out of"),
        ("codec.safetensors", "/etc/codec.safetensors", 16, "leads out of"),
        ("codec.safetensors", "C:codec.safetensors", 16, "inside the bundle's folder"),
        ("codec.safetensors", r"..\codec.safetensors", 16, "inside the bundle's folder"),
        ("    weights: codec.safetensors\n", "", 13, "go together"),
        ("0" * 64, "0" * 63, 17, "sha256"),
    ],
)
def test_faults_name_line_and_key(old: str, new: str, line: int, words: str) -> None:
    assert GOOD.count(old) == 1
    error = refused(GOOD.replace(old, new))
    assert words.lower() in error.text.lower()
    assert int(error.text.split(" line ")[1].split(":")[0]) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a\n- b\n",
        "format: 1\nname: !!python/object/apply:os.system ['true']\n",
        "format: 1\nname: !!python/name:os.system\n",
        "!!python/object/new:os.system ['true']",
        "!!set {format: 1}",
        "format: 1\nname: 2020-01-01\n",
        "format: 1\nname: !!binary aGVsbG8=\n",
        "format: 1\nname: [unclosed\n",
        "format: 1\n---\nformat: 1\n",
        "format: 1\n\tname: tab\n",
        "format: !!int abc\n",
        "format: 1\nname: \x07\n",
        b"\xff\xfe\x00",
        b"format: 1\nname: \x80\n",
        "[" * 5000,
        "a: " * 5000,
        "format: 1\ndescription: " + "x" * MAX_BYTES,
    ],
)
def test_unsafe_or_broken_yaml_is_refused(text: str | bytes) -> None:
    refused(text)


def test_alias_bomb_costs_nothing() -> None:
    levels = "\n".join(f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    error = refused("a: &a [x, x, x]\n" + levels)
    assert "anchors and aliases" in error.text


FIELDS = [*BundleInfo.model_fields, *Parts.model_fields, *Part.model_fields, *Licence.model_fields]
KEYS = st.sampled_from([*FIELDS, "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=20) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.integers(), inner, max_size=6),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=10))
def test_any_mapping_is_read_or_refused_in_one_line(data: dict[str, Any]) -> None:
    check(yaml.safe_dump({"format": 1, **data}, allow_unicode=True).encode())


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused_in_one_line(content: bytes) -> None:
    check(content)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.text(string.printable, max_size=6))
def test_any_edit_is_read_or_refused_in_one_line(place: int, cut: int, inserted: str) -> None:
    check((GOOD[:place] + inserted + GOOD[place + cut :]).encode())


def check(content: bytes) -> None:
    try:
        info = parse_info("bundle.yaml", content)
    except ImpactError as error:
        assert error.code == "bad_file"
        assert error.text.startswith("bundle.yaml")
        assert len(error.text) < 3000
    else:
        assert isinstance(info, BundleInfo)
        assert parse_info("bundle.yaml", yaml.safe_dump(info.to_data()).encode()) == info


def test_document_notes_lines() -> None:
    document = read_document("x.yaml", b"# comment\na: 1\nb:\n  - c: 2\n  - d\n")
    assert document.data == {"a": 1, "b": [{"c": 2}, "d"]}
    assert document.line(("a",)) == 2
    assert document.line(("b", 0, "c")) == 4
    assert document.line(("b", 1)) == 5
    assert document.line(("b", 7, "z")) == 3
