"""What the object behind a record must do: one base class a kind, with defaults for all that can have one.

A part overrides what it needs. Nothing here imports torch when it is imported, so options and help stay fast.

Shapes: B examples of a batch, N supervised tokens of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from core.errors import RowError, UserError
from core.options import ModelOptions, one_of

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from lightning.pytorch import Callback
    from peft import PeftConfig, PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Row = Mapping[str, Any]
"""One row in canonical columns: messages, prompt, completion, chosen, rejected, label, text, tools, weight."""


# ------------------------------------------------------------------------------------------------- facts and context
@dataclass(frozen=True, slots=True)
class Head:
    """Which model class an objective needs.

    Attributes:
        auto_class: Name of a transformers auto class.
        config: Values for the model's config, such as ``{"num_labels": 3}``.
    """

    auto_class: str = "AutoModelForCausalLM"
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known about a model without its weights, from its config and a build on the meta device.

    Attributes:
        path: Folder or hub id that an adapter names as its base; a folder holds config, safetensors and tokenizer once
            the model is loaded.
        architecture: Such as ``"LlamaForCausalLM"``.
        parameters: Their number, tied ones once.
        blocks: Qualified names of the decoder or encoder blocks, in order.
        hidden: Width of the hidden states.
        vocabulary: Rows of the output layer.
        context: Longest sequence, tokens.
        linears: Qualified name -> (inputs, outputs) of each linear layer, output layer excluded.
    """

    path: Path
    architecture: str
    parameters: int
    blocks: tuple[str, ...]
    hidden: int
    vocabulary: int
    context: int
    linears: Mapping[str, tuple[int, int]]


class Context(ABC):
    """What a part may ask of the run it is in. One object a run, made by the core.

    Attributes:
        seed: The run's seed.
        adapter: Name of the adapter being trained, ``"default"`` unless given.
        continuing: True when training goes on from a saved adapter, which ``Method.load`` has put in.
        counting: True while a method is applied on the meta device only to count: no weights, no batches.
        total_steps: Optimizer steps of the run.
        head: Which model class is loaded.
        facts: What is known about the model.
        tokenizer: The model's tokenizer.
    """

    seed: int
    adapter: str
    continuing: bool
    counting: bool
    total_steps: int
    head: Head
    facts: ModelFacts
    tokenizer: PreTrainedTokenizerBase

    @abstractmethod
    def batches(self, count: int) -> Iterator[Batch]:
        """The first ``count`` training batches, on the model's device."""

    @abstractmethod
    def losses(self, model: nn.Module, rows: Sequence[Row]) -> Iterator[tuple[float, float]]:
        """``(total, items)`` of the run's objective for each row, without gradient, reference included."""

    @abstractmethod
    def measures(self, model: nn.Module, rows: Sequence[Row]) -> Iterator[Mapping[str, float]]:
        """``Loss.metrics`` of the run's objective for each row, each divided by its items, as ``losses`` runs it."""

    @abstractmethod
    def wrap_peft(self, model: nn.Module, config: PeftConfig) -> PeftModel:
        """Let the loader put the adapter in: peft's way, or the loader's own."""


# ------------------------------------------------------------------------------------------------------------- loader
class Loader(ABC):
    """Brings a model and its tokenizer into memory.

    ``source.path`` is what a user typed as ``model.path``, with ``pkg://`` found and a run replaced by what it was
    trained on: a hub id, a folder, a ``.gguf`` file, or an address of the loader's own, such as ``vault://small``. A
    run that trained a whole model is a folder that ``save_pretrained`` wrote, whichever loader it was trained with.
    """

    @abstractmethod
    def describe(self, source: ModelOptions) -> ModelFacts:
        """Facts about the model. No weights are read, nothing is downloaded but the config.

        Raises:
            UserError: ``source`` is not a model.
        """

    @abstractmethod
    def tokenizer(self, source: ModelOptions) -> PreTrainedTokenizerBase:
        """The tokenizer, with its chat template where the model has one."""

    @abstractmethod
    def load(self, source: ModelOptions, head: Head, options: Mapping[str, Any]) -> nn.Module:
        """Weights in. The core then calls ``Quantizer.prepare`` and checks ``Quantizer.quantized``.

        Args:
            source: Which weights; ``source.dtype`` is resolved, never ``auto``.
            head: Which model class.
            options: ``Quantizer.load_options(...)``, such as a ``quantization_config``.

        Raises:
            UserError: an option cannot be honoured.
        """

    def wrap_peft(self, model: nn.Module, config: PeftConfig, adapter: str) -> PeftModel:
        """Put a new adapter in. Default: ``peft.get_peft_model``, or ``add_adapter`` when ``model`` has one already."""
        from peft import PeftModel, get_peft_model

        if isinstance(model, PeftModel):
            model.add_adapter(adapter, config)
            return model
        return get_peft_model(model, config, adapter_name=adapter)  # pyright: ignore[reportArgumentType, reportReturnType]


