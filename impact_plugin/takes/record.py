"""What a take knows about itself: everything needed to show it, find it, and make it again.

Knows the JSON that is printed (the contract's row) and the JSON that is embedded in the file. Does not write files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from impact_plugin.errors import ImpactError
from impact_plugin.takes.riff import info_strings
from impact_plugin.version import VERSION

#: Number of this record's format; a reader takes what it knows and ignores the rest.
FORMAT = 1

ROW = (
    "id",
    "variant",
    "path",
    "prompt",
    "seed",
    "seconds",
    "rate",
    "iterations",
    "guidance",
    "model",
    "elapsed_s",
    "first_preview_s",
)


class TakeRecord(BaseModel):
    """One take.

    Attributes:
        id: of the request; variant: number in the request, from 0; seed: the take's own seed.
        path: where it was written ("" inside the file itself: files move).
        seconds, rate: of the file; native_rate: hz, of the bundle.
        request: keys from which `Request.parse` gives a request for exactly this take, alone.
        gain_db: what levelling did. made: time of making, ISO 8601, UTC. parent: the take it was made from.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    impact: int = FORMAT
    id: str
    variant: int
    path: str = ""
    prompt: str
    seed: int
    seconds: float
    rate: int
    iterations: int
    guidance: float
    model: str
    elapsed_s: float
    first_preview_s: float | None = None
    request: dict[str, Any] = {}
    native_rate: int = 0
    gain_db: float = 0.0
    made: str = ""
    version: str = VERSION
    parent: str | None = None

    def row(self) -> dict[str, Any]:
        """The JSON row of the contract."""
        return {name: getattr(self, name) for name in ROW}

    def to_json(self) -> str:
        """The embedded form: one line without the path."""
        data = self.model_dump(exclude={"path"}, exclude_none=True)
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> TakeRecord:
        """The record in an embedded JSON.

        Raises:
            ImpactError: `bad_file` when it is none.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError:
            raise ImpactError("bad_file", "the file holds no record of an impact-plugin take") from None

    def strings(self) -> dict[str, str]:
        """The record as the text chunks of a sound file: LIST/INFO in WAV, Vorbis comments in FLAC."""
        return {
            "title": self.prompt,
            "software": f"impact-plugin {self.version}",
            "date": self.made[:10],
            "comment": self.to_json(),
        }


def read_record(path: Path) -> TakeRecord:
    """The record inside a take.

    Raises:
        ImpactError: `bad_file` when the file cannot be read or is no take of ours.
    """
    import soundfile

    try:
        comment = info_strings(path).get("ICMT", "")
        if not comment:
            with open(path, "rb") as handle, soundfile.SoundFile(handle) as sound:
                comment = str(sound.comment)
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}") from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ImpactError("bad_file", f"{path} is not a readable sound file") from error
    try:
        record = TakeRecord.from_json(comment)
    except ImpactError as error:
        raise ImpactError(error.code, f"{path}: {error.text}") from None
    return record.model_copy(update={"path": str(path)})
