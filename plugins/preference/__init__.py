"""Preference alignment: from a chosen and a rejected answer to one prompt, or from answers liked and not liked."""

from collections.abc import Iterator

from core.api import Part, hookimpl

PAPERS = {
    "dpo": ("https://arxiv.org/abs/2305.18290", "the chosen answer over the rejected one, measured from a reference"),
    "simpo": ("https://arxiv.org/abs/2405.14734", "the chosen answer over the rejected one by a margin, per token"),
    "cpo": ("https://arxiv.org/abs/2401.08417", "the chosen answer over the rejected one, and the chosen one learned"),
    "kto": ("https://arxiv.org/abs/2402.01306", "answers that people liked over those they did not, unpaired"),
    "orpo": ("https://arxiv.org/abs/2403.07691", "the chosen answer learned, and its odds raised over the rejected"),
}
"""Name -> paper, what it trains."""

CLASSES = {"dpo": "DPO", "simpo": "SimPO", "cpo": "CPO", "orpo": "ORPO", "kto": "KTO"}


@hookimpl
def hooktune_objectives() -> Iterator[Part]:
    """Offer them."""
    for name, (paper, summary) in PAPERS.items():
        yield Part(
            name=name,
            target=f"plugins.preference.{name}:{CLASSES[name]}",
            options=f"plugins.preference.options:{CLASSES[name]}Options",
            summary=summary,
            source=paper,
            provides=frozenset({"preference"}),
        )


@hookimpl
def hooktune_metrics() -> Iterator[Part]:
    """Offer the share of pairs that the model ranks as people did."""
    yield Part(
        name="preference",
        target="plugins.preference.metric:Preference",
        options="plugins.preference.options:PreferenceOptions",
        summary="share of held-out pairs whose chosen answer has the larger reward",
        requires=frozenset({"preference"}),
    )
