"""``gyrus explain --leaderboard``: which map, from which layer, at which threshold, can I believe on this model?"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from gyrus.artifacts import is_finished, read_json, refuse_existing, write_json, write_manifest
from gyrus.devices import pick_device
from gyrus.errors import InputError
from gyrus.evaluate.localization import class_priors
from gyrus.explain.engine import Explainer
from gyrus.leaderboard.contest import Contest
from gyrus.leaderboard.learning import Choices, from_plain, learn_thresholds, to_plain
from gyrus.leaderboard.page import write_leaderboard_page
from gyrus.leaderboard.settings import Settings
from gyrus.leaderboard.sources import Source, draw_sample, find_sources, statement
from gyrus.leaderboard.store import Scores, join_parts, write_part
from gyrus.leaderboard.summary import summarise
from gyrus.leaderboard.workers import side_by_side, workers_for
from gyrus.loading import Progress, batches
from gyrus.models import load_model
from gyrus.paths import PathLike, maybe_path
from gyrus.records import Record

SETTINGS, PARTS, TABLE, BOARD = "settings.json", "parts", "slices.parquet", "leaderboard.json"
BATCH = {False: 16, True: 8}
"""Slices per file of scores; fewer of the sample, on each of which a hundred times the work is done."""


def make_settings(**fields: Any) -> Settings:
    """Return settings from plain values; those that are None keep their default.

    Raises:
        InputError: a value is out of range; the message names the field.
    """
    try:
        return Settings.model_validate({k: v for k, v in fields.items() if v is not None})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{first['loc'][0]} = {first['input']!r} cannot be used: {first['msg']}") from None


def build_leaderboard(
    model: PathLike,
    out: PathLike,
    *,
    settings: Settings | None = None,
    data: PathLike | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score every method, at every layer, under every threshold, by every metric, on slices the model never saw.

    Maps argue for the predicted class, and thresholds are either blind to outlines or learned on training patients, so
    that every figure is one that a reader without the truth could have had. Batches are written as they are done;
    memory does not grow with their number.

    Args:
        model: a run that ``gyrus train`` finished, whose test part is explained; or a folder of the runs of one
            cross-validation, each of whose test parts is explained by the model that never saw it.
        out: the folder to write: ``leaderboard.json`` and its page ``leaderboard.html``, and every slice's scores in
            ``slices.parquet``.
        settings: methods, layers, sizes of the samples, seed.
        data: the dataset, where it has moved since training.
        resume: continue an unfinished leaderboard in ``out`` that was begun with the same arguments.
        device: "cpu", "cuda", or "auto".
        progress: called as work goes on.

    Returns:
        The content of ``leaderboard.json``; see :func:`gyrus.leaderboard.summary.summarise`.

    Raises:
        InputError: no finished run, changed data, no outlines, an unknown method or layer, ``out`` is taken, or an
            unfinished leaderboard there was begun with other arguments.
    """
    started = time.time()
    model, out, data = Path(model), Path(out), maybe_path(data)
    chosen = settings or Settings()
    sources = find_sources(model, data, learn=chosen.learn, seed=chosen.seed)
    _claim(out, {**chosen.model_dump(mode="json"), "runs": [_identity(s) for s in sources]}, resume)
    board = _Board(out, chosen, sources, pick_device(device), progress)
    board.check()
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    write_json(out / SETTINGS, board.arguments)
    learned = [board.compete(source) for source in sources]
    join_parts(board.files(), out / TABLE)
    scores = Scores(out / TABLE)
    value = summarise(scores, chosen, sources, learned)
    write_json(out / BOARD, value)
    shutil.rmtree(out / PARTS)
    facts = {"split": statement(sources), "data": str(sources[0].dataset.root.absolute())}
    write_manifest(out, "leaderboard", started=started, arguments=board.arguments, facts=facts)
    write_leaderboard_page(out, data=data)
    return value


