"""What makes no replay is refused by name, before anything is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from conduit.core.errors import ConfigurationError, InvalidInput
from conduit.core.models import ModelArm
from conduit.engines.bandits import ContextualThompsonBandit
from conduit.evaluation.replay import Rival, replay, replay_rival
from tests.evaluation.replayed import DIM, TABLE, K, N, Recorder, recorded, table_of

NOT_ALL_KNOWN = np.where(np.arange(N)[:, None] == 7, np.nan, np.ones((N, K)))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"models": []}, "models"),
        ({"models": 5}, "models"),
        ({"models": ["cheap", "good", "dear"]}, "models"),
        ({"models": [ModelArm("same")] * K}, "models"),
        ({"quality": np.ones((N, 2))}, "quality"),
        ({"quality": np.full((N, K), 1.5)}, "quality"),
        ({"quality": np.full((N, K), np.nan)}, "quality"),
        ({"quality": NOT_ALL_KNOWN}, "quality"),
        ({"quality": np.ones((0, K))}, "quality"),
        ({"quality": [[1.0, 0.0, 1.0], [1.0, 0.0]]}, "quality"),
        ({"quality": np.full((N, K), "1")}, "quality"),
        ({"quality": None}, "quality"),
        ({"cost_usd": np.ones((N, 2))}, "cost_usd"),
        ({"cost_usd": -np.ones((N, K))}, "cost_usd"),
        ({"cost_usd": np.full((N, K), np.inf)}, "cost_usd"),
        ({"cost_usd": np.full((N, K), 1e9)}, "cost_usd"),
        ({"cost_usd": [["a"] * K] * N}, "cost_usd"),
        ({"cost_usd": [[object()] * K] * N}, "cost_usd"),
        ({"latency_s": np.full((N, K), np.nan)}, "latency_s"),
        ({"output_tokens": np.full((N, K), -1)}, "output_tokens"),
        ({"features": np.ones(N)}, "features"),
        ({"features": np.full((N, DIM), np.nan)}, "features"),
        ({"features": np.full((N, DIM), 1e300)}, "features"),
        ({"features": np.full((N, DIM), 1e6)}, "features"),
        ({"features": np.ones((N, 0))}, "features"),
        ({"features": [["x"] * DIM] * N}, "features"),
        ({"features": None}, "texts"),
        ({"features": None, "texts": ["one"]}, "texts"),
        ({"features": None, "texts": "x" * N}, "texts"),
        ({"features": None, "texts": [None] * N}, "texts"),
        ({"texts": ["one"]}, "texts"),
        ({"groups": ["one"]}, "groups"),
        ({"groups": "x" * N}, "groups"),
        ({"groups": [None, "odd"] * (N // 2)}, "groups"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(changes: dict[str, Any], field: str) -> None:
    """Shapes, ranges and names are checked when the table is made, and named."""
    with pytest.raises(InvalidInput) as refused:
        table_of(**changes)
    assert refused.value.field == field
    assert refused.value.expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quality": NOT_ALL_KNOWN}, "known numbers .* got nan in row 7"),
        ({"features": None, "texts": ["secret"] * 9 + [""] + ["secret"] * (N - 10)},
         "row 9 of texts: text must not be empty"),
        ({"groups": ["odd"] * (N - 1) + [None]}, f"groups .* got NoneType in row {N - 1}"),
    ],
)  # fmt: skip
def test_the_row_that_does_not_fit_is_named(changes: dict[str, Any], words: str) -> None:
    """Of a long table it is said where to look, and no text is shown."""
    with pytest.raises(InvalidInput, match=words) as refused:
        table_of(**changes)
    assert "secret" not in str(refused.value)


def test_what_is_no_array_yet_becomes_one() -> None:
    """Models may come from an iterator, and an unknown cost may be None."""
    cost = [[0.001, None, 0.01], *[[0.001, 0.004, 0.01]] * (N - 1)]
    made = table_of(models=(ModelArm(n) for n in ("cheap", "good", "dear")), cost_usd=cost)
    assert [arm.id for arm in made.models] == ["cheap", "good", "dear"]
    assert np.isnan(np.asarray(made.cost_usd)).sum() == 1
    assert (made.dim, made.vectors.shape) == (DIM, (N, DIM))


NAN = float("nan")
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"orders": 0}, "orders"),
    ({"orders": 2.5}, "orders"),
    ({"orders": True}, "orders"),
    ({"orders": "3"}, "orders"),
    ({"seed": -5000}, "seed"),
    ({"seed": 1.5}, "seed"),
    ({"seed": None}, "seed"),
    ({"delay": -1}, "delay"),
    ({"delay": 1.5}, "delay"),
    ({"calibration": N}, "calibration"),
    ({"calibration": -1}, "calibration"),
    ({"calibration": 2.5}, "calibration"),
    ({"limit": 0}, "limit"),
    ({"limit": 1.5}, "limit"),
    ({"shuffle": "no"}, "shuffle"),
    ({"prior_error": NAN}, "prior_error"),
    ({"prior_error": -0.1}, "prior_error"),
    ({"prior_error": "x"}, "prior_error"),
    ({"cost_weight": NAN}, "cost_weight"),
    ({"cost_weight": -0.1}, "cost_weight"),
    ({"cost_weight": 1e9}, "cost_weight"),
    ({"cost_weight": None}, "cost_weight"),
    ({"cost_weight": lambda t: NAN}, "cost_weight"),
    ({"cost_weight": lambda t: None if t == N - 1 else 0.1}, "cost_weight"),
    ({"latency_weight": NAN}, "latency_weight"),
    ({"latency_weight": lambda t: 0.1}, "latency_weight"),
    ({"latency_weight": 0.5}, "latency_weight"),
    ({"drift": 5}, "drift"),
    ({"drift": lambda t, quality: None}, "drift"),
    ({"drift": lambda t, quality: quality[:2]}, "drift"),
    ({"drift": lambda t, quality: quality + 5.0}, "drift"),
    ({"drift": lambda t, quality: quality * NAN if t == N - 1 else quality}, "drift"),
    ({"progress": 5}, "progress"),
]


@pytest.mark.parametrize(("options", "field"), WRONG)
def test_arguments_that_make_no_replay_are_refused(options: dict[str, Any], field: str) -> None:
    """What leaves nothing to replay is named, before anything is made or asked."""
    with pytest.raises(InvalidInput) as refused:
        replay(TABLE, **options)
    assert refused.value.field == field
    assert refused.value.expected

    def make(arms: Sequence[ModelArm], dim: int, seed: int) -> Rival:
        raise AssertionError("a rival was made")

    with pytest.raises(InvalidInput) as as_well:
        replay_rival(TABLE, make, **options)
    assert str(as_well.value) == str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cost_weight": lambda t: 0.1 if t < 9 else -1}, "cost_weight .* got -1 at step 9"),
        ({"drift": lambda t, q: q if t < 9 else q[:1]}, r"drift .* got \(1,\) at step 9"),
    ],
)
def test_the_step_that_does_not_fit_is_named(options: dict[str, Any], words: str) -> None:
    """Of a function it is said at which step it returned what."""
    with pytest.raises(InvalidInput, match=words):
        replay(TABLE, **options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"policy": "zz"}, ConfigurationError),
        ({"policy": None}, InvalidInput),
        ({"policy": ContextualThompsonBandit(DIM)}, InvalidInput),
        ({"floor": 2.0}, InvalidInput),
        ({"prior_observations": NAN}, InvalidInput),
        ({"change_detection": "no"}, InvalidInput),
    ],
)
def test_no_text_is_analysed_for_a_learner_that_cannot_be(
    options: dict[str, Any], error: type[Exception]
) -> None:
    """A policy, or a setting of its learner, is refused before the texts are read."""
    table = table_of(features=None, texts=[f"Question {i}?" for i in range(N)])
    with pytest.raises(error):
        replay(table, **options)
    assert table.features is None


def test_only_a_table_and_a_maker_are_replayed() -> None:
    """Anything else in their place is named."""
    with pytest.raises(InvalidInput, match="table must be a ReplayTable, got dict"):
        replay({"quality": 1})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="make must be a function, got Recorder"):
        replay_rival(TABLE, Recorder(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [K, -1, None, 0.0])
def test_a_rival_that_chooses_no_model_is_refused(k: Any) -> None:
    """A choice is the place of a model."""
    with pytest.raises(InvalidInput, match=f"choose must be a whole number from 0 to {K - 1}"):
        recorded(k)
