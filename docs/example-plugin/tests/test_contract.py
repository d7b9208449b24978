"""The part keeps its contract: hooktune's conformance kit."""

from core.testing import MethodContract


class TestGaLore(MethodContract):
    name = "galore"