@dataclass(frozen=True, slots=True, eq=False)
class _Chunk:
    """A batch: whose, whether of the sample, which slices, and where their scores lie."""

    source: Source
    sampled: bool
    records: Sequence[Record]
    path: Path


@dataclass(frozen=True, eq=False)
class _Board:
    """A leaderboard on its way."""

    out: Path
    settings: Settings
    sources: Sequence[Source]
    device: torch.device
    progress: Progress | None

    @property
    def arguments(self) -> dict[str, Any]:
        return {**self.settings.model_dump(mode="json"), "runs": [_identity(s) for s in self.sources]}

    def check(self) -> None:
        """Refuse methods and layers that do not exist before a file is read."""
        for source in self.sources:
            with Explainer(load_model(source.run), self.settings.layers) as explainer:
                explainer.find_methods(self.settings.methods)

    def compete(self, source: Source) -> Choices:
        """Score one model's slices, those already done left as they are, and return the thresholds it learned."""
        model = load_model(source.run, device=self.device)
        spec = model.spec.preprocess
        priors = class_priors(source.training, spec)
        file = self.out / PARTS / f"{source.name}.json"
        if file.is_file():
            learned = from_plain(read_json(file, "learned thresholds"))
        else:
            learned = learn_thresholds(source, model, class_priors(source.others, spec), self.settings, self.progress)
            write_json(file, to_plain(learned))
        models = [model, *(copy.deepcopy(model) for _ in range(1, workers_for(self.device)))]
        contests = [Contest.prepare(source, m, self.settings, priors, learned) for m in models]
        todo = [c for c in self._chunks() if c.source is source and not c.path.is_file()]
        done = sum(len(c.records) for c in self._chunks() if c.path.is_file())
        total = sum(len(s.tested) for s in self.sources)
        with closing(side_by_side([partial(_score, contest) for contest in contests], todo)) as results:
            for scored in results:
                done += scored
                if self.progress:
                    self.progress("scoring maps", done, total)
        return learned

    def files(self) -> list[Path]:
        """Return every part's file, in order."""
        return [c.path for c in self._chunks()]

    def _chunks(self) -> Iterator[_Chunk]:
        """Yield the batches, of each source those of the sample first: they take longest."""
        sample = draw_sample(self.sources, self.settings.sample, self.settings.seed)
        for source in self.sources:
            for sampled in (True, False):
                records = [r for r in source.tested if (r.id in sample) == sampled]
                size = BATCH[sampled]
                for start in range(0, len(records), size):
                    name = f"{source.name}-{'sample' if sampled else 'rest'}-{start:06d}.parquet"
                    yield _Chunk(source, sampled, records[start : start + size], self.out / PARTS / name)


def _score(contest: Contest, chunk: _Chunk) -> int:
    """Write the scores of a batch, and return of how many slices."""
    for batch in batches(chunk.records, contest.model.spec.preprocess, len(chunk.records)):
        write_part(chunk.path, contest.rows(batch, sampled=chunk.sampled))
    return len(chunk.records)


def _identity(source: Source) -> dict[str, str]:
    return {"run": str(source.run.absolute()), "split": source.split.statement, "data": source.split.fingerprint}


def _claim(out: Path, arguments: dict[str, Any], resume: bool) -> None:
    """Refuse a folder that is taken, or an unfinished leaderboard with other arguments."""
    if not out.exists():
        refuse_existing(out)
        return
    if is_finished(out):
        raise InputError(f"{out} holds a finished leaderboard: choose another --out, or remove it first")
    if not (out / SETTINGS).is_file():
        raise InputError(f"{out} already exists and is no leaderboard: choose another --out")
    if not resume:
        raise InputError(f"{out} holds an unfinished leaderboard: continue it with --resume, or remove it")
    if read_json(out / SETTINGS, "a leaderboard's settings") != arguments:
        raise InputError(f"{out} was begun with other arguments ({out / SETTINGS}): resume with the same ones")
