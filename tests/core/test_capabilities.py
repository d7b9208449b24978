"""Words on records decide what fits together; a refusal names a choice that works, and that choice does."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core
from core.capabilities import check, nearest, problems, words
from core.discovery import discover
from core.errors import UserError
from core.records import Part
from core.registry import Offer, Registry

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = {"dense-base", "trainable-base"}
ADAPTER = {"dense-base|bitsandbytes"}


def offer(axis: str, name: str, provides=(), requires=(), conflicts=(), **more) -> Offer:
    """A part of which only the words matter."""
    distribution = more.pop("distribution", "hooktune")
    sets = {"provides": frozenset(provides), "requires": frozenset(requires), "conflicts": frozenset(conflicts)}
    part = Part(name=name, target="m:T", options="m:O", summary="", **sets, **more)
    return Offer(axis, part, plugin=name, distribution=distribution, version="1")


def refusal(chosen: list[Offer], others: list[Offer] = (), extra=frozenset()) -> UserError:
    with pytest.raises(UserError) as error:
        check({o.axis: o for o in chosen}, frozenset(extra), Registry(offers=[*chosen, *others]))
    return error.value


NONE = offer("quant", "none", PLAIN)
INT4 = offer("quant", "int4", {"bitsandbytes"})
FULL = offer("method", "full", requires={"trainable-base"})
LORA = offer("method", "lora", {"adapter"}, ADAPTER)


@pytest.mark.parametrize(("method", "quant"), [(FULL, NONE), (LORA, NONE), (LORA, INT4)])
def test_parts_that_fit_pass(method, quant):
    check({"method": method, "quant": quant}, frozenset(), Registry())


def test_a_word_that_is_missing_names_both_parts_and_each_way_out():
    error = refusal([FULL, INT4], [NONE, LORA])
    assert error.what == "method=full cannot run with quant=int4: it requires trainable-base"
    assert error.fix == "quant=none, or method=lora"


def test_either_of_two_words_is_enough_and_neither_is_named_in_words():
    odd = offer("quant", "odd", {"hqq"})
    error = refusal([LORA, odd], [NONE])
    assert error.what == "method=lora cannot run with quant=odd: it requires dense-base or bitsandbytes"
    assert error.fix == "quant=none"


def test_a_part_may_provide_what_it_requires_itself():
    check({"method": offer("method", "own", {"x"}, {"x"})}, frozenset(), Registry())


def test_what_the_core_provides_counts():
    needs_gpu = offer("method", "fast", requires={"cuda"})
    check({"method": needs_gpu, "quant": NONE}, frozenset({"cpu", "cuda"}), Registry())
    error = refusal([needs_gpu, NONE], [LORA], {"cpu"})
    assert (error.what, error.fix) == ("method=fast cannot run here: it requires cuda", "method=lora")


def test_a_conflict_is_with_other_parts_not_with_oneself():
    alone = offer("method", "alone", {"patched"}, conflicts={"patched"})
    check({"method": alone, "quant": NONE}, frozenset(), Registry())
    patching = offer("loader", "patching", {"patched"})
    error = refusal([alone, patching], [offer("loader", "transformers")])
    assert error.what == "method=alone cannot run with loader=patching, which is patched"
    assert error.fix == "loader=transformers"


def test_a_conflict_with_the_device_is_named():
    error = refusal([offer("quant", "fp8", PLAIN, conflicts={"cpu"})], [NONE], {"cpu"})
    assert (error.what, error.fix) == ("quant=fp8 cannot run here: this is cpu", "quant=none")


def test_parts_without_words_pass():
    check({axis: offer(axis, "x") for axis in ("metric", "optim", "data")}, frozenset(), Registry())


def test_two_changes_are_offered_when_one_is_not_enough():
    method, quant = offer("method", "m", requires={"a"}), offer("quant", "q", requires={"b"})
    error = refusal([method, quant], [offer("method", "m2", {"b2"}, {"b"}), offer("quant", "q2", {"b"}, {"b2"})])
    assert error.fix == "quant=q2 method=m2"


def test_without_a_way_out_help_is_named():
    assert "--help" in refusal([offer("method", "only", requires={"x"})]).fix


def test_what_cannot_be_chosen_is_no_way_out():
    unusable = [
        offer("quant", "a-missing", PLAIN, needs=("nowhere_to_be_found",)),
        offer("quant", "b-newer", PLAIN, api=2),
        offer("quant", "c-twice", PLAIN),
        offer("quant", "c-twice", PLAIN, distribution="acme"),
    ]
    assert refusal([FULL, INT4], [*unusable, NONE]).fix == "quant=none"


def test_our_own_parts_are_suggested_before_strangers():
    stranger = offer("quant", "aaa", PLAIN, distribution="acme")
    assert refusal([FULL, INT4], [stranger, NONE]).fix == "quant=none"


WORDS = st.frozensets(st.sampled_from(["a", "b", "c"]), max_size=2)
CLAUSES = st.frozensets(st.sampled_from(["a", "b", "c", "a|b", "b|c"]), max_size=2)


@given(st.lists(st.tuples(WORDS, CLAUSES, WORDS), min_size=9, max_size=9), WORDS)
@settings(max_examples=150, deadline=None)
def test_every_suggestion_works_and_changes_as_little_as_can_be(records, extra):
    """Against all combinations of three axes with three parts each, tried one by one."""
    keys = list(product(("quant", "method", "loader"), "xyz"))
    every = {key: offer(*key, *record) for key, record in zip(keys, records, strict=True)}
    registry = Registry(offers=list(every.values()))
    chosen = {axis: every[axis, "x"] for axis in ("quant", "method", "loader")}
    if not list(problems(chosen, extra)):
        check(chosen, extra, registry)
        return
    changes = [
        sum(name != "x" for name in names)
        for names in product("xyz", repeat=3)
        if not list(problems({axis: every[axis, n] for axis, n in zip(chosen, names, strict=True)}, extra))
    ]
    ways = nearest(chosen, extra, registry)
    for way in ways:
        assert len(way) == min(changes)
        check(chosen | {axis: every[axis, name] for axis, name in way.items()}, extra, registry)
    assert bool(ways) == (min(changes, default=3) < 3)


# ---------------------------------------------------------------------------------------------------------- built-in
def test_the_device_is_known_without_torch():
    here = words()
    assert {"cpu", "decoder", "causal-lm"} <= here
    assert ("cuda" in here) == Path("/dev/nvidiactl").exists()
    script = (
        "import sys, core\nfrom core.errors import UserError\n"
        "try:\n    core.configure(['method=full', 'quant=int4'])\nexcept UserError as error:\n    print(error)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY)
    what, fix, torch = done.stdout.splitlines()
    assert what == "error: method=full cannot run with quant=int4: it requires trainable-base"
    assert fix == "  fix: quant=none, or method=lora"
    assert torch == "False"


def test_a_metric_of_rewards_is_refused_where_none_are_given():
    with pytest.raises(UserError) as caught:
        core.configure(["metric=preference", "method=lora"])
    assert caught.value.what == "metric=preference cannot run with objective=sft: it requires preference"
    assert caught.value.fix == "metric=exact, or objective=cpo"
    assert core.configure(["metric=preference", "objective=dpo"]).choices["metric"] == "preference"


@pytest.mark.parametrize("quant", ["none", "int8", "int4"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_built_in_methods_fit_the_quantizers_that_they_are_meant_for(method, quant):
    if (method, quant[:3]) == ("full", "int"):
        with pytest.raises(UserError, match="requires trainable-base"):
            core.configure([f"method={method}", f"quant={quant}"])
    else:
        assert core.configure([f"method={method}", f"quant={quant}"]).choices["quant"] == quant


def test_every_word_of_a_built_in_part_is_in_the_table():
    from core import capabilities

    used = set()
    for found in discover().offers:
        if found.distribution == "hooktune":
            clauses = found.part.requires | found.part.provides | found.part.conflicts
            used |= {word for clause in clauses for word in clause.split("|")}
    assert used
    assert [word for word in sorted(used | words()) if f"``{word}``" not in (capabilities.__doc__ or "")] == []