# ---------------------------------------------------------------------------------------------------------- quantizer
class Quantizer(ABC):
    """Holds the base in fewer bits.

    Attributes:
        bits: Held per weight of a quantized layer, scales included.
        keeps_inputs: Whether its layers keep their input for the way back although their weight is frozen.
    """

    bits: ClassVar[float]
    keeps_inputs: ClassVar[bool] = False

    def load_options(self, training: bool) -> dict[str, Any]:
        """Keyword arguments for ``from_pretrained``; with QAT they differ for use. Default: none."""
        return {}

    def quantized(self, layer: nn.Module) -> bool:
        """Whether this very layer is held quantized. Default: False."""
        return False

    def prepare(self, model: nn.Module) -> nn.Module:
        """Right after loading: transform layers (QAT), mend what the library leaves broken. Default: as it is."""
        return model

    def convert(self, model: nn.Module) -> nn.Module:
        """After training and saving (QAT: fake to real). Default: as it is."""
        return model

    def dequantize(self, layer: nn.Module) -> Tensor:
        """Dense weight ``(outputs, inputs)`` of a layer, for merging. Default: ``layer.weight`` where it is dense.

        Raises:
            UserError: the layer's weight is not a dense tensor.
        """
        weight: Any = getattr(layer, "weight", None)
        if weight is None or not weight.is_floating_point():
            raise UserError(f"{type(layer).__name__} holds no dense weight", "merge with the quantizer that made it")
        return weight


# ------------------------------------------------------------------------------------------------------------- method
class Method(ABC):
    """What of a model is trained, or added and trained.

    Attributes:
        saves: What ``save`` writes: ``"adapter"``, to put into a base that stays as it was, which takes a ``load``; or
            ``"model"``, all weights, which the loader reads as any other model.
        layout: ``"padded"`` needs one row a sequence (prefix and prompt tuning).
    """

    saves: ClassVar[Literal["adapter", "model"]] = "model"
    layout: ClassVar[Literal["any", "padded"]] = "any"

    @abstractmethod
    def apply(self, model: nn.Module, context: Context) -> nn.Module:
        """Set requires_grad and add what is trained; afterwards exactly ``context.adapter`` acts and trains.

        ``model`` may hold other adapters already. When ``context.continuing``, ``load`` was called before and this only
        makes the adapter trainable.

        Raises:
            UserError: the adapter's name is taken, or the model has nothing this method can act on.
        """

    def save(self, model: nn.Module, folder: Path, adapter: str) -> None:
        """Write safetensors directly into ``folder``, which is not there yet. Default: ``model.save_pretrained``.

        One that raises or writes none leaves the run with a checkpoint, from which it is resumed once this is mended.
        """
        model.save_pretrained(folder)  # pyright: ignore[reportCallIssue]

    def load(self, model: nn.Module, folder: Path, adapter: str) -> nn.Module:
        """Put a saved adapter into a loaded base under the name ``adapter``; afterwards that one acts.

        Default for methods that save the whole model: the model as it is, for the loader has read it from the run. One
        that saves an adapter must define it, and is refused before weights are read where it does not.
        """
        return model

    def using(self, model: nn.Module, adapters: Sequence[str]) -> AbstractContextManager[None]:
        """While inside, exactly these adapters act; ``()`` is the base model. Word: ``switch``.

        ``requires_grad`` is as before afterwards.
        """
        raise UserError(
            f"{type(self).__name__} cannot switch its adapter off", "use a method that provides the word switch"
        )

    def merge(self, model: nn.Module, quantizer: Quantizer) -> nn.Module:
        """The base with the acting adapter folded in, plain layers. Consumes ``model``. Word: ``merge``."""
        raise UserError(f"{type(self).__name__} cannot be merged", "use a method that provides the word merge")

    def optimizer(self, model: nn.Module, optim: Optim, context: Context) -> torch.optim.Optimizer:
        """Default: ``optim.build`` over all trainable parameters."""
        return optim.build([{"params": [p for p in model.parameters() if p.requires_grad]}])

    def penalty(self, model: nn.Module, context: Context) -> Tensor | None:
        """Added to the mean loss once a step and logged apart (AdaLoRA's orthogonality). Default: None."""
        return None

    def callbacks(self, context: Context) -> Sequence[Callback]:
        """Lightning callbacks that act during training; ``pl_module.model`` is the model. Default: none."""
        return ()


