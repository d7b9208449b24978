"""Conversations and completions as tokens, through the tokenizer's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.contracts import Row, Tokens
from core.errors import RowError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant", "tool")
Message = Mapping[str, Any]


def chat_tokens(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    weights: Sequence[float] | None = None,
) -> Tokens:
    """A conversation through the tokenizer's own template; the assistant's text and its end token are supervised.

    Args:
        tokenizer: A fast one, with a chat template.
        messages: role, content and what else the template knows.
        tools: Handed to the template.
        weights: One a message; None is 1 for the assistant's and 0 for all others.

    Raises:
        RowError: a message is no message, or the template cannot tell the assistant's tokens from the rest.
        UserError: the model has no chat template, or its template doubles the first token.
    """
    check_messages(messages)
    template = _template(tokenizer)
    weights = [float(m["role"] == "assistant") for m in messages] if weights is None else list(weights)
    if template is not None and all(
        w in (0.0, float(m["role"] == "assistant")) for m, w in zip(messages, weights, strict=True)
    ):
        return _by_markers(tokenizer, template, messages, tools, weights)
    return _by_prefixes(tokenizer, messages, tools, weights)


def completion_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Tokens:
    """A prompt and its completion: as a conversation where there is a template, else joined as they are and ended.

    Raises:
        RowError: the completion is empty.
        UserError: the tokenizer has no end token.
    """
    if not completion.strip():
        raise RowError("completion", "is empty")
    if getattr(tokenizer, "chat_template", None):
        return chat_tokens(tokenizer, _as_messages(prompt, completion))
    end: Any = tokenizer.eos_token_id
    if end is None:
        raise UserError(
            "the tokenizer has no end token, so no completion would ever end", "set eos_token in tokenizer_config.json"
        )
    before: list[int] = tokenizer(prompt)["input_ids"]  # pyright: ignore[reportAssignmentType]
    if before and before[-1] == end and len(before) > 1:
        before = before[:-1]  # some tokenizers end whatever they are given
    answer: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
    return Tokens([*before, *answer, end], [0.0] * len(before) + [1.0] * (len(answer) + 1))


def prompt_and_answer(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], str]:
    """Token ids of all that comes before the last answer, generation prompt included, and the wanted text.

    Raises:
        RowError: the row holds no answer.
    """
    if "messages" not in row and not getattr(tokenizer, "chat_template", None):
        ids: list[int] = tokenizer(row["prompt"])["input_ids"]  # pyright: ignore[reportAssignmentType]
        return ids, row["completion"]
    messages = row["messages"] if "messages" in row else _as_messages(row.get("prompt", ""), row["completion"])
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise RowError("messages", "has no assistant message")
    text = _render(tokenizer, messages[:last], row.get("tools"), add_generation_prompt=True)
    return _encode(tokenizer, text)[0], messages[last]["content"]


def check_messages(messages: Any) -> None:
    """Every message has a known role and text, and one is the assistant's.

    Raises:
        RowError: not so.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence) or not messages:
        raise RowError("messages", "is not a list of messages")
    for i, message in enumerate(messages):
        at = f"messages[{i}]"
        if not isinstance(message, Mapping):
            raise RowError(at, "is not a message with role and content")
        if message.get("role") not in ROLES:
            raise RowError(f"{at}.role", f"{message.get('role')!r} is not one of {', '.join(ROLES)}")
        content, calls = message.get("content"), message.get("tool_calls")
        if not isinstance(content, str) and not (content is None and calls):
            raise RowError(f"{at}.content", "is missing" if content is None else "is not text")
        if message["role"] == "assistant" and not calls and not (content or "").strip():
            raise RowError(f"{at}.content", "is empty")
    if not any(message["role"] == "assistant" for message in messages):
        raise RowError("messages", "has no assistant message")


def _as_messages(prompt: Any, completion: str) -> list[Message]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


# ---------------------------------------------------------------------------------------------------------- templates
_templates: WeakKeyDictionary[Any, tuple[str, str | None]] = WeakKeyDictionary()


def _template(tokenizer: Any) -> str | None:
    """A template that marks the assistant's tokens: the model's own, or trl's training form of it; else None.

    Raises:
        UserError: the model has no template.
    """
    own = getattr(tokenizer, "chat_template", None)
    if not own:
        raise UserError(
            "the model has no chat template, and the data are chats",
            "model.path=THE_INSTRUCT_MODEL, or data with prompt and completion, which are joined as they are",
        )
    known = _templates.get(tokenizer)
    if known is None or known[0] != str(own):
        known = _templates[tokenizer] = (str(own), _marked(tokenizer, own))
    return known[1]


