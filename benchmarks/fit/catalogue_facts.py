"""The facts of the catalogue that are kept by hand: each number with the page it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SOURCES: dict[str, dict[str, str | None]] = {
    "arena": {
        "title": "Arena (formerly LMArena), text leaderboard, style control, all prompts",
        "url": "https://arena.ai/leaderboard/text",
        "date": "2026-10-08",
        "read": "https://github.com/aabao325/arena-ai-leaderboards data/2026-10-10/text.json",
    },
    "arena-listing": {
        "title": "Context lengths listed beside the Arena ratings",
        "url": "https://arena.ai/leaderboard/text",
        "date": "2026-10-08",
        "read": "https://github.com/aabao325/arena-ai-leaderboards data/2026-10-10/text.json",
    },
    "genai-prices": {
        "title": "genai-prices, the data in the package",
        "url": "https://github.com/pydantic/genai-prices",
        "date": None,
        "read": None,
    },
    "groq-docs": {
        "title": "GroqCloud, supported models: speed and context window",
        "url": "https://console.groq.com/docs/models",
        "date": "2026-10-01",
        "read": None,
    },
    "krabarena-groq": {
        "title": "Krabarena, warm time to first token of fast hosts",
        "url": "https://krabarena.org/claims/592e1fd1-27a7-4326-8c0f-b0de58f6ef54",
        "date": None,
        "read": None,
    },
    "llmprobe-15": {
        "title": "TTFT varies 13x across LLM providers (hourly probes through OpenRouter)",
        "url": "https://www.jonathanwrede.de/en/blog/ttft-varies-13x-across-llm-providers/",
        "date": None,
        "read": None,
    },
    "llmprobe-6": {
        "title": "I monitored 6 LLM APIs for 7 days (60,480 probes through OpenRouter)",
        "url": "https://jonathanwrede.de/en/blog/i-monitored-6-llm-apis-for-7-days/",
        "date": None,
        "read": None,
    },
    "lmsys-chat-1m": {
        "title": "LMSYS-Chat-1M, table 1: 214.5 tokens per response on average",
        "url": "https://arxiv.org/abs/2309.11998",
        "date": "2023-09-21",
        "read": None,
    },
    "paretobandit": {
        "title": "ParetoBandit, rewards/{val,test}_k4.jsonl: mean output tokens by the API's cost",
        "url": "https://github.com/ParetoBandit/ParetoBandit",
        "date": "2026-04-13",
        "read": None,
    },
}

# A rating r becomes the share of blind votes that the model would win against the reference:
# 1 / (1 + 10 ** ((REFERENCE - r) / 400)), the Bradley-Terry meaning of the Arena's scale.
REFERENCE_MODEL, REFERENCE_RATING = "gpt-3.5-turbo-0125", 1226

# row of the leaderboard: rating, half of its 95 % interval, votes
ARENA: dict[str, tuple[int, int, int]] = {
    "amazon-nova-lite-v1.0": (1260, 5, 19372),
    "amazon-nova-micro-v1.0": (1241, 5, 19364),
    "amazon-nova-pro-v1.0": (1290, 5, 24745),
    "c4ai-aya-expanse-32b": (1267, 5, 27124),
    "claude-fable-5-high": (1504, 4, 40026),
    "claude-fable-5.1-max": (1501, 6, 13063),
    "claude-haiku-4-5-20251001": (1414, 2, 146351),
    "claude-opus-4-1-20250805": (1448, 3, 77252),
    "claude-opus-4-5-20251101": (1470, 3, 72952),
    "claude-opus-4-6": (1498, 3, 84095),
    "claude-opus-4-7": (1494, 4, 66315),
    "claude-opus-4-8": (1474, 4, 65259),
    "claude-opus-5-high": (1490, 4, 62934),
    "claude-opus-5.5-high": (1507, 8, 6272),
    "claude-sonnet-4-5-20250929": (1455, 3, 82735),
    "claude-sonnet-4-6": (1472, 4, 70971),
    "claude-sonnet-5-high": (1461, 4, 47576),
    "claude-sonnet-5.5-xhigh": (1476, 9, 4838),
    "command-a-03-2025": (1354, 3, 55769),
    "command-r-08-2024": (1250, 7, 10140),
    "command-r-plus-08-2024": (1276, 7, 9866),
    "deepseek-r1": (1398, 5, 18524),
    "deepseek-v3.2": (1425, 3, 48114),
    "deepseek-v4-pro": (1458, 4, 57657),
    "gemini-2.5-flash": (1409, 2, 125562),
    "gemini-2.5-flash-lite-preview-09-2025-no-thinking": (1379, 3, 47445),
    "gemini-2.5-pro": (1445, 2, 125379),
    "gemini-3-flash": (1473, 4, 31337),
    "gemini-3.1-flash-lite-preview": (1433, 4, 64257),
    "gemini-3.1-pro-preview": (1487, 3, 124675),
    "gemini-3.5-flash-lite": (1455, 4, 35892),
    "gemini-3.5-flash-medium": (1476, 4, 47339),
    "gemini-3.6-flash-high": (1482, 4, 36172),
    "gemini-3.7-flash-high": (1486, 5, 24173),
    "gemini-3.8-flash-high": (1497, 5, 31437),
    "gemini-4-argon-high": (1525, 9, 4892),
    "gemma-3-12b-it": (1342, 10, 3829),
    "gemma-3-27b-it": (1365, 4, 46672),
    "gemma-3-4b-it": (1303, 9, 4171),
    "glm-5.3-flash": (1475, 5, 27678),
    "glm-5.3-max": (1478, 5, 20049),
    "gpt-3.5-turbo-0125": (1226, 5, 66207),
    "gpt-4.1-2025-04-14": (1415, 4, 50314),
    "gpt-4.1-mini-2025-04-14": (1383, 4, 38709),
    "gpt-4.1-nano-2025-04-14": (1322, 8, 6103),
    "gpt-4o-2024-08-06": (1336, 4, 45499),
    "gpt-4o-mini-2024-07-18": (1318, 4, 68705),
    "gpt-5-high": (1435, 5, 31723),
    "gpt-5-mini-high": (1390, 5, 26810),
    "gpt-5-nano-high": (1337, 7, 8140),
    "gpt-5.1": (1439, 4, 44441),
    "gpt-5.2": (1435, 3, 83928),
    "gpt-5.4": (1465, 4, 67932),
    "gpt-5.4-mini-high": (1447, 4, 63493),
    "gpt-5.4-nano-high": (1401, 4, 62468),
    "gpt-5.5": (1477, 4, 71047),
    "gpt-5.6-luna-xhigh": (1452, 4, 40917),
    "gpt-5.6-sol-xhigh": (1485, 4, 38490),
    "gpt-5.6-terra-xhigh": (1466, 4, 40278),
    "gpt-6-astra-max": (1475, 7, 10536),
    "gpt-6-luna-max": (1443, 5, 28632),
    "gpt-6-sol-max": (1456, 7, 10469),
    "gpt-6.1-sol-max": (1484, 9, 4512),
    "gpt-oss-120b": (1352, 4, 30218),
    "gpt-oss-20b": (1317, 6, 10418),
    "llama-3.1-70b-instruct": (1293, 4, 55240),
    "llama-3.1-8b-instruct": (1211, 4, 49605),
    "llama-3.2-1b-instruct": (1111, 8, 8045),
    "llama-3.2-3b-instruct": (1167, 8, 7936),
    "llama-3.3-70b-instruct": (1318, 4, 54504),
    "llama-4-maverick-17b-128e-instruct": (1327, 4, 39453),
    "mistral-large-3": (1414, 3, 81759),
    "mistral-large-4": (1429, 9, 4179),
    "mistral-medium-2508": (1408, 3, 95354),
    "mistral-medium-3.5": (1426, 6, 11803),
    "nova-2-lite": (1335, 6, 12417),
    "o3-2025-04-16": (1432, 4, 58913),
    "o3-mini": (1348, 4, 56750),
    "o4-mini-2025-04-16": (1391, 4, 44858),
    "phi-4": (1256, 5, 24126),
    "qwen2.5-72b-instruct": (1303, 4, 39406),
    "qwen3-235b-a22b": (1375, 5, 25953),
    "qwen3-235b-a22b-instruct-2507": (1422, 3, 98167),
    "qwen3-32b": (1347, 9, 3926),
    "qwen3.8-27b": (1438, 5, 20711),
}

# Expected tokens of an answer, reasoning included. Only three models have a figure of their own;
# the others take the mean of a large chat log, or Gemini 2.5 Pro's when they reason unasked.
OUTPUT_TOKENS = {
    "plain": (215, "lmsys-chat-1m"),
    "thinks": (1471, "paretobandit"),
    "gemini-2.5-flash": (334, "paretobandit"),
    "mistral-large-2512": (301, "paretobandit"),
}

# seconds to the first token, tokens per second after it. Speeds from a 20-token probe are not
# stretched over an answer that reasons for 1,471 tokens: those models have no latency here.
SPEED: dict[str, tuple[float, float, tuple[str, ...]]] = {
    "anthropic:claude-opus-4-6": (1.709, 70.4, ("llmprobe-15",)),
    "anthropic:claude-opus-4-7": (2.494, 94.9, ("llmprobe-15",)),
    "anthropic:claude-sonnet-4-6": (2.120, 44.3, ("llmprobe-15",)),
    "google:gemini-2.5-flash": (0.412, 235.6, ("llmprobe-15",)),
    "google:gemini-2.5-flash-lite": (0.321, 191.9, ("llmprobe-15",)),
    "groq:llama-3.1-8b-instant": (0.157, 560.0, ("krabarena-groq", "groq-docs")),
    "groq:llama-3.3-70b-versatile": (0.163, 280.0, ("krabarena-groq", "groq-docs")),
    "groq:openai/gpt-oss-120b": (0.318, 500.0, ("krabarena-groq", "groq-docs")),
    "groq:openai/gpt-oss-20b": (0.223, 1000.0, ("krabarena-groq", "groq-docs")),
    "openai:gpt-4o-mini": (0.645, 105.3, ("llmprobe-6",)),
    "openai:gpt-5.4": (0.912, 44.8, ("llmprobe-15",)),
}


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue as it is kept by hand."""

    name: str
    arena: str | None = None
    thinks: bool = False  # reasons unasked, so its answers are long
    start: bool = False  # in the set a provider's key starts with
    aliases: tuple[str, ...] = ()
    context: tuple[int, str] | None = None  # where genai-prices has none: tokens, source


