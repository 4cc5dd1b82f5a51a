"""From a completion and a fault to the bytes on the wire, with the time before each of them."""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate

from conduit.testing.provider_answers import Ask, Completion, altered
from conduit.testing.provider_faults import REFUSALS, Cut, Fault, FaultKind
from conduit.testing.provider_http import (
    LAST_CHUNK,
    Ending,
    Script,
    Step,
    chunk_bytes,
    head_bytes,
    json_script,
    whole_bytes,
)
from conduit.testing.provider_models import SimulatedModel
from conduit.testing.provider_wire import Event, Wire, error_body

SLOW_BODY_PIECES = 8
PAGE = (
    b"<!doctype html>\n<html><head><title>Gateway</title></head>"
    b"<body><h1>Please try again later</h1></body></html>\n"
)
NO_COMPLETION = {"status": "ok", "items": [1, 2, 3]}
FAILURE = ("server_error", "The model failed while it was answering")
_ENDINGS: dict[Cut, Ending] = {"reset": Ending.RESET, "close": Ending.CLOSE, "end": Ending.KEEP}


@dataclass(frozen=True, slots=True)
class Delivery:
    """A completion on its way to the client, through one API and perhaps one fault."""

    wire: Wire
    model: SimulatedModel
    ask: Ask
    said: Completion
    request_id: str
    fault: Fault | None = None
    idempotency_key: str | None = None

    def script(self) -> Script:
        """Return what the client gets, and when."""
        fault = self.fault
        if fault is None:
            return self._answer()
        if fault.kind in REFUSALS:
            return _refusal(fault)
        match fault.kind:
            case FaultKind.HANG:
                return Script(None, (), Ending.HANG)
            case FaultKind.CUT_AT_ONCE:
                return Script(None, (), Ending.RESET if fault.cut == "reset" else Ending.CLOSE)
            case FaultKind.EMPTY_BODY:
                return Script(200, (Step(whole_bytes(200, b"")),))
            case FaultKind.HTML:
                page = whole_bytes(fault.status, PAGE, "text/html; charset=utf-8")
                return Script(fault.status, (Step(page),))
            case FaultKind.SLOW_HEADERS:
                return _later(self._answer(), fault.delay_s)
            case _:
                return replace(self, said=altered(self.said, fault))._answer()

    def _answer(self) -> Script:
        return self._streamed() if self.ask.stream else self._whole()

    def _whole(self) -> Script:
        """Return an answer in one body, or what a fault leaves of it."""
        wait_s = self.model.duration_s(self.said.output_tokens)
        body, kind = self._body(), self.fault and self.fault.kind
        if self.fault is None or kind not in _BREAKS:
            data = whole_bytes(200, body, extra=self._names())
            return Script(200, (Step(data, wait_s),))
        half = body[: 0 if kind is FaultKind.CUT_BEFORE_FIRST_TOKEN else len(body) // 2]
        if kind is FaultKind.TRUNCATED_JSON or (self.fault.cut == "end" and kind in _CUTS):
            return Script(200, (Step(whole_bytes(200, half), wait_s),))
        head = whole_bytes(200, body)[: -len(body)]
        if kind is FaultKind.SLOW_BODY:
            size = -(-len(body) // SLOW_BODY_PIECES)
            pieces = [body[at : at + size] for at in range(0, len(body), size)]
            late = [Step(piece, self.fault.delay_s) for piece in pieces]
            return Script(200, (Step(head, wait_s), *late))
        ending = _ENDINGS[self.fault.cut] if kind in _CUTS else Ending.HANG
        return Script(200, (Step(head + half, wait_s),), ending)

    def _names(self) -> dict[str, str]:
        key = self.idempotency_key
        return {"x-request-id": self.request_id} | ({} if key is None else {"Idempotency-Key": key})

    def _body(self) -> bytes:
        kind = self.fault and self.fault.kind
        content: object = NO_COMPLETION
        if kind is FaultKind.ERROR_IN_BODY:
            content = error_body("server_error", *FAILURE)
        elif kind is not FaultKind.WRONG_SCHEMA:
            content = self.wire.whole(self.said, self.ask, self.request_id, time.time())
        return json.dumps(content, separators=(",", ":")).encode()

    def _streamed(self) -> Script:
        """Return an answer as events at the model's pace, or what a fault leaves of it."""
        events = self.wire.events(self.said, self.ask, self.request_id, time.time())
        pace_s = self._pace_s(sum(event.is_token for event in events))
        ending, is_complete = Ending.KEEP, True
        if self.fault is not None:
            events, ending = self._broken(events, self.fault)
            is_complete = ending is Ending.KEEP
        headers = {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "Transfer-Encoding": "chunked",
            **self._names(),
        }
        steps = [Step(head_bytes(200, headers), self.model.ttft_s)]
        for event in events:
            steps.append(Step(chunk_bytes(event.data), pace_s if event.is_token else 0.0))
        if is_complete:
            steps.append(Step(LAST_CHUNK))
        return Script(200, _joined(steps), ending)

    def _pace_s(self, pieces: int) -> float:
        """Return the time before each piece of the text."""
        fault, speed = self.fault, self.model.tokens_per_s
        pace_s = 0.0 if speed is None else self.said.output_tokens / speed / max(pieces, 1)
        is_slow = fault is not None and fault.kind is FaultKind.SLOW_BODY
        return max(pace_s, fault.delay_s) if fault is not None and is_slow else pace_s

    def _broken(self, events: Sequence[Event], fault: Fault) -> tuple[list[Event], Ending]:
        """Return which events are still sent, and what happens after them."""
        first = next((i for i, event in enumerate(events) if event.is_token), len(events) - 1)
        match fault.kind:
            case FaultKind.CUT_BEFORE_FIRST_TOKEN:
                return list(events[:first]), _ENDINGS[fault.cut]
            case FaultKind.CUT_AFTER_FIRST_TOKEN:
                return list(events[: first + 1]), _ENDINGS[fault.cut]
            case FaultKind.HANG_IN_BODY:
                return list(events[: first + 1]), Ending.HANG
            case FaultKind.ERROR_IN_BODY:
                return [*events[: first + 1], self.wire.error_event(*FAILURE)], Ending.KEEP
            case FaultKind.TRUNCATED_JSON:
                data = events[0].data
                return [Event(data[: len(data) // 2] + b"\n\n")], Ending.KEEP
            case FaultKind.WRONG_SCHEMA:
                data = b"data: " + json.dumps(NO_COMPLETION).encode() + b"\n\n"
                return [Event(data), Event(b"data: [DONE]\n\n")], Ending.KEEP
            case _:
                return list(events), Ending.KEEP


_CUTS = (FaultKind.CUT_BEFORE_FIRST_TOKEN, FaultKind.CUT_AFTER_FIRST_TOKEN)
_BREAKS = (*_CUTS, FaultKind.HANG_IN_BODY, FaultKind.SLOW_BODY, FaultKind.TRUNCATED_JSON)


def _later(script: Script, delay_s: float) -> Script:
    first, *rest = script.steps
    return replace(script, steps=(Step(first.data, first.delay_s + delay_s), *rest))


def _refusal(fault: Fault) -> Script:
    """Return an error status, with the time to come back if the fault has one."""
    status, code, message = REFUSALS[fault.kind]
    extra = {}
    if fault.retry_after_s is not None and fault.retry_after_as_date:
        extra["Retry-After"] = formatdate(math.ceil(time.time() + fault.retry_after_s), usegmt=True)
    elif fault.retry_after_s is not None:
        extra["Retry-After"] = f"{fault.retry_after_s:g}"
    kind = "invalid_request_error" if status == 400 else code
    return json_script(status, error_body(kind, code, message), extra)


def _joined(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps with those that need no wait joined to the one before: fewer writes."""
    groups: list[tuple[float, list[bytes]]] = []
    for step in steps:
        if groups and step.delay_s <= 0.0:
            groups[-1][1].append(step.data)
        else:
            groups.append((step.delay_s, [step.data]))
    return tuple(Step(b"".join(data), delay_s) for delay_s, data in groups)
