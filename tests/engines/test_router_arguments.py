"""What a router is made of and told is refused by name where it is of another kind."""

from __future__ import annotations

from typing import Any

import pytest

from conduit.core.errors import ConduitError, ConfigurationError, InvalidInput
from conduit.engines.router import Router


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("secret", 5, "secret must be a string, got int"),
        ("secret", b"key-of-bytes", "secret must be a string, got bytes"),
        ("name", 5, "name must be a string, got int"),
        ("store", "sqlite:///conduit.db", r"await open_store\(url\), got str"),
        ("store", 5, r"await open_store\(url\), got int"),
        ("store", 0, r"await open_store\(url\), got int"),
    ],
)
def test_what_no_router_is_made_of_is_refused(field: str, value: Any, told: str) -> None:
    """A store's address is no store; no secret is shown."""
    with pytest.raises(ConduitError, match=told) as refused:
        Router(["a", "b"], environ={}, **{field: value})
    assert isinstance(refused.value, ConfigurationError | InvalidInput)
    assert refused.value.field == field
    assert "key-of-bytes" not in str(refused.value)


@pytest.mark.parametrize("said", [0.9, {"quality_score": 0.9}, "good", None])
async def test_what_is_no_feedback_is_refused(said: Any) -> None:
    """A number says nothing of who gave it and when; the refusal says what does."""
    async with Router(["a", "b"], environ={}) as router:
        decision = await router.route("hello")
        with pytest.raises(InvalidInput, match="feedback must be Feedback or Impl") as refused:
            await router.feedback(decision, said)
        assert refused.value.field == "feedback"
        with pytest.raises(InvalidInput, match="feedback must be Feedback or Impl"):
            router.feedback_sync(decision, said)
        assert router.learner.applied == 0