# ---------------------------------------------------------------------------------------------------------- objective
@dataclass(frozen=True, slots=True)
class Tokens:
    """One token sequence and what of it is learned.

    Attributes:
        ids: Token ids.
        loss_weights: One a token: 0.0 is context only, 1.0 supervised.
    """

    ids: Sequence[int]
    loss_weights: Sequence[float]


Example = Mapping[str, "Tokens | int | float"]
"""Named sequences and numbers; every example of an objective has the same names."""


class Batch(ABC):
    """Examples, laid out by the core (padded, or concatenated without padding); no objective sees how.

    Attributes:
        size: B.
        inputs: What ``model(**inputs)`` takes, ``use_cache=False`` included.
        numbers: Name -> (B,), the numbers of the examples and of ``Objective.reference``.
    """

    size: int
    inputs: Mapping[str, Any]
    numbers: Mapping[str, Tensor]

    @abstractmethod
    def ends(self, name: str) -> Tensor:
        """(B,) positions of the last token of each sequence ``name`` in the flattened hidden states."""

    @abstractmethod
    def only(self, name: str) -> Batch:
        """The same examples with the sequences ``name`` alone, for a forward of their own (KTO's has no gradient)."""


class LogProbs(ABC):
    """Result of ``token_logprobs(model, batch)``: supervised tokens only, float32, in nats.

    Attributes:
        logprobs_N: Log-probability of each supervised token.
        loss_weights_N: Its weight.
        uniform_N: Mean log-probability over the vocabulary, for label smoothing; when asked for.
        logsumexp_N: Logarithm of the normaliser, for a z-loss; when asked for.
        entropy_N: Of the distribution that predicts the token, without gradient; when asked for.
    """

    logprobs_N: Tensor
    loss_weights_N: Tensor
    uniform_N: Tensor | None
    logsumexp_N: Tensor | None
    entropy_N: Tensor | None

    @abstractmethod
    def sum(self, name: str, weights_N: Tensor | None = None) -> Tensor:
        """(B,) weighted sum over the sequence ``name`` of each example; other weights in place of the batch's."""

    @abstractmethod
    def weight(self, name: str, weights_N: Tensor | None = None) -> Tensor:
        """(B,) sum of the weights over the sequence ``name`` of each example."""

    @abstractmethod
    def mean(self, name: str, weights_N: Tensor | None = None) -> Tensor:
        """(B,) the same divided by the sequence's weight."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A sum and a number, so that the core can divide once a step, over accumulation and ranks.

    Attributes:
        total: Scalar with gradient: the sum over items.
        items: Their number (weighted supervised tokens, pairs).
        metrics: Name -> (sum, items), logged beside the loss.
    """

    total: Tensor
    items: Tensor | float
    metrics: Mapping[str, tuple[Tensor, Tensor | float]] = field(
        default_factory=dict[str, "tuple[Tensor, Tensor | float]"]
    )


