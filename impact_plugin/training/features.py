"""Latents and text features of a whole data set, computed once and held in memory while a generator trains.

Knows the codec, the text encoder and data sets. Does not know the generator.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from impact_plugin.codec.base import Codec
from impact_plugin.conditions.bank import Bank, averaged
from impact_plugin.text.base import TextEncoder
from impact_plugin.training.store import Sound, SoundStore

Progress = Callable[[int, int], None]

TAIL_TOKENS = 8  # silence encoded after each sound: its end must sound right
NEIGHBOURS = 24  # nearest sounds remembered for each caption


@dataclass
class Captions:
    """All captions of a data set, each once a sound.

    Attributes:
        owners: (captions,) sound of each; first: (sounds + 1,) where a sound's captions begin.
        tokens: (all text tokens, dims) float16; offsets: (captions + 1,); pooled: (captions, dims).
    """

    owners: Tensor
    first: Tensor
    tokens: Tensor
    offsets: Tensor
    pooled: Tensor


@dataclass
class FeatureSet:
    """What a generator trains on.

    Attributes:
        sounds: in the order of every index here.
        latents: (all tokens, dims) float32; offsets: (sounds + 1,); each sound ends in `TAIL_TOKENS` of silence.
        lengths: (sounds,) tokens of each sound without its tail.
        silence: (dims,) latent of steady silence.
    """

    sounds: list[Sound]
    latents: Tensor
    offsets: Tensor
    lengths: Tensor
    silence: Tensor
    captions: Captions

    def rows(self, split: str) -> Tensor:
        """Indices of the sounds of a split that are fit for a released bundle."""
        wanted = [i for i, sound in enumerate(self.sounds) if sound.split == split and sound.license_ok]
        return torch.tensor(wanted, dtype=torch.long)

    def bank(self, rows: Tensor, tokens: int) -> Bank:
        """A bank of neighbours of these sounds."""
        latents = [
            averaged(self.latents[int(self.offsets[row]) :][: int(self.lengths[row])], tokens) for row in rows.tolist()
        ]
        spans = torch.tensor([0] + [len(part) for part in latents])
        place = torch.full((len(self.sounds),), -1, dtype=torch.long)
        place[rows] = torch.arange(len(rows))
        owners = place[self.captions.owners]
        kept = owners >= 0
        return Bank(
            vectors=self.captions.pooled[kept],
            owners=owners[kept],
            latents=torch.cat(latents),
            offsets=spans.cumsum(0),
            seconds=torch.tensor([self.sounds[row].seconds for row in rows.tolist()]),
            tokens=tokens,
        )


def family(sound: Sound) -> str:
    """Recordings of one family share this: the source path without its numbers and extension."""
    stem = re.sub(r"\.[a-z0-9]+$", "", sound.source.lower())
    return re.sub(r"[\d_\-]+(?=$|/)|\d+", "", stem)


def build_features(
    store: SoundStore,
    codec: Codec,
    text: TextEncoder,
    *,
    limit_tokens: int,
    progress: Progress | None = None,
) -> FeatureSet:
    """Encode the data set, or read it back when the same codec has encoded it before.

    Args:
        limit_tokens: of a longer sound only the beginning is kept.
    """
    sounds = store.read_index()
    key = _key(codec, limit_tokens, sounds)
    path = store.folder / f"latents_{key}.safetensors"
    if path.exists():
        tensors = load_file(path)
    else:
        tensors = _encode_all(store, sounds, codec, limit_tokens, progress)
        _save(tensors, path)
    captions_path = store.folder / f"captions_{text.kind}_{_captions_key(sounds)}.safetensors"
    if captions_path.exists():
        words = load_file(captions_path)
    else:
        words = _encode_captions(sounds, text)
        _save(words, captions_path)
    captions = Captions(words["owners"], words["first"], words["tokens"], words["offsets"], words["pooled"])
    return FeatureSet(
        sounds, tensors["latents"].float(), tensors["offsets"], tensors["lengths"], tensors["silence"], captions
    )


def _encode_all(
    store: SoundStore, sounds: list[Sound], codec: Codec, limit_tokens: int, progress: Progress | None
) -> dict[str, Tensor]:
    tail = TAIL_TOKENS * codec.samples_per_token
    chunks, offsets, lengths = [], [0], []
    for done, sound in enumerate(sounds, start=1):
        audio, _ = store.read_audio(sound)
        clip = torch.from_numpy(audio[: limit_tokens * codec.samples_per_token])
        latents = codec.encode(torch.nn.functional.pad(clip, (0, tail))[None])[0].half().cpu()
        chunks.append(latents)
        offsets.append(offsets[-1] + len(latents))
        lengths.append(len(latents) - TAIL_TOKENS)
        if progress:
            progress(done, len(sounds))
    quiet = codec.encode(torch.zeros(1, 64 * codec.samples_per_token))[0].cpu()
    return {
        "latents": torch.cat(chunks),
        "offsets": torch.tensor(offsets),
        "lengths": torch.tensor(lengths),
        "silence": quiet[32].clone(),
    }


def _encode_captions(sounds: list[Sound], text: TextEncoder) -> dict[str, Tensor]:
    own = [list(dict.fromkeys(sound.captions)) for sound in sounds]
    unique = list(dict.fromkeys(caption for captions in own for caption in captions))
    rows: dict[str, tuple[Tensor, Tensor]] = {}
    for index, hidden, vector in text.encode_many(unique):
        rows[unique[index]] = (hidden.half(), vector)
    chosen = [rows[caption] for captions in own for caption in captions]
    counts = torch.tensor([len(captions) for captions in own])
    spans = torch.tensor([0] + [len(hidden) for hidden, _ in chosen])
    return {
        "owners": torch.repeat_interleave(torch.arange(len(sounds)), counts),
        "first": torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]),
        "tokens": torch.cat([hidden for hidden, _ in chosen]),
        "offsets": spans.cumsum(0),
        "pooled": torch.stack([vector for _, vector in chosen]),
    }


def nearest_sounds(features: FeatureSet, rows: Tensor, *, count: int = NEIGHBOURS) -> tuple[Tensor, Tensor]:
    """For every caption of the data set, the nearest sounds among `rows`, never its own.

    Returns:
        places: (captions, count) indices into `rows`; kin: (captions, count) bool, True = of the same family.
    """
    captions = features.captions
    place = torch.full((len(features.sounds),), -1, dtype=torch.long)
    place[rows] = torch.arange(len(rows))
    owners = place[captions.owners]
    kept = owners >= 0
    vectors, kept_owners = captions.pooled[kept], owners[kept]
    names: dict[str, int] = {}
    families = torch.tensor([names.setdefault(family(sound), len(names)) for sound in features.sounds])
    nearest, kin = [], []
    for begin in range(0, captions.pooled.shape[0], 1024):
        block = captions.pooled[begin : begin + 1024]
        best = torch.full((block.shape[0], len(rows)), -2.0)
        index = kept_owners[None].expand(block.shape[0], -1)
        best.scatter_reduce_(1, index, block @ vectors.T, "amax")
        own = owners[begin : begin + 1024]
        mine = torch.nonzero(own >= 0)[:, 0]
        best[mine, own[mine]] = -2.0
        top = best.topk(min(count, len(rows)), dim=1).indices
        nearest.append(top)
        kin.append(families[rows[top]] == families[captions.owners[begin : begin + 1024]][:, None])
    return torch.cat(nearest), torch.cat(kin)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    os.replace(partial, path)


def _key(codec: Codec, limit_tokens: int, sounds: list[Sound]) -> str:
    config, tensors = codec.to_parts()
    digest = hashlib.sha256(json.dumps([config, limit_tokens], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].float().numpy().tobytes())
    for sound in sounds:
        digest.update(f"{sound.id} {sound.seconds:.4f}\n".encode())
    return digest.hexdigest()[:12]


def _captions_key(sounds: list[Sound]) -> str:
    digest = hashlib.sha256()
    for sound in sounds:
        digest.update("|".join((sound.id, *sound.captions)).encode())
    return digest.hexdigest()[:12]
