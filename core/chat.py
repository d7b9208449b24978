"""Conversations and completions as tokens, through the tokenizer's own chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from core.contracts import Row, Tokens
from core.errors import RowError, UserError
from core.messages import as_object, as_text, check_messages, check_tools, conversation, tidied
from core.special import special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = Mapping[str, Any]


def chat_tokens(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | str | None = None,
    weights: Sequence[float] | None = None,
) -> Tokens:
    """A conversation through the tokenizer's own template; the assistant's text and its end token are supervised.

    Args:
        tokenizer: A fast one, with a chat template.
        messages: role, content and what else the template knows.
        tools: Handed to the template; a list, or the JSON text of one.
        weights: One a message; None is 1 for the assistant's and 0 for all others.

    Raises:
        RowError: a message is no message, or the template cannot tell the assistant's tokens from the rest.
        UserError: the model has no chat template, or its template doubles the first token.
    """
    check_messages(messages)
    tools = check_tools(tools)
    marked = _marked(tokenizer)
    calling = next((i for i, message in enumerate(messages) if message.get("tool_calls")), None)
    if calling is not None and not mentions(tokenizer, "tool_calls"):
        raise RowError(f"messages[{calling}].tool_calls", "the model's chat template leaves calls of tools out")
    messages = _as_it_takes_them(tokenizer, messages, tools)
    weights = [float(m["role"] == "assistant") for m in messages] if weights is None else list(weights)
    if marked and all(m["role"] == "assistant" for m, weight in zip(messages, weights, strict=True) if weight):
        return _by_markers(tokenizer, messages, tools, weights)
    try:
        return _by_prefixes(tokenizer, messages, tools, weights)
    except RewrittenError:
        template = _training_form(tokenizer)
        if template is None:
            raise
        _reformed[tokenizer] = reformed(tokenizer) + 1
        return _by_prefixes(tokenizer, messages, tools, weights, template)


def mentions(tokenizer: Any, name: str) -> bool:
    """Whether the chat template reads a variable or field: what it does not read it leaves out without a word."""
    return name in str(getattr(tokenizer, "chat_template", ""))


def reads_key(tokenizer: Any, key: str) -> bool:
    """Whether the chat template asks something for this key, as in ``message.name`` or ``message['name']``."""
    template = str(getattr(tokenizer, "chat_template", ""))
    return re.search(rf"""(\.|\[['"]|get\(['"]){re.escape(key)}\b""", template) is not None


def completion_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> Tokens:
    """A prompt and its completion: as a conversation where there is a template, else joined as they are and ended.

    Raises:
        RowError: the completion is empty, or one of the two is not text.
        UserError: the tokenizer has no end token.
    """
    for name, text in (("prompt", prompt), ("completion", completion)):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # it comes from a file
            raise RowError(name, "is not text")
    if not completion.strip():
        raise RowError("completion", "is empty")
    if getattr(tokenizer, "chat_template", None):
        return chat_tokens(tokenizer, _as_messages(prompt, completion))
    end: Any = tokenizer.eos_token_id
    if end is None:
        raise UserError(
            "the tokenizer has no end token, so no completion would ever end", "set eos_token in tokenizer_config.json"
        )
    before = _opening(tokenizer, prompt)
    answer: list[int] = tokenizer(completion, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportAssignmentType]
    return Tokens([*before, *answer, end], [0.0] * len(before) + [1.0] * (len(answer) + 1))


def prompt_and_answer(row: Row, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], str]:
    """Token ids of all that comes before the last answer, generation prompt included, and the wanted text.

    Raises:
        RowError: the row holds no answer, or one that is not text.
    """
    messages = row.get("messages")
    if not messages and any(isinstance(row.get(name), list) for name in ("prompt", "completion")):
        messages = conversation(row)
    if not messages:
        prompt, completion = row.get("prompt") or "", _answer("completion", row.get("completion"))
        if not getattr(tokenizer, "chat_template", None):
            return _opening(tokenizer, prompt), completion
        messages = _as_messages(prompt, completion)
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=None)
    if last is None:
        raise RowError("messages", "has no assistant message")
    wanted = _answer(f"messages[{last}].content", messages[last].get("content"))
    tools = check_tools(row.get("tools"))
    before = _as_it_takes_them(tokenizer, messages[:last], tools)
    text = _render(tokenizer, before, tools, add_generation_prompt=True)
    return _encode(tokenizer, text)[0], wanted


