"""Iterative mask-based parallel decoding as a generator: one yield an iteration (IMPACT sec. 3.3).

The caller holds progress, previews, prompt changes and cancelling: it reads each state, may put another condition in
place between two iterations, and cancels by dropping the generator. Each sample has its own seed, order, schedule and
noise, so what it becomes does not depend on what else is in the batch. Knows latents; no audio, no text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from impact_plugin.model.condition import Condition
from impact_plugin.model.diffusion import Sampler, annealed_steps
from impact_plugin.model.impact import ImpactModel
from impact_plugin.model.masking import Order, generator, reveal_counts, reveal_order

_START, _STEP = 2, 3  # purposes of a sample's random numbers, see `masking.generator`


@dataclass(frozen=True)
class DecodeSettings:
    """How a sound is decoded.

    Attributes:
        iterations: T. guidance: largest scale; 1 = off.
        guidance_schedule: `linear` in the share revealed (the paper's) or `constant`.
        sampler, head_steps: of the diffusion head; head_steps_last: annealed towards it (None = constant).
        temperature: of the head's noise. order: of revealing.
        coherence: correlation of the noise that neighbouring tokens start from, 0 (the paper's) to 1. Tokens decided
            in one iteration do not see each other; what the condition leaves open they then decide alike. For the
            deterministic samplers; each token's own distribution stays the same.
        inspiration: share of the head's process that a sketch replaces, 0 (none) to 1; see :meth:`Track.lean_on`.
        draft_steps: head steps for the draft of undecided tokens; 0 = no draft, they stay zero.
        limit: clamp of latents in standard deviations; None = no clamp.
    """

    iterations: int = 64
    guidance: float = 5.0
    guidance_schedule: Literal["linear", "constant"] = "linear"
    sampler: Sampler = "ddpm"
    head_steps: int = 100
    head_steps_last: int | None = None
    temperature: float = 1.0
    coherence: float = 0.0
    inspiration: float = 0.0
    order: Order = "random"
    draft_steps: int = 0
    limit: float | None = None


@dataclass
class DecodeState:
    """A batch after an iteration.

    Attributes:
        iteration: how many are done, 0...iterations; iterations: of the slowest sample.
        latents: (batch, tokens, dims); undecided tokens hold a draft, or zeros without one.
        mask: (batch, tokens) bool, True = undecided.
    """

    iteration: int
    iterations: int
    latents: Tensor
    mask: Tensor


@dataclass
class Track:
    """One sample on its way: what is decided, what comes next. Made by :func:`start_track`."""

    seed: int
    settings: DecodeSettings
    latents: Tensor  # (tokens, dims)
    draft: Tensor  # (tokens, dims), decided tokens and the draft of the others
    mask: Tensor  # (tokens,) True = undecided
    order: Tensor  # undecided places in the order of revealing
    counts: list[int]
    noise: Tensor  # (tokens, dims) standard normal
    start: Tensor  # (tokens, dims) what each token starts from: the noise, or a noisy sketch
    begin: float = 1.0  # share of the head's process that is run from there
    iteration: int = 0
    revealed: int = field(default=0)

    @property
    def done(self) -> bool:
        return self.iteration >= len(self.counts)

    def lean_on(self, model: ImpactModel, sketch: Tensor | None) -> None:
        """Let undecided tokens begin from a noisy sketch (SDEdit, arXiv 2108.01073) instead of from noise alone.

        Args:
            sketch: (tokens, dims) latents of a sound like the wanted one; None = from noise.
        """
        self.begin = 1.0 if sketch is None else 1.0 - self.settings.inspiration
        self.start = self.noise
        if sketch is not None:
            self.start = model.diffusion.from_sketch(sketch.to(self.noise.device), self.noise, self.begin)

    def share_after(self) -> float:
        """Share of all tokens that is decided once the coming iteration is done."""
        decided = int((~self.mask).sum()) + self.counts[self.iteration]
        return decided / self.mask.shape[0]


def start_track(
    model: ImpactModel,
    *,
    tokens: int,
    seed: int,
    settings: DecodeSettings,
    known: Tensor | None = None,
    undecided: Tensor | None = None,
    device: torch.device | None = None,
) -> Track:
    """A sample before its first iteration.

    Args:
        tokens: length; seed: of everything random in it.
        known: (tokens, dims) latents that are given; undecided: (tokens,) bool, True = to be decoded.

    Raises:
        ValueError: when the sequence is empty or longer than the model's positions.
    """
    if not 1 <= tokens <= model.config.tokens:
        raise ValueError(f"tokens must lie in 1...{model.config.tokens}, not {tokens}")
    device = device or next(model.parameters()).device
    dims = model.config.dims
    mask = torch.ones(tokens, dtype=torch.bool) if undecided is None else undecided.bool().cpu().clone()
    latents = torch.zeros(tokens, dims) if known is None else known.float().cpu().clone()
    if latents.shape != (tokens, dims) or mask.shape != (tokens,):
        raise ValueError(f"known latents must be ({tokens}, {dims}) and their mask ({tokens},)")
    latents[mask] = 0.0
    order = reveal_order(tokens, settings.order, seed, rows=model.config.grid_rows)
    order = order[mask[order]]
    noise = coherent_noise(tokens, dims, settings.coherence, seed, rows=model.config.grid_rows)
    return Track(
        seed=seed,
        settings=settings,
        latents=latents.to(device),
        draft=latents.to(device, copy=True),
        mask=mask.to(device),
        order=order.to(device),
        counts=reveal_counts(len(order), settings.iterations),
        noise=noise.to(device),
        start=noise.to(device),
    )


def coherent_noise(tokens: int, dims: int, coherence: float, seed: int, *, rows: int = 1) -> Tensor:
    """Standard normal noise for every token of a sample; tokens that follow each other in time correlate.

    Returns:
        (tokens, dims), tokens time-major over `rows` frequency rows.
    """
    noise = torch.randn(tokens, dims, generator=generator(seed, _START))
    if coherence > 0.0:
        fresh = (1.0 - coherence**2) ** 0.5
        for begin in range(rows, tokens, rows):
            now = noise[begin : begin + rows]
            noise[begin : begin + rows] = coherence * noise[begin - rows : begin][: len(now)] + fresh * now
    return noise


@torch.no_grad()
def advance(
    model: ImpactModel,
    tracks: Sequence[Track],
    condition: Condition,
    null: Condition | None = None,
    *,
    draft: bool | Sequence[bool] = False,
) -> float:
    """One iteration for every track of a batch, whatever its length or schedule; finished tracks must not be in it.

    Args:
        condition: (len(tracks)) what each follows now; null: what guidance pushes away from (default: the learned
            null condition; a negative prompt goes here).
        draft: also estimate the undecided tokens with each track's `draft_steps`; one answer for all or one a track.

    Returns:
        Seconds that the drafts took (on a GPU, until they were handed over to it).
    """
    drafting = 0.0
    drafts = [draft] * len(tracks) if isinstance(draft, bool) else draft
    latents, hidden, present = _pad(tracks)
    guided = [track.settings.guidance != 1.0 for track in tracks]
    vectors = model.encode(latents, hidden, present, condition)
    null_vectors: Tensor | None = None
    if any(guided):
        rows = [i for i, wanted in enumerate(guided) if wanted]
        null_condition = (null or condition.null()).rows(rows)
        part = model.encode(latents[rows], hidden[rows], present[rows], null_condition)
        null_vectors = vectors.clone()
        null_vectors[rows] = part
    for wants, places, scale in _groups(tracks, drafts):
        began = time.perf_counter()
        _denoise(model, tracks, wants, places, vectors, null_vectors, scale)
        drafting += time.perf_counter() - began if wants.draft else 0.0
    for track in tracks:
        now = _places_now(track)
        track.mask[now] = False
        track.latents[now] = track.draft[now]
        track.revealed += len(now)
        track.iteration += 1
    return drafting


def _pad(tracks: Sequence[Track]) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(track.latents.shape[0] for track in tracks)
    device = tracks[0].latents.device
    latents = torch.zeros(len(tracks), longest, tracks[0].latents.shape[1], device=device)
    hidden = torch.zeros(len(tracks), longest, dtype=torch.bool, device=device)
    present = torch.zeros_like(hidden)
    for row, track in enumerate(tracks):
        length = track.latents.shape[0]
        latents[row, :length] = track.latents
        hidden[row, :length] = track.mask
        present[row, :length] = True
    return latents, hidden, present


def _places_now(track: Track) -> Tensor:
    return track.order[track.revealed : track.revealed + track.counts[track.iteration]]


@dataclass(frozen=True)
class _Plan:
    """How the head runs for a group of tokens: tokens of several tracks go together when these agree."""

    sampler: Sampler
    steps: int
    temperature: float
    limit: float | None
    begin: float
    draft: bool


def _groups(tracks: Sequence[Track], drafts: Sequence[bool]) -> list[tuple[_Plan, dict[int, Tensor], dict[int, float]]]:
    """Tokens to denoise: by plan, for each track its places and its guidance scale."""
    groups: dict[_Plan, tuple[dict[int, Tensor], dict[int, float]]] = {}
    for row, track in enumerate(tracks):
        settings = track.settings
        before = float((~track.mask).sum()) / track.mask.shape[0]
        steps = settings.head_steps
        if settings.head_steps_last is not None:
            steps = annealed_steps(steps, settings.head_steps_last, before)
        scale = settings.guidance
        if settings.guidance_schedule == "linear":
            scale = 1.0 + (settings.guidance - 1.0) * track.share_after()
        plan = _Plan(settings.sampler, steps, settings.temperature, settings.limit, track.begin, False)
        wanted = [(plan, _places_now(track))]
        if drafts[row] and settings.draft_steps > 0:
            rest = track.order[track.revealed + track.counts[track.iteration] :]
            if len(rest):
                wanted.append((_Plan("ddim", settings.draft_steps, 1.0, settings.limit, track.begin, True), rest))
        for plan, places in wanted:
            where, scales = groups.setdefault(plan, ({}, {}))
            where[row], scales[row] = places, scale
    return [(plan, where, scales) for plan, (where, scales) in groups.items()]


def _denoise(
    model: ImpactModel,
    tracks: Sequence[Track],
    plan: _Plan,
    places: dict[int, Tensor],
    vectors: Tensor,
    null_vectors: Tensor | None,
    scales: dict[int, float],
) -> None:
    """Run the head for one group and write what comes out into the tracks' drafts."""
    rows = list(places)
    device = vectors.device
    condition = torch.cat([vectors[row, places[row]] for row in rows])
    null = None
    guidance = None
    if null_vectors is not None and not plan.draft:
        null = torch.cat([null_vectors[row, places[row]] for row in rows])
        guidance = torch.cat([torch.full((len(places[row]),), scales[row], device=device) for row in rows])
    start = torch.cat([tracks[row].start[places[row]] for row in rows])
    sources = {row: generator(tracks[row].seed, _STEP, tracks[row].iteration) for row in rows}

    def noise(step: int) -> Tensor:
        dims = start.shape[1]
        parts = [torch.randn(len(places[row]), dims, generator=sources[row]) for row in rows]
        return torch.cat(parts).to(device)

    clean = model.diffusion.sample(
        model.head,
        condition,
        start,
        noise,
        sampler=plan.sampler,
        steps=plan.steps,
        null=null,
        guidance=guidance,
        temperature=plan.temperature,
        limit=plan.limit,
        begin=plan.begin,
    )
    sizes = [len(places[row]) for row in rows]
    for row, part in zip(rows, torch.split(clean, sizes), strict=True):
        tracks[row].draft[places[row]] = part


class ConditionHolder:
    """The condition a running decode follows; the caller replaces it between two iterations."""

    def __init__(self, condition: Condition, null: Condition | None = None) -> None:
        self.condition = condition
        self.null = null


def decode(
    model: ImpactModel,
    condition: Condition | ConditionHolder,
    *,
    tokens: int | Sequence[int],
    seeds: Sequence[int],
    settings: DecodeSettings,
    known: Tensor | None = None,
    undecided: Tensor | None = None,
    draft: bool = False,
) -> Iterator[DecodeState]:
    """Decode a batch, yielding its state after every iteration.

    Args:
        condition: of the batch, or a holder whose content the caller may replace between iterations.
        tokens: length of all samples, or one a sample.
        seeds: one a sample.
        known: (batch, tokens, dims) given latents; undecided: (batch, tokens) bool, True = to be decoded.
        draft: fill undecided tokens of each state with a cheap estimate.

    Yields:
        `DecodeState`; the last one has nothing undecided. The latents are copies: keep them as you like. A known
        sound without undecided tokens yields once.

    Raises:
        ValueError: when shapes do not fit.
    """
    holder = condition if isinstance(condition, ConditionHolder) else ConditionHolder(condition)
    lengths = [tokens] * len(seeds) if isinstance(tokens, int) else list(tokens)
    if len(lengths) != len(seeds) or holder.condition.batch != len(seeds):
        raise ValueError(f"{len(seeds)} seeds, {len(lengths)} lengths and {holder.condition.batch} conditions differ")
    device = next(model.parameters()).device
    tracks = [
        start_track(
            model,
            tokens=length,
            seed=seed,
            settings=settings,
            known=None if known is None else known[row, :length],
            undecided=None if undecided is None else undecided[row, :length],
            device=device,
        )
        for row, (length, seed) in enumerate(zip(lengths, seeds, strict=True))
    ]
    iterations = max(len(track.counts) for track in tracks)
    if iterations == 0:
        yield _state(tracks, 0, 0)
        return
    for iteration in range(iterations):
        rows = [row for row, track in enumerate(tracks) if not track.done]
        null = None if holder.null is None else holder.null.rows(rows)
        advance(model, [tracks[row] for row in rows], holder.condition.rows(rows), null, draft=draft)
        yield _state(tracks, iteration + 1, iterations)


def _state(tracks: Sequence[Track], iteration: int, iterations: int) -> DecodeState:
    latents, _, present = _pad(tracks)
    mask = torch.zeros_like(present)
    for row, track in enumerate(tracks):
        length = track.draft.shape[0]
        latents[row, :length] = track.draft
        mask[row, :length] = track.mask
    return DecodeState(iteration, iterations, latents, mask)
