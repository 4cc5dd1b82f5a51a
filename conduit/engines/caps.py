"""How many opinions of one user count: so many an hour, and no more than a fair share of all."""

from __future__ import annotations

from dataclasses import dataclass

from conduit.core.errors import InvalidInput, finite

WINDOW_S = 30 * 86_400.0  # within which a user's share is looked at
HOUR_S = 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpinionCounts:
    """How many opinions the log holds: of one user, and of everybody within the window."""

    within_hour: int = 0
    own: int = 0
    by_users: int = 0  # everybody's whose user is known
    users: int = 0  # how many users those are


@dataclass(frozen=True, slots=True, kw_only=True)
class OpinionLimits:
    """What one user's opinions may amount to; opinions without a user id are never limited.

    Within 30 days a user may give `free` opinions, or `times_average` as many as the average rater
    if that is more. So of many raters none holds more than three average shares of the evidence,
    one in a hundred of them together no more than three hundredths, and a team of three is never
    limited. None means no limit.
    """

    per_hour: int | None = 60
    times_average: float | None = 3.0
    free: int = 10

    def __post_init__(self) -> None:
        """Refuse limits that are no numbers."""
        if self.per_hour is not None and (not isinstance(self.per_hour, int) or self.per_hour < 1):
            raise InvalidInput("per_hour must be at least 1", field="per_hour")
        if self.times_average is not None:
            finite(self.times_average, "times_average", low=1.0)
        finite(self.free, "free", low=0)

    @property
    def unlimited(self) -> bool:
        """Return whether nothing is limited at all."""
        return self.per_hour is None and self.times_average is None

    def exceeded(self, counts: OpinionCounts) -> str | None:
        """Return which limit one more opinion would break, None where it breaks none.

        >>> OpinionLimits().exceeded(OpinionCounts(within_hour=60))
        'per_hour'
        >>> OpinionLimits().exceeded(OpinionCounts(own=12, by_users=4_000, users=1_000))
        'share'
        """
        if self.per_hour is not None and counts.within_hour >= self.per_hour:
            return "per_hour"
        if self.times_average is None:
            return None
        average = counts.by_users / max(counts.users, 1)
        fair = max(self.free, self.times_average * average)
        return "share" if counts.own >= fair else None


__all__ = ["HOUR_S", "WINDOW_S", "OpinionCounts", "OpinionLimits"]
