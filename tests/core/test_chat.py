from __future__ import annotations

import copy
import os
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

os.environ["HF_HUB_OFFLINE"] = "1"

from core.answers import answer_tokens
from core.chat import chat_tokens, completion_tokens, prompt_and_answer
from core.errors import RowError, UserError

CALM = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
SYSTEM = {"role": "system", "content": "Be brief."}
HELLO, HI = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi, you!"}
MORE, BYE = {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Bye."}
QWEN_LIKE = (
    "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}{%- if m.role == 'assistant' %}"
    "{%- generation %}{{- m.content + '<|im_end|>' }}{%- endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- m.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


@pytest.fixture(scope="session")
def templated(smollm2):
    """``templated(template)`` is SmolLM2's tokenizer with another template."""

    @cache
    def make(template):
        other = copy.deepcopy(smollm2)
        other.chat_template = template
        return other

    return make


def supervised(tokenizer, tokens) -> str:
    return tokenizer.decode([i for i, w in zip(tokens.ids, tokens.loss_weights, strict=True) if w])


# ----------------------------------------------------------------------------------------------------- what is learned
def test_the_answer_and_its_end_token_and_nothing_else(smollm2):
    tokens = chat_tokens(smollm2, [SYSTEM, HELLO, HI])
    assert smollm2.decode(tokens.ids) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nHi, you!<|im_end|>\n"
    )
    assert supervised(smollm2, tokens) == "Hi, you!<|im_end|>"
    assert set(tokens.loss_weights) == {0.0, 1.0}


def test_what_a_template_marks_behind_the_end_token_is_not_learned(templated):
    marked = templated(
        QWEN_LIKE.replace("'<|im_end|>' }}{%- endgeneration %}{{- '\\n' }}", "'<|im_end|>\\n' }}{%- endgeneration %}")
    )
    assert marked.chat_template != QWEN_LIKE
    assert supervised(marked, chat_tokens(marked, [HELLO, HI, MORE, BYE])) == "Hi, you!<|im_end|>Bye.<|im_end|>"


@pytest.mark.parametrize("said", ["Hi, you!", "two <|im_start|> three four"])
def test_an_end_token_that_markers_leave_outside_is_learned_all_the_same(templated, said):
    outside = templated(
        QWEN_LIKE.replace(" + '<|im_end|>' }}{%- endgeneration %}", " }}{%- endgeneration %}{{- '<|im_end|>' }}")
    )
    assert outside.chat_template != QWEN_LIKE
    tokens = chat_tokens(outside, [HELLO, {"role": "assistant", "content": said}])
    assert supervised(outside, tokens) == f"{said}<|im_end|>"


def test_a_first_token_that_swallows_the_header_s_space_is_learned(templated):
    spaced = "{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %}"
    spaced = templated(spaced + "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}")
    assert supervised(spaced, chat_tokens(spaced, [HELLO, HI])) == " Hi, you!<|im_end|>"


def test_every_turn_of_the_assistant_is_learned(smollm2):
    assert supervised(smollm2, chat_tokens(smollm2, [HELLO, HI, MORE, BYE])) == "Hi, you!<|im_end|>Bye.<|im_end|>"


def test_weights_choose_the_turns(smollm2):
    tokens = chat_tokens(smollm2, [HELLO, HI, MORE, BYE], weights=[0, 0, 0, 0.5])
    assert supervised(smollm2, tokens) == "Bye.<|im_end|>"
    assert set(tokens.loss_weights) == {0.0, 0.5}


def test_weights_can_choose_a_user(smollm2):
    assert supervised(smollm2, chat_tokens(smollm2, [HELLO, HI], weights=[1, 0])) == "Hello<|im_end|>"


def test_an_answer_may_hold_what_the_prompt_says(smollm2):
    echo = [HELLO, {"role": "assistant", "content": "assistant\nHello"}]
    assert supervised(smollm2, chat_tokens(smollm2, echo)) == "assistant\nHello<|im_end|>"


@CALM
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool),
        min_size=2,
        max_size=5,
    )
)
def test_what_is_learned_is_what_the_assistant_said(smollm2, said):
    roles = ["user", "assistant"] * 3
    messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]
    tokens = chat_tokens(smollm2, messages)
    learned = [i for i, w in zip(tokens.ids, tokens.loss_weights, strict=True) if w]
    # ids, because the tokenizer does not know every byte
    assert learned == [i for text in said[1::2] for i in smollm2(text + "<|im_end|>")["input_ids"]]