def entry(name: str, arena: str | None = None, *aliases: str, **rest: Any) -> Entry:
    """Write an entry with its aliases in one line."""
    return Entry(name, arena, aliases=aliases, **rest)


MODELS: dict[str, list[Entry]] = {
    "openai": [
        entry("gpt-6-astra", "gpt-6-astra-max", thinks=True),
        entry("gpt-6.1-sol", "gpt-6.1-sol-max", thinks=True, start=True),
        entry("gpt-6.1-terra", None, thinks=True, start=True),
        entry("gpt-6-sol", "gpt-6-sol-max", thinks=True),
        entry("gpt-6-luna", "gpt-6-luna-max", thinks=True, start=True),
        entry("gpt-5.6-sol", "gpt-5.6-sol-xhigh", thinks=True),
        entry("gpt-5.6-terra", "gpt-5.6-terra-xhigh", thinks=True),
        entry("gpt-5.6-luna", "gpt-5.6-luna-xhigh", thinks=True),
        entry("gpt-5.5", "gpt-5.5", thinks=True),
        entry("gpt-5.4", "gpt-5.4"),
        entry("gpt-5.4-mini", "gpt-5.4-mini-high", "gpt-5.4-mini-2026-03-17"),
        entry("gpt-5.4-nano", "gpt-5.4-nano-high", "gpt-5.4-nano-2026-03-17"),
        entry("gpt-5.2", "gpt-5.2", "gpt-5.2-2025-12-11"),
        entry("gpt-5.1", "gpt-5.1", "gpt-5.1-2025-11-13"),
        entry("gpt-5", "gpt-5-high", "gpt-5-2025-08-07", thinks=True),
        entry("gpt-5-mini", "gpt-5-mini-high", "gpt-5-mini-2025-08-07", thinks=True),
        entry("gpt-5-nano", "gpt-5-nano-high", "gpt-5-nano-2025-08-07", thinks=True),
        entry("gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-2025-04-14"),
        entry("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", "gpt-4.1-mini-2025-04-14"),
        entry("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14", "gpt-4.1-nano-2025-04-14"),
        entry("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"),
        entry("gpt-4o-mini", "gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
        entry("o3", "o3-2025-04-16", "o3-2025-04-16", thinks=True),
        entry("o4-mini", "o4-mini-2025-04-16", "o4-mini-2025-04-16", thinks=True),
        entry("o3-mini", "o3-mini", "o3-mini-2025-01-31", thinks=True),
        entry("gpt-3.5-turbo", "gpt-3.5-turbo-0125", "gpt-3.5-turbo-0125"),
    ],
    "anthropic": [
        entry("claude-fable-5-2"),
        entry("claude-fable-5-1", "claude-fable-5.1-max"),
        entry("claude-fable-5", "claude-fable-5-high"),
        entry("claude-opus-5-5", "claude-opus-5.5-high", "claude-opus-5.5", start=True),
        entry("claude-opus-5", "claude-opus-5-high"),
        entry("claude-opus-4-8", "claude-opus-4-8"),
        entry("claude-opus-4-7", "claude-opus-4-7"),
        entry("claude-opus-4-6", "claude-opus-4-6"),
        entry("claude-opus-4-5", "claude-opus-4-5-20251101", "claude-opus-4-5-20251101"),
        entry("claude-opus-4-1", "claude-opus-4-1-20250805", "claude-opus-4-1-20250805"),
        entry("claude-sonnet-5-5", "claude-sonnet-5.5-xhigh", "claude-sonnet-5.5", start=True),
        entry("claude-sonnet-5", "claude-sonnet-5-high"),
        entry("claude-sonnet-4-6", "claude-sonnet-4-6"),
        entry("claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-20250929"),
        entry("claude-haiku-5-5", None, "claude-haiku-5.5", start=True),
        entry(
            "claude-haiku-4-5",
            "claude-haiku-4-5-20251001",
            "claude-haiku-4-5-20251001",
            start=True,
        ),
    ],
    "google": [
        entry("gemini-4-argon", "gemini-4-argon-high", thinks=True, start=True),
        entry(
            "gemini-3.8-flash",
            "gemini-3.8-flash-high",
            "gemini-flash-latest",
            thinks=True,
            start=True,
        ),
        entry("gemini-3.7-flash", "gemini-3.7-flash-high", thinks=True),
        entry("gemini-3.6-flash", "gemini-3.6-flash-high", thinks=True),
        entry("gemini-3.5-flash", "gemini-3.5-flash-medium", thinks=True),
        entry("gemini-3.5-flash-lite", "gemini-3.5-flash-lite", start=True),
        entry(
            "gemini-3.1-pro-preview",
            "gemini-3.1-pro-preview",
            thinks=True,
            context=(1_000_000, "arena-listing"),
        ),
        entry("gemini-3.1-flash-lite", "gemini-3.1-flash-lite-preview"),
        entry("gemini-3-flash-preview", "gemini-3-flash", thinks=True),
        entry(
            "gemini-2.5-pro", "gemini-2.5-pro", thinks=True, context=(1_000_000, "arena-listing")
        ),
        entry("gemini-2.5-flash", "gemini-2.5-flash"),
        entry(
            "gemini-2.5-flash-lite",
            "gemini-2.5-flash-lite-preview-09-2025-no-thinking",
            start=True,
        ),
    ],
    "groq": [
        entry("openai/gpt-oss-120b", "gpt-oss-120b", thinks=True, start=True),
        entry("openai/gpt-oss-20b", "gpt-oss-20b", thinks=True, start=True),
        entry("qwen/qwen3.8-27b", "qwen3.8-27b", start=True),
        entry("llama-3.3-70b-versatile", "llama-3.3-70b-instruct", context=(131_072, "groq-docs")),
        entry("llama-3.1-8b-instant", "llama-3.1-8b-instruct", context=(131_072, "groq-docs")),
    ],
    "mistral": [
        entry("mistral-large-4", "mistral-large-4", "mistral-large-4-0", start=True),
        entry("mistral-medium-3-5", "mistral-medium-3.5", "mistral-medium-3.5", start=True),
        entry("mistral-large-2512", "mistral-large-3"),
        entry("mistral-medium-2508", "mistral-medium-2508"),
        entry("mistral-small-2603", None, "mistral-small-latest", start=True),
        entry("ministral-14b-2512"),
        entry("ministral-8b-2512", None, start=True),
        entry("ministral-3b-2512"),
        entry("codestral-2508"),
    ],
    "cohere": [
        entry(
            "command-a-03-2025",
            "command-a-03-2025",
            start=True,
            context=(256_000, "arena-listing"),
        ),
        entry(
            "command-r-plus-08-2024",
            "command-r-plus-08-2024",
            context=(128_000, "arena-listing"),
        ),
        entry(
            "command-r-08-2024",
            "command-r-08-2024",
            start=True,
            context=(128_000, "arena-listing"),
        ),
        entry("command-r7b-12-2024", None, start=True),
        entry("c4ai-aya-expanse-32b", "c4ai-aya-expanse-32b"),
    ],
    "bedrock": [
        entry("global.anthropic.claude-opus-5-5", "claude-opus-5.5-high"),
        entry("global.anthropic.claude-opus-5", "claude-opus-5-high"),
        entry("us.anthropic.claude-opus-5", "claude-opus-5-high"),
        entry("global.anthropic.claude-sonnet-5-5", "claude-sonnet-5.5-xhigh"),
        entry("global.anthropic.claude-sonnet-5", "claude-sonnet-5-high", start=True),
        entry("us.anthropic.claude-sonnet-5", "claude-sonnet-5-high"),
        entry("global.anthropic.claude-haiku-5-5"),
        entry(
            "global.anthropic.claude-haiku-4-5-20251001-v1:0",
            "claude-haiku-4-5-20251001",
            start=True,
        ),
        entry("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5-20251001"),
        entry("global.amazon.nova-2-lite-v1:0", "nova-2-lite", start=True),
        entry("amazon.nova-premier-v1:0", None, "us.amazon.nova-premier-v1:0"),
        entry("amazon.nova-pro-v1:0", "amazon-nova-pro-v1.0", "us.amazon.nova-pro-v1:0"),
        entry("amazon.nova-lite-v1:0", "amazon-nova-lite-v1.0", "us.amazon.nova-lite-v1:0"),
        entry(
            "amazon.nova-micro-v1:0",
            "amazon-nova-micro-v1.0",
            "us.amazon.nova-micro-v1:0",
            start=True,
        ),
        entry("openai.gpt-oss-120b-1:0", "gpt-oss-120b", thinks=True),
        entry("openai.gpt-oss-20b-1:0", "gpt-oss-20b", thinks=True),
        entry("deepseek.r1-v1:0", "deepseek-r1", "us.deepseek.r1-v1:0", thinks=True),
        entry("mistral.mistral-large-3-675b-instruct", "mistral-large-3"),
        entry("qwen.qwen3-32b-v1:0", "qwen3-32b"),
        entry(
            "meta.llama4-maverick-17b-instruct-v1:0",
            "llama-4-maverick-17b-128e-instruct",
            "us.meta.llama4-maverick-17b-instruct-v1:0",
        ),
        entry(
            "meta.llama3-3-70b-instruct-v1:0",
            "llama-3.3-70b-instruct",
            "us.meta.llama3-3-70b-instruct-v1:0",
        ),
        entry(
            "meta.llama3-1-70b-instruct-v1:0",
            "llama-3.1-70b-instruct",
            "us.meta.llama3-1-70b-instruct-v1:0",
        ),
        entry(
            "meta.llama3-1-8b-instruct-v1:0",
            "llama-3.1-8b-instruct",
            "us.meta.llama3-1-8b-instruct-v1:0",
        ),
    ],
    "huggingface": [
        entry("zai-org/GLM-5.3", "glm-5.3-max", thinks=True, start=True),
        entry("zai-org/GLM-5.3-Flash", "glm-5.3-flash"),
        entry("deepseek-ai/DeepSeek-V4-Pro", "deepseek-v4-pro"),
        entry("deepseek-ai/DeepSeek-V3.2", "deepseek-v3.2"),
        entry("deepseek-ai/DeepSeek-R1", "deepseek-r1", thinks=True),
        entry("Qwen/Qwen3.8-27B", "qwen3.8-27b"),
        entry("Qwen/Qwen3-235B-A22B-Instruct-2507", "qwen3-235b-a22b-instruct-2507"),
        entry("Qwen/Qwen3-235B-A22B", "qwen3-235b-a22b", thinks=True),
        entry("Qwen/Qwen3-32B", "qwen3-32b", thinks=True),
        entry("Qwen/Qwen2.5-72B-Instruct", "qwen2.5-72b-instruct"),
        entry("openai/gpt-oss-120b", "gpt-oss-120b", thinks=True),
        entry("openai/gpt-oss-20b", "gpt-oss-20b", thinks=True, start=True),
        entry("google/gemma-3-27b-it", "gemma-3-27b-it"),
        entry("meta-llama/Llama-3.3-70B-Instruct", "llama-3.3-70b-instruct", start=True),
        entry("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
    ],
    "ollama": [
        entry("gpt-oss:120b", "gpt-oss-120b", thinks=True),
        entry("gpt-oss:20b", "gpt-oss-20b", "gpt-oss", "gpt-oss:latest", thinks=True, start=True),
        entry("llama3.3:70b", "llama-3.3-70b-instruct", "llama3.3", "llama3.3:latest"),
        entry("qwen3:32b", "qwen3-32b", thinks=True),
        entry("gemma3:27b", "gemma-3-27b-it"),
        entry("gemma3:12b", "gemma-3-12b-it"),
        entry("gemma3:4b", "gemma-3-4b-it", "gemma3", "gemma3:latest", start=True),
        entry("phi4:14b", "phi-4", "phi4", "phi4:latest"),
        entry("llama3.1:8b", "llama-3.1-8b-instruct", "llama3.1", "llama3.1:latest", start=True),
        entry("llama3.2:3b", "llama-3.2-3b-instruct", "llama3.2", "llama3.2:latest"),
        entry("llama3.2:1b", "llama-3.2-1b-instruct"),
    ],
}
