"""Values survive being rows, whatever numbers they hold."""

from __future__ import annotations

import numpy as np
import pytest

from conduit.core.errors import InvalidInput
from conduit.core.events import DecisionRecord
from conduit.storage.rows import decision_row, to_decision


def a_row(numbers: list[float]) -> tuple[object, ...]:
    """Return the row of a decision on these features, as it may have been damaged on a disk."""
    record = DecisionRecord(
        id="d", router="r", model="m", x=[1.0], schema="s", created_at=1.0, expires_at=2.0,  # type: ignore[arg-type]
    )  # fmt: skip
    whole = decision_row(record)
    return (*whole[:3], np.array(numbers, "<f4").tobytes(), *whole[4:])


@pytest.mark.parametrize("numbers", [[1.0, -2.0], [2e19, 1.0], [3e38, -3e38], []])
def test_finite_features_are_read_as_they_were_written(numbers: list[float]) -> None:
    """However large: that their squares are beyond single precision is no one's concern."""
    assert to_decision(a_row(numbers)).x.tolist() == np.array(numbers, "f4").tolist()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_not_read(number: float) -> None:
    """A vector that was damaged teaches nothing."""
    with pytest.raises(InvalidInput, match="finite"):
        to_decision(a_row([1.0, number]))