@CALM
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), st.booleans())
def test_markers_and_prefixes_agree(smollm2, templated, said, system):
    messages = [*([SYSTEM] if system else []), HELLO, {"role": "assistant", "content": said}]
    marked = templated(QWEN_LIKE)
    unmarked = templated(QWEN_LIKE.replace("{%- generation %}", "").replace("{%- endgeneration %}", ""))
    a, b = chat_tokens(marked, messages), chat_tokens(unmarked, messages)
    assert list(a.ids) == list(b.ids)
    assert list(a.loss_weights) == list(b.loss_weights)


def test_trl_is_asked_once_and_only_where_earlier_turns_are_rewritten(smollm2, monkeypatch):
    import trl.chat_template_utils as trl

    other = copy.deepcopy(smollm2)
    asked = []

    def unknown(tokenizer):
        asked.append(tokenizer.chat_template)
        raise ValueError

    monkeypatch.setattr(trl, "get_training_chat_template", unknown)
    chat_tokens(other, [HELLO, HI, MORE, BYE])
    assert asked == []
    other.chat_template = smollm2.chat_template.replace(
        "message['content']", "(message['content'] if loop.last else '...')"
    )
    for _ in range(2):
        with pytest.raises(RowError):
            chat_tokens(other, [HELLO, HI, MORE, BYE])
    assert asked == [other.chat_template]


def test_calls_that_the_template_does_not_know_are_not_left_out_without_a_word(smollm2):
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}
    with pytest.raises(
        RowError, match=r"messages\[1\].tool_calls: the model's chat template leaves calls of tools out"
    ):
        chat_tokens(smollm2, [HELLO, call])


# ------------------------------------------------------------------------------------------------------- bad templates
def test_a_model_without_a_template_is_named(templated):
    with pytest.raises(UserError, match="no chat template") as caught:
        chat_tokens(templated(None), [HELLO, HI])
    assert "prompt and completion" in caught.value.fix


def test_a_template_without_an_end_token_is_refused(templated):
    plain = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    plain += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    with pytest.raises(UserError, match="no end token behind the assistant's text ' Hi, you!'"):
        chat_tokens(templated(plain), [HELLO, HI])


def test_a_doubled_first_token_is_refused(templated, smollm2):
    with pytest.raises(UserError, match="doubles the first token"):
        chat_tokens(templated("{{ bos_token }}" + smollm2.chat_template), [SYSTEM, HELLO, HI])


def test_a_template_that_rewrites_earlier_turns_is_the_rows_error(templated, smollm2):
    forgets = smollm2.chat_template.replace("message['content']", "(message['content'] if loop.last else '...')")
    with pytest.raises(RowError, match=r"messages\[1\]: cannot be told apart"):
        chat_tokens(templated(forgets), [HELLO, HI, MORE, BYE])


def test_a_template_that_refuses_is_the_rows_error(templated):
    for marks in (True, False):
        strict = "{{ raise_exception('roles must alternate') if messages[0].role == 'system' }}" + QWEN_LIKE
        strict = strict if marks else strict.replace("{%- generation %}", "").replace("{%- endgeneration %}", "")
        with pytest.raises(RowError, match="roles must alternate"):
            chat_tokens(templated(strict), [SYSTEM, HELLO, HI])


