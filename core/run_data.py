"""The data of a run: read, checked and encoded, or taken from the cache."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np

from core import data_cache
from core.cache import cache_folder
from core.contracts import Head
from core.data import Encoded, encode
from core.errors import UserError
from core.formats import UnsuitedError
from core.groups import epoch, taken
from core.lint import lint
from core.own_system import own_system
from core.plan import Plan
from core.rows import head_of, prepared, read_rows
from core.suited import suited


@dataclass
class Data:
    """The rows of a run as the objective encodes them.

    Attributes:
        head: Which model class they need.
        train: What is trained on.
        validation: What is held out, or empty.
        warnings: What is odd about them.
    """

    head: Head
    train: Encoded
    validation: Encoded
    warnings: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """How many rows and tokens, how much of them is learned, and what they were recognised as."""
        facts, shares = self.train.facts, self.train.shares
        drawn = "" if shares is None else f" ({epoch(shares):,} drawn in an epoch)"
        return (
            f"{len(self.train.rows):,} to train{drawn}, {len(self.validation.rows):,} held out; "
            f"{facts.tokens:,} tokens, {facts.supervised / max(1, facts.tokens):.1%} of them supervised; "
            f"format {facts.format}"
        )


def read(plan: Plan) -> Data:
    """Read, check and encode the rows.

    Raises:
        UserError: a file, a row or the whole set cannot be used.
    """
    if plan.options.batch_size < plan.objective.smallest_batch:
        raise UserError(
            f"data.batch_size={plan.options.batch_size} is too small: {plan.config.offers['objective'].part.name} "
            f"compares examples with each other",
            f"data.batch_size={plan.objective.smallest_batch}",
        )
    _refuse_unused(plan)
    head, encoded, warnings = _encoded(plan)
    train, held_out = encoded
    if train.shares is not None:
        _refuse_untaken(train.shares, train.owners)
    _refuse_too_long(plan, max(train.facts.longest, held_out.facts.longest))
    odd = lint(train.facts, held_out.facts, plan.options.tolerance, plan.options.max_length)
    return Data(head, train, held_out, (*odd, *warnings))


def _refuse_untaken(shares: Sequence[float], owners: Sequence[int]) -> None:
    """A file that is mixed in and never trained on would look as if it were."""
    for share in sorted(set(shares)):
        rows = len({owner for owner, other in zip(owners, shares, strict=True) if other == share})
        if not taken(share, shares.count(share)):
            raise UserError(
                f"data.mix: a share of {share:g} takes none of its {rows:,} row{'' if rows == 1 else 's'} in an epoch",
                f"a share of {math.ceil(100 / rows) / 100:g} or more",
            )


def _refuse_too_long(plan: Plan, longest: int) -> None:
    """Beyond its context a model has no positions, or none that it was trained with."""
    longest, context = min(longest, plan.options.max_length), plan.facts.context
    if 0 < context < longest:
        raise UserError(
            f"a row takes {longest:,} tokens, and {plan.config.model.path} was made for {context:,}",
            f"data.max_length={context}, or raise max_position_embeddings in its config.json if it can take more",
        )


def _refuse_unused(plan: Plan) -> None:
    """A share to hold out that was typed must count: a source may have validation rows of its own."""
    typed = next((o.lstrip("+") for o in plan.config.overrides if o.lstrip("+").startswith("data.holdout=")), None)
    if typed is None or plan.source.rows("validation") is None:
        return
    if not getattr(plan.options, "validation", None):
        raise UserError(
            f"{typed}: data={plan.config.choices['data']} holds out rows of its own",
            "leave it out; metric=none measures nothing",
        )
    if plan.options.holdout:  # 0 is true: none of the rows to train on are held out
        raise UserError(f"{typed} beside data.validation, whose rows are those held out", "leave one of them out")


def _encoded(plan: Plan) -> tuple[Head, list[Encoded], Sequence[str]]:
    """Both sides, from the cache when an earlier run encoded them."""
    stamp = plan.source.fingerprint() if plan.options.cache else None
    name = data_cache.key(plan, stamp) if stamp is not None else None
    if name is not None and (known := data_cache.find(name)) is not None:
        return Head(**known[1]["head"]), known[0], known[1]["warnings"]
    try:
        sides = read_rows(plan.source, plan.objective, plan.options, plan.config.seed)
    except UnsuitedError as error:
        raise suited(error, plan.config.offers["objective"].part.name, plan.config.registry) from None
    if plan.options.cache and name is None:
        name = data_cache.key(plan, [sha256(np.asarray(rows.hashes).tobytes()).hexdigest() for rows in sides])
        if (known := data_cache.find(name)) is not None:
            return Head(**known[1]["head"]), known[0], known[1]["warnings"]
    ready = [prepared(rows, plan.objective) for rows in sides]
    head = head_of(ready[0], plan.objective)
    folder = data_cache.begin() if name is not None else None
    kept = False
    try:
        found = encode(ready, plan.objective, plan.tokenizer, plan.options, plan.facts.vocabulary, head, folder)
        warnings = list(plan.objective.check_examples(found[0].examples))
        if plan.options.system == "" and (own := own_system(plan.tokenizer)):
            warnings.append(f"data.system is empty, and the chat template has a system message of its own: {own!r}")
        if folder is not None and name is not None:
            kept = data_cache.keep(folder, name, found, {"head": asdict(head), "warnings": warnings})
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    if name is not None and not kept:
        warnings.append(f"encoded rows are not kept for the next run: {cache_folder()} cannot be written")
    return head, found, warnings
