"""The work of `impact generate`: rows to files, in batches, with previews, progress and one line a take.

Knows the engine and the target. Does not know the command's options.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from impact_plugin.audio.files import check_folder, check_space, make_folder, sound_bytes
from impact_plugin.cli.output import Bar, print_json, print_line, progress_bar, remark
from impact_plugin.cli.rows import Row
from impact_plugin.cli.target import Target
from impact_plugin.errors import ImpactError
from impact_plugin.takes.record import TakeRecord
from impact_plugin.takes.save import write_new
from impact_plugin.takes.store import TakeStore

if TYPE_CHECKING:
    from impact_plugin.engine.control import JobControl
    from impact_plugin.engine.engine import Engine
    from impact_plugin.engine.events import Preview, Result
    from impact_plugin.engine.plan import Plan

#: Takes made in one batch: on a CPU a few fill the cores already.
BATCH = 8


@dataclass
class Work:
    """A row on its way. Times are of `time.monotonic`."""

    row: Row
    plan: Plan
    started: float = 0.0
    first_preview_s: float | None = None
    done: list[TakeRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """How takes are written and shown."""

    target: Target
    previews: Path | None
    overwrite: bool
    as_json: bool
    store: TakeStore


def make_takes(
    rows: Sequence[Row],
    target: Target,
    *,
    model: str | None,
    device: str,
    previews: Path | None,
    overwrite: bool,
    as_json: bool,
    like: TakeRecord | None = None,
) -> None:
    """Make every row's takes. Nothing is made before every row has been planned and the disk found large enough.

    Args:
        like: the take that the one row is made like; its model is used unless another is named.

    Raises:
        ImpactError: what is wrong with a row, the bundle, the disk or the memory.
    """
    if previews is not None:
        check_folder(previews)
    with progress_bar() as bar:
        bar.update(0.0, "loading the model")
        from impact_plugin.bundle.load import load_bundle
        from impact_plugin.cli.like import find_model, warning
        from impact_plugin.engine.engine import Engine

        bundle = load_bundle(find_model(like) if like is not None and model is None else model, device)
        if like is not None and (words := warning(like, bundle.info)):
            with bar.aside():
                remark(f"impact: {words}")
        engine = Engine(bundle)
        works = [Work(row, _plan(engine, row)) for row in rows]
        check_space(target.folder, sum(_bytes(work.plan, target) for work in works))
        for folder in (target.folder, previews):
            if folder is not None:
                make_folder(folder)
        store = TakeStore()
        options = Options(target, previews, overwrite, as_json, store)
        made = 0
        try:
            for batch in _batches(works):
                _make_batch(engine, batch, options, bar, made / len(works), len(batch) / len(works))
                made += len(batch)
        finally:
            store.close()
    if store.problem:
        remark(f"impact: the takes are saved, but not listed by `impact takes`: {store.problem}")


def _plan(engine: Engine, row: Row) -> Plan:
    try:
        return engine.plan(row.request)
    except ImpactError as error:
        text = f"{row.where}: {error.text}" if row.where else error.text
        raise ImpactError(error.code, text, error.field) from error


def _bytes(plan: Plan, target: Target) -> int:
    return plan.variants * sound_bytes(plan.seconds, plan.rate, target.subtype)


def _batches(works: Sequence[Work]) -> Iterator[list[Work]]:
    """Rows in their order, as many together as make :data:`BATCH` takes."""
    batch: list[Work] = []
    takes = 0
    for work in works:
        if batch and takes + work.plan.variants > BATCH:
            yield batch
            batch, takes = [], 0
        batch.append(work)
        takes += work.plan.variants
    if batch:
        yield batch


def _make_batch(engine: Engine, batch: list[Work], options: Options, bar: Bar, before: float, share: float) -> None:
    from impact_plugin.engine.control import JobControl
    from impact_plugin.engine.events import Preview, Progress, Result

    fractions = [0.0] * len(batch)
    started = time.monotonic()
    for work in batch:
        work.started = started
    controls = [JobControl() for _ in batch]
    for work, control in zip(batch, controls, strict=True):
        _put_in(work, control, 0)
    for number, event in engine.run_together([work.plan for work in batch], controls):
        work = batch[number]
        if isinstance(event, Progress):
            _put_in(work, controls[number], event.iteration)
            fractions[number] = event.fraction
            done = before + share * sum(fractions) / len(batch)
            bar.update(done, work.plan.prompt, event.seconds_left if share == 1.0 else None)
        elif isinstance(event, Preview):
            _write_preview(work, event, options, bar)
        elif isinstance(event, Result):
            _write_take(work, event, options, bar)


def _put_in(work: Work, control: JobControl, iteration: int) -> None:
    """The words that are to be followed from the next iteration on, where the row has some."""
    for change in work.row.changes:
        if change.iteration == iteration:
            control.set_prompt(change.prompt, change.weight)


def _write_preview(work: Work, preview: Preview, options: Options, bar: Bar) -> None:
    from impact_plugin.audio.files import encode_sound

    if options.previews is None:
        return
    stem = options.target.preview(work.row, work.plan, preview.variant, preview.iteration)
    data = encode_sound(preview.audio, preview.rate, format="wav", subtype="PCM_16")
    path = write_new(options.previews, stem, ".wav", data, overwrite=options.overwrite)
    if work.first_preview_s is None:
        work.first_preview_s = round(time.monotonic() - work.started, 3)
    with bar.aside():
        remark(f"preview {path}")


def _write_take(work: Work, result: Result, options: Options, bar: Bar) -> None:
    from impact_plugin.engine.record import take_record

    target, plan = options.target, work.plan
    record = take_record(work.row.id, plan, result, work.first_preview_s, time.monotonic() - work.started)
    record = options.store.save(
        result.audio,
        record.model_copy(update={"parent": work.row.parent}),
        folder=target.folder,
        stem=target.take(work.row, plan, result.variant),
        format=target.format,
        subtype=target.subtype,
        overwrite=options.overwrite,
    )
    work.done.append(record)
    with bar.aside():
        if options.as_json:
            print_json(record.row())
        else:
            print_line(f"{record.path}  {record.seconds:.2f} s  seed {record.seed}  {record.rate} hz")
    if plan.request.play:
        _play(result)


def _play(result: Result) -> None:
    """Play a take on the default device, if there is one; a take is never lost for want of a loudspeaker."""
    from impact_plugin.audio.playback import Player

    with Player.open() as player:
        player.play("take", result.audio, result.rate)
        player.wait(result.seconds + 10.0)
        if player.reason:
            remark(f"impact: cannot play: {player.reason}")
