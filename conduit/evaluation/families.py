"""Which models are kin: a judge is kinder to answers of its own family."""

from __future__ import annotations

import re
from typing import Final

# What a name begins with, and whose family that is; the longest beginning decides.
_BEGINNINGS: Final = {
    "openai": ("gpt", "chatgpt", "text-davinci", "davinci", "o1", "o3", "o4", "codex"),
    "anthropic": ("claude",),
    "google": ("gemini", "gemma", "palm", "text-bison", "chat-bison"),
    "meta": ("llama", "meta-llama", "codellama"),
    "mistral": (
        "mistral", "mixtral", "ministral", "codestral", "devstral", "magistral", "pixtral",
        "open-mistral", "open-mixtral",
    ),
    "qwen": ("qwen", "qwq", "qvq"),
    "deepseek": ("deepseek",),
    "cohere": ("command", "c4ai", "aya"),
    "xai": ("grok",),
    "amazon": ("nova", "amazon.nova", "titan"),
    "microsoft": ("phi", "wizardlm"),
    "moonshot": ("kimi", "moonshot"),
    "zhipu": ("glm", "chatglm"),
}  # fmt: skip
_FAMILIES: Final = sorted(
    ((start, family) for family, starts in _BEGINNINGS.items() for start in starts),
    key=lambda pair: -len(pair[0]),
)
# Sizes and versions: what tells members of one family apart.
_MEMBER: Final = re.compile(
    r"(?:v?\d+(?:\.\d+)*[bkm]?|\d+x\d+b|tiny|nano|micro|mini|lite|small|medium|large|xl|xxl|big|huge"
    r"|pro|plus|max|ultra|turbo|flash|fast|base|chat|instruct|it|latest|preview|beta|exp)"
)


def family(model_id: str) -> str:
    """Return the family of a model: a known vendor's name, else the name without size and version.

    >>> family("openai:gpt-4o-mini") == family("azure/gpt-5") == family("o3-mini")
    True
    >>> family("bedrock:us.anthropic.claude-haiku-4-5"), family("acme-large-2"), family("small")
    ('anthropic', 'acme', 'small')
    """
    name = re.split(r"[:/]", model_id.strip().casefold())[-1] or model_id.casefold()
    for start, whose in _FAMILIES:
        if re.search(rf"(?:^|\.){re.escape(start)}(?![a-z])", name):
            return whose
    words = re.split(r"[-_ ]+", name)
    while len(words) > 1 and _MEMBER.fullmatch(words[-1]):
        words.pop()
    return "-".join(words)


__all__ = ["family"]
