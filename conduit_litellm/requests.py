"""What is read in a LiteLLM request, and what is noted in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from conduit.core.models import Preferences, Query
from conduit_litellm.feedback import DECISION_ID
from conduit_litellm.utils import Deployment


def group_of(group: str, healthy: Sequence[Deployment]) -> str:
    """Return the group's own name where the request used an alias or a pattern."""
    names = {d.get("model_name") for d in healthy}
    return str(names.pop()) if len(names) == 1 else group


def query_of(text: str, request_kwargs: Mapping[str, Any] | None) -> Query:
    """Return what is routed; `conduit_task` and `conduit_preferences` in metadata are heeded."""
    given = request_kwargs or {}
    metadata = given.get("metadata") or given.get("litellm_metadata")
    said = metadata if isinstance(metadata, Mapping) else {}
    user, task = given.get("user"), said.get("conduit_task")
    wanted = said.get("conduit_preferences")
    return Query(
        text=text,
        user_id=str(user) if user else None,
        task=str(task) if task else None,
        preferences=None if wanted is None else Preferences.of(wanted),
    )


def note_in_metadata(request_kwargs: dict[str, Any] | None, decision_id: str) -> None:
    """Let the user's own callbacks see the decision where LiteLLM keeps a request's metadata."""
    if request_kwargs is None:
        return
    name = "litellm_metadata" if "litellm_metadata" in request_kwargs else "metadata"
    metadata = request_kwargs.setdefault(name, {})
    if isinstance(metadata, dict):
        metadata[DECISION_ID] = decision_id


__all__ = ["group_of", "note_in_metadata", "query_of"]
