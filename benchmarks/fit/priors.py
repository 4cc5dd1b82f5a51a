"""How far the catalogue's scale is from measured quality: Arena ratings beside graded answers.

    python -m benchmarks.fit.priors

For each table, its models' mean graded quality is compared with the prior that their Arena rating
gives. The level differs by task (share of votes is not accuracy), and no choice between models
depends on it, so the distance is taken after removing the mean of either side.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks import windows
from benchmarks.fit.catalogue import quality
from benchmarks.tables import DATA, raw

# model in the tables: its rating on the leaderboard that `catalogue_facts.SOURCES["arena"]` names
RATINGS = {
    "gemini-1.5-pro-002": 1351,
    "gemini-1.5-flash-002": 1309,
    "Meta-Llama-3_1-70B-Instruct": 1293,
    "Meta-Llama-3_1-8B-Instruct": 1211,
    "jamba-1.5-large": 1289,
    "Qwen1.5-110B": 1234,
    "Qwen1.5-72B-Chat": 1234,
    "Qwen1.5-7B-Chat": 1144,
    "Mixtral-8x7B-Instruct-v0.1": 1197,
    "Mistral-7B-Instruct-v0.2": 1149,
    "Phi-3-mini-4k-instruct": 1128,
    "c4ai-command-r-v01": 1227,
    "gemma-7b": 1138,
    "llama-3.1-nemotron-51b-instruct": 1287,
    "llama-3.3-nemotron-super-49b-v1": 1328,
    "gemma-2-9b-it": 1267,
    "llama-3.1-8b-instruct": 1211,
    "gpt-4-1106-preview": 1313,
    "mixtral-8x7b-instruct-v0.1": 1197,
    "google/gemini-2.5-pro": 1445,
    "google/gemini-2.5-flash": 1409,
    "mistralai/mistral-large-2512": 1414,
    "meta-llama/llama-3.1-8b-instruct": 1211,
}
TABLES = ("mmlu_pro", "llmrouter9", "routellm_mmlu", "routellm_gsm8k", "paretobandit_k4")


def distances(name: str) -> NDArray[np.float64]:
    """Return prior minus measured quality of a table's rated models, either side centred."""
    table = raw(name)
    rated = [k for k, model in enumerate(table.models) if model in RATINGS]
    prior = np.array([quality(RATINGS[table.models[k]]) for k in rated])
    measured = np.nanmean(table.quality, axis=0)[rated]
    apart: NDArray[np.float64] = (prior - prior.mean()) - (measured - measured.mean())
    print(
        f"{name:16} {len(rated):2} models  rmse {np.sqrt(np.mean(apart**2)):.3f}"
        f"  worst {np.abs(apart).max():.3f}  r {np.corrcoef(prior, measured)[0, 1]:+.2f}"
        f"  level {prior.mean() - measured.mean():+.3f}"
    )
    return apart


def main() -> int:
    """Print the distance on each table and over all of them."""
    windows.asked(__doc__)
    if not DATA.is_dir():
        print(f"no tables in {DATA}")
        return 0
    apart = np.concatenate([distances(name) for name in TABLES])
    print(f"all              {apart.size:2} models  rmse {np.sqrt(np.mean(apart**2)):.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