# -------------------------------------------------------------------------------------------------------- bad messages
@pytest.mark.parametrize(
    ("messages", "what"),
    [
        ([], "messages: is not a list of messages"),
        ("Hello", "messages: is not a list of messages"),
        (None, "messages: is not a list of messages"),
        (["Hello"], r"messages\[0\]: is not a message"),
        ([HELLO], "messages: has no assistant message"),
        ([{"role": "bot", "content": "Hi"}], r"messages\[0\]\.role: 'bot' is not one of system, user, assistant, tool"),
        ([{"content": "Hi"}], r"messages\[0\]\.role: None is not one of"),
        ([HELLO, {"role": "assistant", "content": " \n"}], r"messages\[1\]\.content: is empty"),
        ([HELLO, {"role": "assistant"}], r"messages\[1\]\.content: is missing"),
        ([HELLO, {"role": "assistant", "content": 7}], r"messages\[1\]\.content: is not text"),
        ([{"role": "user", "content": ["Hello"]}, HI], r"messages\[0\]\.content: is not text"),
    ],
)
def test_a_message_that_is_none_is_named(smollm2, messages, what):
    with pytest.raises(RowError, match=what):
        chat_tokens(smollm2, messages)


# -------------------------------------------------------------------------------------------------- prompt, completion
def test_prompt_and_completion_become_a_conversation(smollm2):
    assert completion_tokens(smollm2, "Hello", "Hi, you!") == chat_tokens(smollm2, [HELLO, HI])


def test_without_a_template_they_are_joined_as_they_are_and_ended(templated):
    plain = templated(None)
    tokens = completion_tokens(plain, "2 + 2 =", " 4")
    assert plain.decode(tokens.ids) == "2 + 2 = 4<|im_end|>"
    assert supervised(plain, tokens) == " 4<|im_end|>"


def test_without_an_end_token_no_completion_would_end(templated):
    plain = copy.deepcopy(templated(None))
    plain.eos_token = None
    with pytest.raises(UserError, match="no end token"):
        completion_tokens(plain, "a", "b")


@pytest.mark.parametrize(
    ("prompt", "completion", "what"),
    [("a", " ", "completion: is empty"), ("a", 4, "completion: is not text"), ([HELLO], "b", "prompt: is not text")],
)
def test_a_completion_that_is_none_is_named(smollm2, prompt, completion, what):
    with pytest.raises(RowError, match=what):
        completion_tokens(smollm2, prompt, completion)


def test_what_is_asked_is_all_before_the_last_answer(smollm2):
    ids, wanted = prompt_and_answer({"messages": [HELLO, HI, MORE, BYE]}, smollm2)
    tokens = chat_tokens(smollm2, [HELLO, HI, MORE, BYE])
    assert wanted == "Bye."
    assert ids == list(tokens.ids[: len(ids)])
    assert smollm2.decode(ids).endswith("And now?<|im_end|>\n<|im_start|>assistant\n")


def test_what_is_asked_of_prompt_and_completion(smollm2, templated):
    row = {"prompt": "Hello", "completion": "Hi, you!"}
    assert prompt_and_answer(row, smollm2) == prompt_and_answer({"messages": [HELLO, HI]}, smollm2)
    said = {"prompt": [HELLO], "completion": [HI]}
    assert prompt_and_answer(said, smollm2) == prompt_and_answer(row, smollm2)
    plain = templated(None)
    assert prompt_and_answer(row, plain) == (plain("Hello")["input_ids"], "Hi, you!")


@pytest.mark.parametrize(
    ("prompt", "completion", "what"),
    [
        ([HELLO], [{**HI, "weight": 0.5}], r"completion\[0\]\.weight: is read in a column of messages only"),
        ([HELLO, {**HI, "weight": 0}, MORE], "Bye.", r"prompt\[1\]\.weight: is read in a column of messages only"),
    ],
)
def test_a_weight_that_would_not_be_read_is_refused(smollm2, prompt, completion, what):
    with pytest.raises(RowError, match=what):
        answer_tokens(smollm2, prompt, completion)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"chosen": "a", "rejected": "b"}, "completion: is missing"),
        ({"messages": [HELLO]}, "messages: has no assistant message"),
        ({"messages": [HELLO, {"role": "assistant", "content": None}]}, r"messages\[1\]\.content: is missing"),
    ],
)
def test_a_row_without_an_answer_is_named(smollm2, row, what):
    with pytest.raises(RowError, match=what):
        prompt_and_answer(row, smollm2)
