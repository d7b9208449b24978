"""A check that fails says what it compared: pytest rewrites the kit's asserts, as it does those of tests."""

import pytest

KINDS = ("claims", "data", "loader", "method", "metric", "objective", "optimizer", "part", "quantizer", "real")

pytest.register_assert_rewrite(*(f"core.testing.{kind}" for kind in KINDS))
