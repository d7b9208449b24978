"""Asking a run: the base and the tuned model side by side, word by word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table

from core.contracts import Head
from core.errors import UserError
from core.run_files import model_of

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from core.result import Result

LONGEST = 128
"""New tokens of an answer, at most, unless ``max_new_tokens`` says otherwise."""


def generate(run: str | Path, prompt: str, options: Mapping[str, Any] | None = None, system: str | None = None) -> None:
    """Print the base model's answer and the tuned model's, as they come.

    Args:
        run: A run folder.
        prompt: What a user would say.
        options: Of transformers' ``generate``, such as ``max_new_tokens``.
        system: The system message; None: the one that all rows of the run had, if there was one.

    Raises:
        UserError: ``run`` is no run, or the prompt is empty.
    """
    from core import load_run

    if not prompt.strip():
        raise UserError("the prompt is empty", 'python -m core generate RUN "PROMPT"')
    result = load_run(run)
    if result.head != Head():
        raise UserError(
            f"{result.folder} holds a {result.head.auto_class}, which writes no text",
            "its result.model answers in Python",
        )
    system, models = result.lock["data"]["system"] if system is None else system, _models(result)
    from core.screen import console  # brings libraries that the run's parts may patch

    screen = console()
    columns = _Columns(screen)
    with columns:
        for name, model, acting in models:
            with acting:
                answer(model, result.tokenizer, prompt, system=system, say=columns.add(name), **dict(options or {}))


def answer(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompt: str,
    *,
    system: str | None = None,
    say: Callable[[str], None] | None = None,
    **options: Any,
) -> str:
    """The model's answer, greedy unless ``options`` say otherwise.

    Args:
        model: In eval mode.
        tokenizer: Its tokenizer; with a chat template the prompt becomes a user's message.
        prompt: What a user would say.
        system: The system message, as in training.
        say: Called with each piece of text as it comes.
        options: Of transformers' ``generate``.
    """
    import torch

    inputs = _encode(tokenizer, prompt, system)
    ids = inputs["input_ids"].to(next(model.parameters()).device)
    greedy = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    settings = {"max_new_tokens": LONGEST, "pad_token_id": tokenizer.pad_token_id, **greedy, **options}
    streamer = _streamer(tokenizer, say) if say is not None else None
    with torch.no_grad():
        output = cast(Any, model).generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), streamer=streamer, **settings
        )
    return cast(str, tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True))


def _encode(tokenizer: Any, prompt: str, system: str | None) -> Any:
    if not tokenizer.chat_template:
        return tokenizer(prompt, return_tensors="pt")
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False, return_tensors="pt")


def _models(result: Result) -> list[tuple[str, nn.Module, AbstractContextManager[Any]]]:
    """The base, by switching the adapter off where the method can, else loaded beside the tuned one."""
    tuned = result.model
    words = result.plan.config.offers["method"].part.provides
    if result.plan.start.adapter is not None and "switch" in words:
        return [("base", tuned, result.plan.method.using(tuned, ())), ("tuned", tuned, nullcontext())]
    return [("base", _base(result), nullcontext()), ("tuned", tuned, nullcontext())]


def _base(result: Result) -> nn.Module:
    from core.source import locate
    from core.weights import load

    path, revision = model_of(result.lock), result.lock["model"]["revision"]
    start = locate(replace(result.plan.start.model, path=path, revision=revision))
    return load(replace(result.plan, start=start), result.head, training=False).eval()


def _streamer(tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]) -> Any:
    from transformers import TextStreamer

    class Streamer(TextStreamer):
        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            say(text)

    return Streamer(cast(Any, tokenizer), skip_prompt=True, skip_special_tokens=True)


class _Columns:
    """Answers beside each other in a terminal, one after the other elsewhere."""

    def __init__(self, screen: Console) -> None:
        self.screen = screen
        self.answers: dict[str, str] = {}
        self.live = Live(console=screen, refresh_per_second=12) if screen.is_terminal else None

    def __enter__(self) -> _Columns:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()
        elif self.answers:
            self.screen.out("")

    def add(self, name: str) -> Callable[[str], None]:
        """A new column; what it is called with is appended to it."""
        if self.live is None:
            self.screen.out("\n\n" if self.answers else "", f"{name}: ", sep="", end="")
        self.answers[name] = ""

        def say(text: str) -> None:
            self.answers[name] += text
            if self.live is None:
                self.screen.out(text, end="", highlight=False)
            else:
                self.live.update(self._table())

        return say

    def _table(self) -> Table:
        table = Table(*self.answers, show_edge=False, expand=True)
        table.add_row(*(text.replace("[", "\\[") for text in self.answers.values()))
        return table
