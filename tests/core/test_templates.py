"""What is learned of generated conversations, through the chat templates that most models have."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.chat import chat_tokens, reformed
from core.errors import RowError
from core.own_system import own_system
from plugins.sft.objective import SFT
from plugins.sft.options import SFTOptions

FOLDER = Path(__file__).resolve().parents[1] / "data" / "templates"
CALM = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


@dataclass(frozen=True)
class Template:
    """A model's way to write conversations.

    Attributes:
        end: What ends the assistant's turn.
        header: What the prompt for an answer ends with.
        first: The first token of every conversation.
        special: Further special tokens.
        system: Whether it takes a system message.
        written: What it makes of an answer's text.
    """

    end: str
    header: str
    first: str | None = None
    special: tuple[str, ...] = ()
    system: bool = True
    written: Callable[[str], str] = lambda said: said


GEMMA = {"end": "<end_of_turn>", "header": "model\n", "first": "<bos>", "special": ("<start_of_turn>", "<eos>")}
TEMPLATES = {
    "smollm2": Template(end="<|im_end|>", header="assistant\n"),
    "qwen2_5": Template(end="<|im_end|>", header="assistant\n"),
    "qwen3": Template(
        end="<|im_end|>",
        header="assistant\n",
        written=lambda said: "<think>\n\n</think>\n\n" + said.lstrip("\n"),
    ),
    "llama3": Template(
        end="<|eot_id|>",
        header="<|end_header_id|>\n\n",
        first="<|begin_of_text|>",
        special=("<|start_header_id|>", "<|end_header_id|>"),
        written=str.strip,
    ),
    "gemma": Template(**GEMMA, system=False, written=str.strip),
    "gemma3": Template(**GEMMA, written=str.strip),
    "mistral": Template(
        end="</s>",
        header="[/INST]",
        first="<s>",
        special=("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
        system=False,  # it shows one before the last message alone, and only if that is a user's
        written=lambda said: " " + said.strip(),
    ),
}
"""File in tests/data/templates, or SmolLM2's own, and what is known of it."""


@pytest.fixture(scope="session")
def templated(smollm2):
    """``templated(name)`` is SmolLM2's tokenizer with that template and its special tokens."""

    @cache
    def make(name):
        template, tokenizer = TEMPLATES[name], copy.deepcopy(smollm2)
        if name != "smollm2":
            tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
        tokenizer.add_special_tokens({"additional_special_tokens": list(template.special)})
        tokenizer.add_special_tokens({"eos_token": template.end, "bos_token": template.first or "<|im_start|>"})
        return tokenizer

    return make