class Objective(ABC):
    """How rows become token sequences, and what loss they are trained with.

    Attributes:
        columns: Canonical columns a row must offer, checked before training; ``"a|b"`` is either.
        optional: Further ones that it uses where they are there, so that the user is told of those that nothing reads;
            None leaves that unsaid.
        borrowed: Sequences that ``prepare_rows`` took from other rows: they do not tell rows apart.
        smallest_batch: Fewest examples of a micro-batch that it can work on.
        metric: What ``metric=auto`` means for it; None leaves that to the data source.
        too_long: What the core does to sequences of more than ``data.max_length`` tokens: ``cut`` them from the end, or
            ``split`` them into examples of their own, for objectives with one sequence and no reference.
    """

    columns: ClassVar[frozenset[str]]
    optional: ClassVar[frozenset[str] | None] = None
    borrowed: ClassVar[frozenset[str]] = frozenset()
    smallest_batch: ClassVar[int] = 1
    metric: ClassVar[str | None] = None
    too_long: ClassVar[Literal["cut", "split"]] = "cut"

    def head(self, rows: Dataset) -> Head:
        """Which model class the rows need. Default: a causal language model."""
        return Head()

    def prepare_rows(self, rows: Dataset) -> Dataset:
        """Once over the whole set, before ``encode``. Default: as it is."""
        return rows

    @abstractmethod
    def encode(self, row: Row, tokenizer: PreTrainedTokenizerBase) -> Example:
        """One row as named sequences and numbers; the core cuts each sequence to ``data.max_length`` afterwards.

        Raises:
            RowError: the row cannot be used; the core adds file and line, counts, and stops or skips.
        """

    def check_examples(self, examples: Sequence[Example]) -> Iterable[str]:
        """Look at all training examples before a model is loaded; each line is shown as a warning. Default: none.

        Raises:
            UserError: nothing can be learned from them.
        """
        return ()

    def reference(self, logprobs: LogProbs) -> Mapping[str, Tensor]:
        """(B,) values under the frozen reference, computed once before step 1; found in ``batch.numbers``."""
        return {}

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Sum and number of a batch; ``token_logprobs(model, batch)`` gives what there is to sum."""


# ------------------------------------------------------------------------------------------- data, optimizer, metric
class DataSource(ABC):
    """Where rows come from.

    Attributes:
        metric: What ``metric=auto`` means for it.
    """

    metric: ClassVar[str] = "loss"

    @abstractmethod
    def rows(self, split: Literal["train", "validation"]) -> Dataset | Iterable[Row | RowError] | None:
        """Raw rows, an unreadable one yielded as ``RowError``; the core applies ``data.format`` and ``data.columns``.

        None for validation: the core holds out ``data.holdout``.

        Raises:
            UserError: there is nothing to read.
        """

    def share(self, split: str, index: int) -> float:
        """How often row ``index`` is taken in an epoch, where sets are mixed. Default: once."""
        return 1.0

    def fingerprint(self) -> str | None:
        """What changes whenever the rows do, without reading them: a later run then starts from the cache at once.

        Default: None; the rows are read and compared.
        """
        return None

    def origin(self, split: str, index: int) -> str:
        """Where row ``index`` (from 0) came from, such as ``"train.jsonl:17"``. Default: ``"train row 17"``."""
        return f"{split} row {index + 1}"


class Optim(ABC):
    """Builds an optimizer.

    Attributes:
        lr: Peak learning rate.
    """

    lr: float

    @abstractmethod
    def build(self, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
        """Over torch's parameter groups; a group without ``lr`` gets the option's."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a metric found.

    Attributes:
        name: The metric's name.
        value: What it measured.
        n: Rows it was measured on.
        low: Lower end of the 95 % interval.
        high: Upper end.
        better: Which direction is good.
        samples: A few of ``{"prompt": ..., "wanted": ..., "given": ...}``.
        unit: ``"%"`` shows a share of 0 to 1 as a percentage; another stands behind the value, such as ``"words"``.
        of_rows: A value for each row, in their order, of which ``value`` is the mean: with them ``compare``
            tests two runs row by row.
        also: Other values of the same measurement, shown under it, such as the margin under a share.
    """

    name: str
    value: float
    n: int
    low: float
    high: float
    better: Literal["higher", "lower"]
    samples: Sequence[Mapping[str, str]] = ()
    unit: str = ""
    of_rows: Sequence[float] = ()
    also: Sequence[Score] = ()

    def __post_init__(self) -> None:
        one_of(f"Score({self.name!r}).better", self.better, ("higher", "lower"))

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> Score:
        """From what ``asdict`` gave.

        Example:
            >>> from dataclasses import asdict
            >>> score = Score("rate", 0.5, 4, 0.2, 0.8, "higher", also=(Score("margin", 1.0, 4, 0.0, 2.0, "higher"),))
            >>> Score.of_plain(asdict(score)) == score
            True
        """
        infinite = {"low": float("-inf"), "high": float("inf")}  # of one row; JSON has none
        ends = {end: far for end, far in infinite.items() if values[end] is None}
        known: dict[str, Any] = {**values, **ends, "also": tuple(cls.of_plain(one) for one in values.get("also", ()))}
        return cls(**known)

    def shown(self, value: float) -> str:
        """One of its numbers as it is shown.

        Example:
            >>> Score("exact", 0.83, 300, 0.783, 0.868, "higher", unit="%").shown(0.783)
            '78.3 %'
        """
        return f"{100 * value:.1f} %" if self.unit == "%" else f"{value:.4f} {self.unit}".rstrip()

    def __str__(self) -> str:
        """In a few words.

        Example:
            >>> print(Score("exact", 0.83, 300, 0.783, 0.868, "higher"))
            exact 0.83 (0.783 to 0.868, n=300)
        """
        return f"{self.name} {self.value:.4g} ({self.low:.4g} to {self.high:.4g}, n={self.n})"


class Metric(ABC):
    """Measured on held-out rows before and after training."""

    @abstractmethod
    def measure(self, model: nn.Module, rows: Sequence[Row], context: Context) -> Score:
        """Measure ``model``, which is in eval mode, on ``rows`` in canonical columns, without gradient."""