def _as_messages(prompt: str, completion: str) -> list[Message]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]


def _opening(tokenizer: Any, prompt: str) -> list[int]:
    ids: list[int] = tokenizer(prompt)["input_ids"]
    # some tokenizers end whatever they are given
    return ids[:-1] if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id else ids


def _answer(field: str, text: Any) -> str:
    if not isinstance(text, str):
        raise RowError(field, "is missing" if text is None else "is not text")
    return text


# ---------------------------------------------------------------------------------------------------------- templates
class RewrittenError(RowError):
    """The template writes an earlier turn otherwise once another follows, as Qwen3's does, which drops its thoughts."""


def _marked(tokenizer: Any) -> bool:
    """Whether the model's own template marks the assistant's tokens.

    Raises:
        UserError: the model has no template, or its tokenizer cannot say which characters a token came from.
    """
    own = getattr(tokenizer, "chat_template", None)
    if not own:
        raise UserError(
            "the model has no chat template, and the data are chats",
            "model.path=THE_INSTRUCT_MODEL, or data with prompt and completion, which are joined as they are",
        )
    if not tokenizer.is_fast:
        raise UserError(
            f"{type(tokenizer).__name__} is no fast tokenizer: it cannot tell where an answer starts",
            "model.path=A_MODEL with a tokenizer.json",
        )
    from trl.chat_template_utils import has_generation_markers

    return has_generation_markers(own)


_reformed: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def reformed(tokenizer: Any) -> int:
    """Conversations so far that took trl's training form of the template, for it rewrites earlier turns."""
    return _reformed.get(tokenizer, 0) if tokenizer is not None else 0


_training_forms: WeakKeyDictionary[Any, tuple[str, str | None]] = WeakKeyDictionary()


def _training_form(tokenizer: Any) -> str | None:
    """The form of the model's template that trl trains with, which leaves earlier turns alone; None: trl knows none."""
    from trl.chat_template_utils import get_training_chat_template

    own = str(tokenizer.chat_template)
    known = _training_forms.get(tokenizer)
    if known is None or known[0] != own:
        try:
            known = own, get_training_chat_template(tokenizer)
        except ValueError:  # a template that trl does not know
            known = own, None
        _training_forms[tokenizer] = known
    return known[1]


def _by_markers(tokenizer: Any, messages: Any, tools: Any, weights: Sequence[float]) -> Tokens:
    """Let the template's own markers say which tokens are the assistant's."""
    try:
        found = tokenizer.apply_chat_template(
            list(messages), tools=tools, return_assistant_tokens_mask=True, return_dict=True
        )
    except Exception:  # whatever it is, the other way says so
        return _by_prefixes(tokenizer, messages, tools, weights)
    ids: list[int] = found["input_ids"]
    _check_first(tokenizer, ids)
    spans = _runs(found["assistant_masks"])
    turns = [w for m, w in zip(messages, weights, strict=True) if m["role"] == "assistant"]
    if len(spans) != len(turns) or not all(_closed(tokenizer, ids[start:end]) for start, end in spans):
        return _by_prefixes(tokenizer, messages, tools, weights)
    supervised = [0.0] * len(ids)
    for (start, end), weight in zip(spans, turns, strict=True):
        supervised[start:end] = [weight] * (end - start)
    return Tokens(ids, _ended(tokenizer, ids, supervised, spans))


def _closed(tokenizer: Any, ids: list[int]) -> bool:
    """Whether a marked span holds its end token, rather than leaving that outside."""
    special = special_ids(tokenizer)
    last = max((at for at, token in enumerate(ids) if token in special), default=None)
    return last is not None and not tokenizer.decode(ids[last + 1 :]).strip()


