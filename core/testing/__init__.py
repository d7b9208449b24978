"""The conformance kit: a contract a kind of part. A plugin's test is a subclass with the part's name.

Used with plain pytest, on a tiny random model, without network and without a GPU::

    from core.testing import MethodContract


    class TestBitFit(MethodContract):
        name = "bitfit"

What a part cannot do for a reason is written down, strictly: a check that passes after all is a failure::

    expected_failures = {"merged_equals_unmerged": "the activation is not linear"}
"""

from __future__ import annotations

from core.testing import asserts as asserts  # before the others
from core.testing.data import DataContract
from core.testing.loader import LoaderContract
from core.testing.method import MethodContract
from core.testing.metric import MetricContract
from core.testing.objective import ObjectiveContract
from core.testing.optimizer import OptimizerContract
from core.testing.part import PartContract
from core.testing.quantizer import QuantizerContract

CONTRACTS: dict[str, type[PartContract]] = {
    contract.axis: contract
    for contract in (
        LoaderContract,
        QuantizerContract,
        MethodContract,
        ObjectiveContract,
        DataContract,
        OptimizerContract,
        MetricContract,
    )
}
"""Axis of the config -> the contract of its parts."""

__all__ = [
    "CONTRACTS", "DataContract", "LoaderContract", "MethodContract", "MetricContract", "ObjectiveContract",
    "OptimizerContract", "PartContract", "QuantizerContract",
]  # fmt: skip
