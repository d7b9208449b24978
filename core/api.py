"""All that a plugin may import. Importing it brings no torch: what needs torch is fetched when it is first named."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from core.contracts import (
    Batch,
    Context,
    DataSource,
    Example,
    Head,
    Loader,
    LogProbs,
    Loss,
    Method,
    Metric,
    ModelFacts,
    Objective,
    Optim,
    Quantizer,
    Row,
    Score,
    Tokens,
)
from core.errors import RowError, UserError
from core.filler import without_filler
from core.hookspecs import hookimpl
from core.intervals import of_mean, wilson
from core.options import DataOptions, MetricOptions, ModelOptions, OptimOptions, one_of, within
from core.records import Part

if TYPE_CHECKING:
    from core.answers import answer_tokens as answer_tokens
    from core.chat import chat_tokens as chat_tokens
    from core.chat import completion_tokens as completion_tokens
    from core.chat import prompt_and_answer as prompt_and_answer
    from core.logprobs import token_logprobs as token_logprobs
    from core.model_facts import model_facts as model_facts
    from core.model_folder import model_folder as model_folder
    from core.peft_method import PeftMethod as PeftMethod

_LAZY = {
    "PeftMethod": "core.peft_method",
    "answer_tokens": "core.answers",
    "chat_tokens": "core.chat",
    "completion_tokens": "core.chat",
    "model_facts": "core.model_facts",
    "model_folder": "core.model_folder",
    "prompt_and_answer": "core.chat",
    "token_logprobs": "core.logprobs",
}

__all__ = [
    "Batch", "Context", "DataOptions", "DataSource", "Example", "Head", "Loader", "LogProbs", "Loss", "Method",
    "Metric", "MetricOptions", "ModelFacts", "ModelOptions", "Objective", "Optim", "OptimOptions", "Part", "PeftMethod",
    "Quantizer", "Row", "RowError", "Score", "Tokens", "UserError", "answer_tokens", "chat_tokens", "completion_tokens",
    "hookimpl", "model_facts", "model_folder", "of_mean", "one_of", "prompt_and_answer", "token_logprobs", "wilson",
    "within", "without_filler",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'core.api' has no attribute {name!r}")