def _by_prefixes(
    tokenizer: Any, messages: Any, tools: Any, weights: Sequence[float], template: str | None = None
) -> Tokens:
    """Render ever longer beginnings; what an assistant's message adds to the prompt for it is its own.

    Raises:
        RewrittenError: one is no beginning of the next.
    """
    text = _render(tokenizer, messages, tools, template=template)
    spans: list[tuple[int, int, float]] = []
    for i, weight in enumerate(weights):
        if not weight:
            continue
        opening = messages[i]["role"] == "assistant"
        if opening and not i:  # no template renders a conversation that has not begun
            raise RowError("messages[0]", "is the assistant's, and what it begins with cannot be told from its text")
        before = _render(tokenizer, messages[:i], tools, opening, template) if i or opening else ""
        after = _render(tokenizer, messages[: i + 1], tools, template=template) if i + 1 < len(messages) else text
        if not (text.startswith(after) and after.startswith(before)):
            why = (
                "earlier turns, so only the last can be learned" if text != after else "what comes before the last turn"
            )
            raise RewrittenError(
                f"messages[{i}]", f"cannot be told apart by the model's chat template: it rewrites {why}"
            )
        # what others say is found by its text, for only the assistant's header can be asked for
        start = len(before) if opening else after.rfind((messages[i].get("content") or "").strip(), len(before))
        spans.append((max(start, len(before)), len(after.rstrip()), weight))
    ids, offsets = _encode(tokenizer, text)
    supervised = [0.0] * len(ids)
    found: list[tuple[int, int]] = []
    special = special_ids(tokenizer)
    for start, end, weight in spans:
        # a token that begins in the header, such as " Hi" after "assistant: ", is the answer's first all the same, but
        # for a special one that swallows space
        inside = [
            at
            for at, (a, b) in enumerate(offsets)
            if b > max(a, start) and b <= end and (a >= start or ids[at] not in special)
        ]
        if inside:
            supervised[inside[0] : inside[-1] + 1] = [weight] * (inside[-1] + 1 - inside[0])
            found.append((inside[0], inside[-1] + 1))
    return Tokens(ids, _ended(tokenizer, ids, supervised, found))


def _ended(tokenizer: Any, ids: list[int], supervised: list[float], spans: Sequence[tuple[int, int]]) -> list[float]:
    """Nothing after the end token is learned, and the end token is.

    Raises:
        UserError: the template puts no end token behind the assistant's text.
    """
    special = special_ids(tokenizer)
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


def _as_it_takes_them(tokenizer: Any, messages: Sequence[Message], tools: Any) -> Sequence[Message]:
    """Arguments of tool calls as objects, as transformers documents; as OpenAI's text where the template needs that."""
    found = tidied(messages, as_object)
    if any(message.get("tool_calls") for message in found):
        try:
            _render(tokenizer, found, tools)
        except RowError:
            return tidied(messages, as_text)
    return found


def _render(
    tokenizer: Any, messages: Any, tools: Any, add_generation_prompt: bool = False, template: str | None = None
) -> str:
    from jinja2 import TemplateSyntaxError

    if not messages and not add_generation_prompt:
        return ""
    try:
        return tokenizer.apply_chat_template(
            list(messages),
            tools=tools,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
    except TemplateSyntaxError as error:
        raise UserError(
            f"the model's chat template is broken: {error.message} in its line {error.lineno}",
            "mend chat_template in the model's tokenizer_config.json or chat_template.jinja",
        ) from error
    except Exception as error:  # a template is a program of the model's: whatever ends it, it does not take this row
        raise RowError("messages", f"the model's chat template refuses it: {error}") from error


def _encode(tokenizer: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids and character offsets of text in which the template has put every special token itself."""
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = found["input_ids"]
    _check_first(tokenizer, ids)
    return ids, found["offset_mapping"]


def _check_first(tokenizer: Any, ids: list[int]) -> None:
    first: Any = tokenizer.bos_token_id
    if first is not None and len(ids) > 1 and ids[0] == ids[1] == first:
        raise UserError("the chat template doubles the first token (BOS)", "remove bos_token from the template")


def _runs(mask: Sequence[int]) -> list[tuple[int, int]]:
    """Start and end of each run of ones.

    Example:
        >>> _runs([0, 1, 1, 0, 1])
        [(1, 3), (4, 5)]
    """
    edges = [i for i, (a, b) in enumerate(pairwise([0, *mask, 0])) if a != b]
    return list(zip(edges[::2], edges[1::2], strict=True))
