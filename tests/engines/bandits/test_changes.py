"""The change detector notices what changed, and little else."""

from __future__ import annotations

import numpy as np
import pytest

from conduit.engines.bandits.changes import ChangeDetector


def first_alarm(residuals: np.ndarray) -> int | None:
    """Return after how many residuals the alarm is raised, if ever."""
    detector = ChangeDetector()
    detector.add_row()
    for i, residual in enumerate(residuals):
        if detector.changed(0, float(residual)):
            return i + 1
    return None


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_shift_by_one_sd_is_noticed(sign: float) -> None:
    """A rise or fall by one standard deviation is noticed after some twenty outcomes."""
    delays = [
        first_alarm(sign + np.random.default_rng(seed).standard_normal(200)) for seed in range(40)
    ]
    assert None not in delays
    assert 12 <= float(np.median([d for d in delays if d])) <= 35


def test_a_stationary_stream_raises_hardly_any_alarm() -> None:
    """In 300,000 residuals without a change, alarms are one in ten thousands at most."""
    alarms = sum(
        first_alarm(np.random.default_rng(seed).standard_normal(3000)) is not None
        for seed in range(100)
    )
    assert alarms <= 5


def test_one_outlier_is_no_change() -> None:
    """A single residual, however great, raises no alarm."""
    assert first_alarm(np.array([1e9, 0.0, 0.0])) is None


def test_sums_are_kept_per_row() -> None:
    """A row's sums can be dumped and loaded, and other rows do not feel them."""
    detector, other = ChangeDetector(), ChangeDetector()
    for _ in range(2):
        detector.add_row()
        other.add_row()
    for _ in range(5):
        detector.changed(1, 2.0)
    assert detector.dump(0) == (0.0, 0.0)
    other.load(0, detector.dump(1))
    assert other.dump(0) == pytest.approx((5 * 1.65, 0.0))
    detector.remove_row(0)
    assert detector.dump(0) == other.dump(0)