def _marked(tokenizer: Any, own: Any) -> str | None:
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    if has_generation_markers(own):
        return own if isinstance(own, str) else own["default"]
    try:
        return get_training_chat_template(tokenizer)
    except ValueError:  # a template that trl does not know
        return None


def _by_markers(tokenizer: Any, template: str, messages: Any, tools: Any, weights: Sequence[float]) -> Tokens:
    """Let the template's own markers say which tokens are the assistant's."""
    found = tokenizer.apply_chat_template(
        list(messages), tools=tools, chat_template=template, return_assistant_tokens_mask=True, return_dict=True
    )
    ids: list[int] = found["input_ids"]
    mask: list[int] = found["assistant_masks"]
    plain = _encode(tokenizer, _render(tokenizer, messages, tools))[0]
    if ids != plain or not any(mask):
        return _by_prefixes(tokenizer, messages, tools, weights)  # the training form renders otherwise than the model's
    spans = _runs(mask)
    turns = [w for m, w in zip(messages, weights, strict=True) if m["role"] == "assistant"]
    if len(spans) != len(turns):
        return _by_prefixes(tokenizer, messages, tools, weights)
    supervised = [0.0] * len(ids)
    for (start, end), weight in zip(spans, turns, strict=True):
        supervised[start:end] = [weight] * (end - start)
    return Tokens(ids, _ended(tokenizer, ids, supervised, spans))


def _by_prefixes(tokenizer: Any, messages: Any, tools: Any, weights: Sequence[float]) -> Tokens:
    """Render ever longer beginnings; what an assistant's message adds to the prompt for it is its own."""
    text = _render(tokenizer, messages, tools)
    spans: list[tuple[int, int, float]] = []
    for i, weight in enumerate(weights):
        if not weight:
            continue
        opening = messages[i]["role"] == "assistant"
        before = _render(tokenizer, messages[:i], tools, add_generation_prompt=opening) if i or opening else ""
        after = _render(tokenizer, messages[: i + 1], tools)
        if not (text.startswith(after) and after.startswith(before)):
            raise RowError(
                f"messages[{i}]", "cannot be told apart by the model's chat template: it rewrites earlier turns"
            )
        spans.append((len(before), len(after.rstrip()), weight))
    ids, offsets = _encode(tokenizer, text)
    supervised = [0.0] * len(ids)
    found: list[tuple[int, int]] = []
    for start, end, weight in spans:
        inside = [at for at, (a, b) in enumerate(offsets) if a >= start and b <= end and b > a]
        if inside:
            supervised[inside[0] : inside[-1] + 1] = [weight] * (inside[-1] + 1 - inside[0])
            found.append((inside[0], inside[-1] + 1))
    return Tokens(ids, _ended(tokenizer, ids, supervised, found))


def _ended(tokenizer: Any, ids: list[int], supervised: list[float], spans: Sequence[tuple[int, int]]) -> list[float]:
    """Nothing after the end token is learned, and the end token is.

    Raises:
        UserError: the template puts no end token behind the assistant's text.
    """
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    special = {*tokenizer.all_special_ids, *(id for id, token in added.items() if token.special)}
    for start, end in spans:
        last = max((at for at in range(start, end) if ids[at] in special), default=None)
        if last is None:
            text = tokenizer.decode(ids[start:end])
            raise UserError(
                f"the chat template puts no end token behind the assistant's text {text[-40:]!r}: it would never stop",
                "give the tokenizer a template that does, such as ChatML's",
            )
        supervised[last + 1 : end] = [0.0] * (end - last - 1)
    return supervised


def _render(tokenizer: Any, messages: Any, tools: Any, add_generation_prompt: bool = False) -> str:
    from jinja2 import TemplateError

    if not messages and not add_generation_prompt:
        return ""
    try:
        return tokenizer.apply_chat_template(
            list(messages), tools=tools, tokenize=False, add_generation_prompt=add_generation_prompt
        )
    except (TemplateError, TypeError, KeyError) as error:
        raise RowError("messages", f"the model's chat template refuses it: {error}") from error


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets of text in which the template has put every special token itself."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = found["input_ids"]
    first: Any = tokenizer.bos_token_id
    if first is not None and len(ids) > 1 and ids[0] == ids[1] == first:
        raise UserError("the chat template doubles the first token (BOS)", "remove bos_token from the template")
    return ids, found["offset_mapping"]


def _runs(mask: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each run of ones.

    Example:
        >>> _runs([0, 1, 1, 0, 1])
        [(1, 3), (4, 5)]
    """
    edges = [i for i, (a, b) in enumerate(pairwise([0, *mask, 0])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