def texts(said: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Any text, with what templates themselves write, and white space, here and there."""
    odd = [" ", "\n", "\n\n", "\t", "\r\n", "\u3000", "é", "日本語", "🙂", "e\u0301", "Hello", "assistant\n", "user: "]
    odd += ["<|im_start|>assistant\n", "<|im_end|>", "<|eot_id|>", "<end_of_turn>\n<start_of_turn>model\n", "[/INST]"]
    odd += ["</s>", "<s>", "{{ messages }}", "{% endfor %}", "<tool_call>", "<|endoftext|>"]
    return st.lists(st.sampled_from(odd) | said, max_size=4).map("".join)


SAID = texts(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
ANSWERS = SAID.filter(str.strip)
TURNS = st.lists(st.tuples(SAID, ANSWERS), min_size=1, max_size=4)


def conversation(system: str | None, turns: list[tuple[str, str]]) -> list[dict]:
    messages = [] if system is None else [{"role": "system", "content": system}]
    for asked, answer in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return messages


def learned(tokenizer, tokens, rest: float = 0.0) -> list[tuple[str, float]]:
    """Text and weight of each run of tokens that weigh otherwise than ``rest``."""
    runs = groupby(zip(tokens.ids, tokens.loss_weights, strict=True), key=lambda pair: pair[1])
    return [(tokenizer.decode([i for i, _ in run]), weight) for weight, run in runs if weight != rest]


def check(name: str, tokenizer, found: list[tuple[str, float]], wanted: list[tuple[str, float]]) -> None:
    """Each run is the text and the end token; white space that opens an answer may share a token with the header's."""
    template = TEMPLATES[name]
    assert [weight for _, weight in found] == [weight for _, weight in wanted]
    for (text, _), (said, _) in zip(found, wanted, strict=True):
        written = template.written(said) + template.end
        # there and back, because the tokenizer does not know every byte
        expected = tokenizer.decode(tokenizer(written, add_special_tokens=False)["input_ids"])
        assert text.endswith(expected)
        before = text.removesuffix(expected)
        assert before == "" or (written[0].isspace() and template.header.endswith(before))


@pytest.mark.parametrize("name", TEMPLATES)
@CALM
@given(system=st.none() | SAID.filter(str.strip), turns=TURNS)
def test_the_assistants_texts_and_their_end_tokens_are_learned_and_nothing_else(templated, name, system, turns):
    tokenizer, messages = templated(name), conversation(system, turns)
    if system is not None and not TEMPLATES[name].system:
        with pytest.raises(RowError, match=r"System role not supported|cannot be told apart"):
            chat_tokens(tokenizer, messages)
        return
    tokens = chat_tokens(tokenizer, messages)
    check(name, tokenizer, learned(tokenizer, tokens), [(answer, 1.0) for _, answer in turns])


@pytest.mark.parametrize("name", TEMPLATES)
@CALM
@given(
    turns=TURNS,
    given_weights=st.lists(st.sampled_from([None, 0, 0.5, "2"]), min_size=4, max_size=4),
    only=st.sampled_from(["all", "last"]),
    rest=st.sampled_from([0.0, 0.25]),
    row_weight=st.sampled_from([None, 3]),
)
def test_turns_and_weights_choose_what_is_learned(templated, name, turns, given_weights, only, rest, row_weight):
    tokenizer, messages = templated(name), conversation(None, turns)
    wanted = []
    for i, ((_, answer), weight) in enumerate(zip(turns, given_weights, strict=False)):
        if weight is not None:
            messages[2 * i + 1]["weight"] = weight
        if weight == 0 and rest:  # else it weighs what all other tokens do
            wanted.append((answer, 0.0))
        if weight != 0 and (only == "all" or i == len(turns) - 1):
            wanted.append((answer, (row_weight or 1) * float(1 if weight is None else weight)))
    options = SFTOptions(name="sft", turns=only, prompt_weight=rest, label_smoothing=0.0, z_loss=0.0, neftune_alpha=0.0)
    tokens = SFT(options).encode({"messages": messages, "weight": row_weight}, tokenizer)["completion"]
    check(name, tokenizer, learned(tokenizer, tokens, rest * (row_weight or 1)), wanted)


def test_the_weight_of_the_prompt_leaves_a_users_message_of_weight_0_alone(smollm2):
    options = SFTOptions(name="sft", turns="all", prompt_weight=0.5, label_smoothing=0.0, z_loss=0.0, neftune_alpha=0.0)
    messages = conversation(None, [("One?", "Two."), ("Three?", "Four.")])
    messages[2]["weight"] = 0
    tokens = SFT(options).encode({"messages": messages}, smollm2)["completion"]
    assert learned(smollm2, tokens, 0.5) == [
        ("Two.<|im_end|>", 1.0),
        ("Three?<|im_end|>", 0.0),
        ("Four.<|im_end|>", 1.0),
    ]


@pytest.mark.parametrize("name", TEMPLATES)
@CALM
@given(turns=TURNS)
def test_what_the_model_is_shown_is_what_its_own_template_writes(templated, name, turns):
    tokenizer, messages = templated(name), conversation(None, turns)
    own = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    last = [0.0] * (len(messages) - 1) + [1.0]
    assert list(chat_tokens(tokenizer, messages, weights=last).ids) == own
    if name != "qwen3" or len(turns) == 1:  # of several turns trl's form keeps the thoughts
        assert list(chat_tokens(tokenizer, messages).ids) == own


def test_where_earlier_turns_lose_their_thoughts_trls_form_is_taken_and_counted(templated):
    tokenizer = copy.deepcopy(templated("qwen3"))
    thought = "<think>\nHm.\n</think>\n\n"
    chat_tokens(tokenizer, conversation(None, [("a", thought + "b")]))
    assert reformed(tokenizer) == 0
    tokens = chat_tokens(tokenizer, conversation(None, [("a", thought + "b"), ("c", thought + "d")]))
    assert learned(tokenizer, tokens) == [(f"{thought}b<|im_end|>", 1.0), (f"{thought}d<|im_end|>", 1.0)]
    assert reformed(tokenizer) == 1


# ---------------------------------------------------------------------------------------------------------- tool calls
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
AS_JSON = '{"name": "add", "arguments": {"a": 1, "b": 2}'
CALLED = {
    "qwen2_5": f"<tool_call>\n{AS_JSON}}}\n</tool_call><|im_end|>",
    "qwen3": f"<think>\n\n</think>\n\n<tool_call>\n{AS_JSON}}}\n</tool_call><|im_end|>",
    "mistral": f'[TOOL_CALLS] [{AS_JSON}, "id": "123456789"}}]</s>',
}


@pytest.mark.parametrize("name", TEMPLATES)
@CALM
@given(asked=SAID, result=SAID, answer=ANSWERS)
def test_calls_of_tools_are_learned_and_their_results_are_not(templated, name, asked, result, answer):
    tokenizer = templated(name)
    call = {"type": "function", "function": CALL, "id": "123456789"}
    messages = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": result, "tool_call_id": "123456789"},
        {"role": "assistant", "content": answer},
    ]
    if name not in CALLED:
        with pytest.raises(RowError, match="leaves calls of tools out"):
            chat_tokens(tokenizer, messages, tools=[TOOL])
        return
    (called, _), last = learned(tokenizer, chat_tokens(tokenizer, messages, tools=[TOOL]))
    assert called == CALLED[name]
    check(name, tokenizer, [last], [(answer, 1.0)])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
        ("qwen2_5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
        ("qwen3", ""),
        ("gemma", ""),
        ("gemma3", ""),
        ("mistral", ""),
    ],
)
def test_a_system_message_of_the_templates_own_is_found(templated, name, said):
    assert own_system(templated(name)) == said
