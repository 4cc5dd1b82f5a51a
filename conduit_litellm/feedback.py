"""What LiteLLM says of a call, as evidence for the decision that sent it there."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import litellm
from litellm.integrations.custom_logger import CustomLogger

from conduit.core.models import ImplicitFeedback
from conduit.engines.executor.failures import meaning, translated

# Where LiteLLM keeps loggers: it copies them from the first list into the others.
_LISTS = (
    "callbacks", "input_callback", "success_callback", "failure_callback", "_async_input_callback",
    "_async_success_callback", "_async_failure_callback", "service_callback",
)  # fmt: skip
DECISION_ID = "conduit_decision_id"  # in metadata, in model_info and in `_hidden_params`


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one call of one deployment ended, as LiteLLM tells it; unknown is None."""

    decision_id: str
    deployment: str | None
    failure: str | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    input_tokens: float | None = None
    output_tokens: float | None = None
    answer: str | None = None

    def evidence(self) -> ImplicitFeedback | None:
        """Return what the attempt teaches about its deployment; None when it teaches nothing."""
        key = f"{self.decision_id}:attempt"
        if self.failure is not None:
            quality = meaning(self.failure).quality
            if quality is None:
                return None
            return ImplicitFeedback(
                signal=self.failure, quality=quality, error=self.failure, feedback_id=key
            )
        return ImplicitFeedback(
            signal="answered",
            quality=1.0,
            cost_usd=self.cost_usd,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            latency_s=self.latency_s,
            feedback_id=key,
        )


class Observer(Protocol):
    """Takes what the logger reads off LiteLLM's reports."""

    def observe(self, attempt: Attempt) -> None: ...  # noqa: D102  never raises


class ConduitFeedbackLogger(CustomLogger):
    """Reads LiteLLM's reports of calls, and passes on those that carry a decision of ours."""

    def __init__(self, observer: Observer) -> None:
        """Tell `observer`."""
        super().__init__()
        # LiteLLM takes two loggers with equal public attributes for one and drops the second.
        self.name = f"conduit-{uuid.uuid4().hex}"
        self._observer = observer

    def register(self) -> None:
        """Have LiteLLM report calls here."""
        litellm.logging_callback_manager.add_litellm_callback(self)

    def unregister(self) -> None:
        """Leave every list in which LiteLLM keeps it."""
        for name in _LISTS:
            found = getattr(litellm, name, None)
            if isinstance(found, list):
                found[:] = [callback for callback in found if callback is not self]

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Pass on that a call was answered."""
        attempt = answered(kwargs, response_obj, start_time, end_time)
        if attempt is not None:
            self._observer.observe(attempt)

    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Pass on that a call failed."""
        attempt = failed(kwargs)
        if attempt is not None:
            self._observer.observe(attempt)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Pass on that a call was answered."""
        self.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Pass on that a call failed."""
        self.log_failure_event(kwargs, response_obj, start_time, end_time)


def answered(
    kwargs: Mapping[str, Any], response: Any, start_time: Any, end_time: Any
) -> Attempt | None:
    """Return an answered attempt; None for a call of somebody else, or an answer from a cache."""
    info = _model_info(kwargs)
    if info is None or kwargs.get("cache_hit"):
        return None
    answer = _answer(response)
    tokens = _told(_get(response, "usage"))
    if tokens == (None, None) and answer:
        tokens = _counted(kwargs, answer)
    return Attempt(
        decision_id=str(info[DECISION_ID]),
        deployment=_text(info.get("id")),
        cost_usd=_positive(kwargs.get("response_cost")),
        latency_s=_seconds(start_time, end_time),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        answer=answer,
    )


def failed(kwargs: Mapping[str, Any]) -> Attempt | None:
    """Return a failed attempt with the kind of its failure; None for a call of somebody else."""
    info = _model_info(kwargs)
    if info is None:
        return None
    error = kwargs.get("exception")
    return Attempt(
        decision_id=str(info[DECISION_ID]), deployment=_text(info.get("id")), failure=kind_of(error)
    )


def kind_of(error: object) -> str:
    """Return the kind of failure that one of LiteLLM's exceptions stands for."""
    if not isinstance(error, BaseException):
        return "provider_error"
    names = {base.__name__ for base in type(error).__mro__}
    if names & {"CancelledError", "GeneratorExit", "KeyboardInterrupt"}:
        return "cancelled"
    if "ContentPolicyViolationError" in names:  # to LiteLLM also a bad request
        return "content_filter"
    return translated(error, "deployment", now=time.time()).kind


def _model_info(kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the attempt's own model_info where it carries a decision of ours.

    LiteLLM hands each attempt a copy of it, while the metadata around it is shared by all attempts
    of a request; so the decision is read here and nowhere else.
    """
    params = kwargs.get("litellm_params") or {}
    for holder in (params, params.get("metadata"), params.get("litellm_metadata")):
        info = holder.get("model_info") if isinstance(holder, Mapping) else None
        if isinstance(info, Mapping) and DECISION_ID in info:
            return info
    return None


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _positive(value: object) -> float | None:
    """Return a number above nothing; LiteLLM says 0 where it does not know."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _seconds(start: Any, end: Any) -> float | None:
    try:
        passed = end - start
    except TypeError:
        return None
    return _positive(passed.total_seconds() if hasattr(passed, "total_seconds") else passed)


def _told(usage: Any) -> tuple[float | None, float | None]:
    """Return the tokens of the request and of the answer, by whichever name they are told."""
    return (
        _positive(_get(usage, "prompt_tokens") or _get(usage, "input_tokens")),
        _positive(_get(usage, "completion_tokens") or _get(usage, "output_tokens")),
    )


def _counted(kwargs: Mapping[str, Any], answer: str) -> tuple[float | None, float | None]:
    """Count tokens where nobody did: a stream tells them only if asked, and not every release asks.

    LiteLLM's other releases count them in the same way.
    """
    model, asked = str(kwargs.get("model")), kwargs.get("messages")
    said: dict[str, Any] = {"messages": asked} if isinstance(asked, list) else {"text": str(asked)}
    try:
        given = litellm.token_counter(model=model, **said)
        came = litellm.token_counter(model=model, text=answer, count_response_tokens=True)
    except Exception:  # noqa: BLE001  a part that cannot be counted leaves the number unknown
        return None, None
    return _positive(given), _positive(came)


def _answer(response: Any) -> str | None:
    choices = _get(response, "choices")
    if not isinstance(choices, list) or not choices:
        return None
    content = _get(_get(choices[0], "message"), "content")
    return content if isinstance(content, str) else None


__all__ = ["DECISION_ID", "Attempt", "ConduitFeedbackLogger", "Observer", "kind_of"]
