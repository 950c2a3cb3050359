"""The iXML chunk of a take.

Knows the elements of iXML 1.61 (gallery.co.uk/ixml), those of its ASWG extension (ASWG-G006), which sound libraries
search, and the USER fields that library programs show. Does not put it into files.
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from impact_plugin.takes.categories import words_of
from impact_plugin.takes.names import CREATOR, fx_name, user_data
from impact_plugin.takes.record import TakeRecord

VERSION: Final = "1.61"
PROJECT: Final = "impact-plugin"

#: What XML 1.0 cannot hold.
_FORBIDDEN: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def ixml(record: TakeRecord, *, bits: int) -> bytes:
    """The document, in UTF-8.

    Args:
        bits: of a sample in the file.
    """
    category, subcategory = words_of(record.ucs)
    root = ElementTree.Element("BWFXML")
    _add(
        root,
        IXML_VERSION=VERSION,
        PROJECT=PROJECT,
        TAKE=str(record.variant),
        NOTE=record.prompt,
        FILE_UID=record.take,
    )
    _add(
        ElementTree.SubElement(root, "SPEED"),
        NOTE=f"made at {record.native_rate} hz" if record.native_rate else "",
        FILE_SAMPLE_RATE=str(record.rate),
        AUDIO_BIT_DEPTH=str(bits),
        DIGITIZER_SAMPLE_RATE=str(record.native_rate or record.rate),
        TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI=str(record.time_reference >> 32),
        TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO=str(record.time_reference & 0xFFFFFFFF),
        TIMESTAMP_SAMPLE_RATE=str(record.rate),
    )
    tracks = ElementTree.SubElement(root, "TRACK_LIST")
    _add(tracks, TRACK_COUNT="1")
    _add(ElementTree.SubElement(tracks, "TRACK"), CHANNEL_INDEX="1", INTERLEAVE_INDEX="1", NAME="Mono")
    _add(
        ElementTree.SubElement(root, "ASWG"),
        contentType="sfx",
        project=PROJECT,
        originator=PROJECT,
        notes=record.prompt,
        catId=record.ucs,
        category=category,
        subCategory=subcategory,
        fxName=fx_name(record.prompt),
        creatorId=CREATOR,
        sourceId=record.model,
        userData=user_data(record.seed, record.variant),
        tempo=record.tempo,
        isLoop="true" if record.loop else "false",
    )
    _add(
        ElementTree.SubElement(root, "USER"),
        DESCRIPTION=record.prompt,
        CATID=record.ucs,
        CATEGORY=category,
        SUBCATEGORY=subcategory,
        FXNAME=fx_name(record.prompt),
        SEED=str(record.seed),
        MODEL=record.model,
        LABEL=record.label or "",
    )
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _add(parent: ElementTree.Element, **texts: str) -> None:
    """Elements with these texts; empty ones are left out."""
    for name, text in texts.items():
        if text:
            ElementTree.SubElement(parent, name).text = _FORBIDDEN.sub(" ", text)
