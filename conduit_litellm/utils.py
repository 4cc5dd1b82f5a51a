"""Reading what LiteLLM's routers hold: deployments, and the text of a request."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conduit.core.models import MAX_TEXT_CHARS

Deployment = Mapping[str, Any]

NO_TEXT = "(no text)"  # what is routed when a request holds an image alone, or nothing
KEPT_CHARS = MAX_TEXT_CHARS // 2  # of the beginning and of the end of a longer text


def extract_model_ids(model_list: Iterable[Deployment]) -> list[str]:
    """Return the id of each deployment of a model list, in its order.

    `router.model_list` (since LiteLLM 1.109 `router.registry().all()`) has them all; in a list that
    no router has seen, a deployment without `model_info.id` is named by its LiteLLM model.

    >>> extract_model_ids([{"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o"}}])
    ['openai/gpt-4o']
    """
    return [deployment_id(d) or str(d["litellm_params"]["model"]) for d in model_list]


def deployment_id(deployment: Deployment) -> str | None:
    """Return the id that the user gave a deployment, or that LiteLLM did."""
    found = (deployment.get("model_info") or {}).get("id")
    return None if found is None else str(found)


def text_of(messages: object, given: object) -> str:
    """Return the text that a request is routed by: the last question, else all there is.

    `messages` are those of a chat; `given` is the input of any other call (texts, or tokens).
    """
    text = _question(messages) or _texts(given) or NO_TEXT
    return text if len(text) <= MAX_TEXT_CHARS else text[:KEPT_CHARS] + text[-KEPT_CHARS:]


def _question(messages: object) -> str:
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return messages if isinstance(messages, str) else ""
    read = [m for m in messages if isinstance(m, Mapping)]
    for message in reversed(read):
        if message.get("role") == "user" and (text := _texts(message.get("content"))):
            return text
    return "\n".join(filter(None, (_texts(m.get("content")) for m in read)))


def _texts(content: object) -> str:
    """Return the texts within content: a string, a list of strings or of typed parts."""
    if isinstance(content, str):
        return content if content.strip() else ""
    if isinstance(content, Mapping):
        return _texts(content.get("text") or content.get("content"))
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "\n".join(filter(None, map(_texts, content)))
    return ""


__all__ = ["Deployment", "deployment_id", "extract_model_ids", "text_of"]
