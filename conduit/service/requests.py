"""What a request is: the prompt on its way, what was decided and what its attempts showed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conduit.core.errors import ConfigurationError, InvalidInput
from conduit.core.models import (
    ModelArm,
    Preferences,
    Query,
    QueryConstraints,
    Response,
    RoutingDecision,
    RoutingResult,
)
from conduit.engines.executor.base import Answer, Call, Executor
from conduit.engines.executor.chain import AttemptRecord, ChainStream
from conduit.service.purse import Covered, Purse


@dataclass(slots=True)
class Request:
    """One prompt on its way."""

    id: str
    query: Query
    decision: RoutingDecision
    arms: Sequence[ModelArm]
    call: Call
    deadline: float  # on the monotonic clock
    purse: Purse | None
    attempts: list[AttemptRecord] = field(default_factory=list)
    begun: bool = False  # the caller has a piece of the answer
    data: Any = None  # the answer in the form asked for, once it is whole

    @property
    def response(self) -> Response | None:
        """Return what the attempt that answered took, once there is one."""
        last = self.attempts[-1] if self.attempts else None
        return None if last is None or last.failure is not None else last.response

    def through(self, executor: Executor) -> Executor:
        """Return the executor, which has to wait for money where there is a limit."""
        if self.purse is None:
            return executor
        return Covered(executor, self.purse, lambda: self.attempts)

    def result(self, answer: Answer[Any]) -> RoutingResult[Any]:
        """Return the answer with its receipt."""
        return RoutingResult(
            id=self.id,
            data=answer.data,
            model=answer.response.model,
            decision=self.decision,
            response=answer.response,
            messages=answer.messages,
        )


class AnswerInParts:
    """An answer on its way; iterate, then read `result`."""

    def __init__(self, request: Request, pieces: ChainStream) -> None:
        """Wrap the pieces of a chain."""
        self._request = request
        self._pieces = pieces
        self.decision = request.decision

    @property
    def id(self) -> str:
        """Return the id under which feedback can be given."""
        return self._request.id

    @property
    def model(self) -> str:
        """Return the model that answers."""
        return self._pieces.arm.id

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return text deltas, or ever more complete data where a type was asked for."""
        return aiter(self._pieces)

    @property
    def result(self) -> RoutingResult[Any]:
        """Return the whole answer; known once the pieces have ended."""
        if self._request.response is None:
            raise InvalidInput(
                "the result is known once the pieces of the stream have ended: read them first",
                field="result",
                expected="a stream that was read to its end",
            )
        return self._request.result(self._pieces.answer)


def closed() -> ConfigurationError:
    """Return the error of a service that is asked for something after it was closed."""
    return ConfigurationError("this service is closed; make another one")


def query_of(
    prompt: str | Sequence[Any],
    *,
    user_id: str | None,
    task: str | None,
    context: Mapping[str, Any] | None,
    constraints: QueryConstraints | Mapping[str, Any] | None,
    preferences: Preferences | str | Mapping[str, Any] | None,
    conversation_id: str | None,
) -> Query:
    """Return what is routed for a prompt."""
    return Query(
        text=text_of(prompt),
        user_id=user_id,
        task=task,
        context=context,
        constraints=QueryConstraints.of(constraints),
        preferences=None if preferences is None else Preferences.of(preferences),
        conversation_id=conversation_id,
    )


def text_of(prompt: str | Sequence[Any]) -> str:
    """Return what text there is in a prompt: images are routed by the text beside them."""
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list | tuple) or not prompt:
        raise InvalidInput(
            "a prompt must be text, or a list of its parts",
            field="prompt",
            expected="text, or a list of text, images and files",
        )
    return "\n".join(part for part in prompt if isinstance(part, str)) or "(no text)"
