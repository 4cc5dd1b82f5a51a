"""What an outcome, or a calibration, teaches of an arm's spend."""

from __future__ import annotations

import numpy as np
import pytest

from conduit.core.events import Evidence, Outcome
from conduit.core.models import ModelArm, as_vector
from conduit.engines.bandits.base import LATENCY, QUALITY, SPEND
from conduit.engines.bandits.outcomes import columns_of, spend_of, step_of, weights_and_values

X = as_vector([1.0])
PRICED = ModelArm("priced", input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
FREE = ModelArm("free", input_usd_per_mtok=0.0, output_usd_per_mtok=0.0)
UNPRICED = ModelArm("unpriced")


@pytest.mark.parametrize(
    ("arm", "said", "spend"),
    [
        (PRICED, {"output_tokens": 70.0, "cost_usd": 1.0}, 70.0),
        (PRICED, {"cost_usd": 0.002, "input_tokens": 1000.0}, 100.0),
        (PRICED, {"cost_usd": 0.001, "input_tokens": 5000.0}, 0.0),
        (PRICED, {}, None),
        (PRICED, {"output_tokens": 70.0, "error": "timeout"}, None),
        (FREE, {"cost_usd": 0.5}, None),
        (UNPRICED, {"cost_usd": 0.5, "output_tokens": 70.0}, 0.5),
    ],
)
def test_spend_is_output_where_it_has_a_price(
    arm: ModelArm, said: dict[str, float], spend: float | None
) -> None:
    """Output tokens follow from dollars and a price; without a price, dollars are the spend."""
    found = spend_of(Evidence(**said), arm)  # type: ignore[arg-type]
    assert found == (None if spend is None else pytest.approx(spend))
    if "error" not in said:  # calibration reads the same, many at a time
        columns = columns_of({arm.id: {k: [v] for k, v in said.items()}}, 1, [arm.id])[arm.id]
        weight, value = weights_and_values(columns, arm)
        assert weight[0, SPEND] == (spend is not None)
        assert value[0, SPEND] == pytest.approx(spend or 0.0)


def test_a_step_is_what_is_new() -> None:
    """A revision teaches the difference; what is unknown, or of a failed call, weighs nothing."""
    old = Evidence(quality=0.5, latency_s=2.0)
    new = Outcome("priced", X, quality=1.0, quality_weight=3.0, latency_s=2.0, output_tokens=4.0)
    step = step_of(new, old, PRICED)
    assert np.array(step).tolist() == [[2.0, 1.0, 0.0], [2.5, 4.0, 0.0], [2.75, 16.0, 0.0]]
    failed = step_of(Outcome("priced", X, error="timeout", latency_s=9.0), None, PRICED)
    assert list(failed.weight) == [1.0, 0.0, 0.0]
    assert np.array(failed)[1:, [QUALITY, LATENCY]].tolist() == [[0.0, 0.0], [0.0, 0.0]]
