"""Which models can be asked now: a circuit breaker and a cool-down each; time is passed in."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

FAILURES_TO_OPEN = 3  # in a row
FIRST_BACKOFF_S = 1.0  # doubles with every probe that fails
MAX_BACKOFF_S = 30.0  # so that a model that has recovered is asked again within a minute
PROBE_EXPIRES_S = 30.0  # a probe nobody reported on does not keep its model away for longer
DOUBT_S = 10.0  # after which, at the latest, a model whose last call failed is asked once more
DEFAULT_COOLDOWN_S = 5.0  # for a 429 that does not say how long
MAX_COOLDOWN_S = 120.0


@dataclass(slots=True)
class _Record:
    failures: int = 0
    doubted_until: float = 0.0  # closed, and its last call failed
    backoff_s: float = 0.0
    open_until: float | None = None  # None: closed
    probing_until: float | None = None
    probes: int = 0  # in a row that failed
    cooling_until: float = 0.0
    rate_limits: int = 0  # in a row, without a word on how long

    def is_due(self, now: float) -> bool:
        """Return whether a call should find out if the model is back.

        It is open; or it failed a few times, and the learner has kept callers away since.
        """
        if self.open_until is not None:
            return True
        asked = self.probing_until is not None and self.probing_until > now
        return self.failures > 0 and not asked and now >= self.doubted_until

    def waits_until(self, now: float) -> float:
        """Return the time from which the model may be asked; not later than now if it may be."""
        until = self.cooling_until
        if self.open_until is not None:
            until = max(until, self.open_until)
            if self.probing_until is not None and self.probing_until > now:
                until = max(until, self.probing_until)
        return until


class ModelHealth:
    """Remembers how the calls of each model ended, and keeps callers away from those that fail.

    Closed: every call goes through. After `failures_to_open` failures in a row the model is open:
    no call goes through until its back-off is over, and then a single probe, whose success closes
    it. A closed model whose last call failed is asked once more when nobody has asked it for a
    while. A rate limit keeps callers away for as long as the provider asked, and is no failure.
    """

    def __init__(
        self,
        *,
        failures_to_open: int = FAILURES_TO_OPEN,
        first_backoff_s: float = FIRST_BACKOFF_S,
        max_backoff_s: float = MAX_BACKOFF_S,
    ) -> None:
        """Start with every model healthy."""
        self._failures_to_open = failures_to_open
        self._first_backoff_s = first_backoff_s
        self._max_backoff_s = max_backoff_s
        self._records: dict[str, _Record] = {}

    def allows(self, model: str, now: float) -> bool:
        """Return whether a call of this model may start now."""
        record = self._records.get(model)
        return record is None or record.waits_until(now) <= now

    def begin(self, model: str, now: float) -> bool:
        """Note that a call starts; True when it is the probe that finds out about a model."""
        record = self._records.get(model)
        if record is None or not record.is_due(now):
            return False
        record.probing_until = now + PROBE_EXPIRES_S
        return True

    def has_time(self, model: str) -> bool:
        """Return whether the next call may take its time: of an open model, every second may.

        A short probe holds up nobody for long, but a slow model would never pass one.
        """
        record = self._records.get(model)
        return record is None or record.open_until is None or record.probes % 2 == 1

    def succeeded(self, model: str) -> None:
        """Note an answer: the model is healthy."""
        record = self._records.get(model)
        if record is not None:
            self._records[model] = _Record(cooling_until=record.cooling_until)

    def failed(
        self, model: str, now: float, *, probe: bool = False, doubt_s: float = DOUBT_S
    ) -> bool:
        """Note a failure; True when it is news, False when the model was known to be down.

        After `doubt_s` the model is asked once more, whether or not anybody would choose it.
        """
        record = self._records.setdefault(model, _Record())
        if record.open_until is not None:
            if probe:
                record.probes += 1
                record.backoff_s = min(record.backoff_s * 2.0, self._max_backoff_s)
                record.open_until = now + record.backoff_s
                record.probing_until = None
            return False
        record.failures += 1
        record.doubted_until = now + min(doubt_s, DOUBT_S)
        record.probing_until = None
        if record.failures >= self._failures_to_open:
            record.backoff_s = self._first_backoff_s
            record.open_until = now + record.backoff_s
        return True

    def rate_limited(self, model: str, now: float, retry_after_s: float | None = None) -> None:
        """Keep callers away for as long as the provider asked, or a little longer each time."""
        record = self._records.setdefault(model, _Record())
        wait = retry_after_s
        if wait is None:
            wait = DEFAULT_COOLDOWN_S * 2.0 ** min(record.rate_limits, 10)
            record.rate_limits += 1
        record.cooling_until = max(record.cooling_until, now + min(wait, MAX_COOLDOWN_S))

    def abandoned(self, model: str) -> None:
        """Note that a probe ended without telling anything, so that another one may start."""
        record = self._records.get(model)
        if record is not None:
            record.probing_until = None

    def blocked(self, now: float, models: Collection[str] | None = None) -> dict[str, str]:
        """Return the models that should not be chosen now, each with its reason."""
        chosen = self._records if models is None else models
        return {
            model: self._reason(record, now)
            for model in chosen
            if (record := self._records.get(model)) is not None and record.waits_until(now) > now
        }

    def order(self, models: Iterable[str], now: float) -> list[str]:
        """Return the models to try, those due for a probe first; of all blocked, the soonest free.

        One call in each back-off goes to the probe; without it, nothing would notice a recovery.
        """
        listed = list(models)
        open_to_calls = [model for model in listed if self.allows(model, now)]
        if not open_to_calls:
            return sorted(listed, key=lambda m: self._records[m].waits_until(now))[:1]
        return sorted(open_to_calls, key=lambda m: not self._due(m, now))

    def _due(self, model: str, now: float) -> bool:
        record = self._records.get(model)
        return record is not None and record.is_due(now)

    def _reason(self, record: _Record, now: float) -> str:
        wait_s = record.waits_until(now) - now
        if record.cooling_until > now and record.cooling_until - now >= wait_s:
            return f"rate limited for another {wait_s:.1f} s"
        if record.open_until is not None and record.open_until <= now:
            return "failed repeatedly; one call finds out whether it is back"
        return f"failed repeatedly; asked again in {wait_s:.1f} s"
