"""The world of the demo: simulated models whose every answer and price is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from conduit.core.models import ModelArm, Preferences, Response
from conduit.engines.executor.base import Answer, FunctionExecutor
from conduit.evaluation.replay import Mix, static_mix
from conduit.testing.local_provider import Question, SimulatedModel, arm_of, provider_questions
from conduit.testing.provider_answers import Completion, Turn, ask_from, compose

Floats = NDArray[np.float64]

SIMULATED = (
    "The models are simulated. Their answers, skills and prices are made up for this demo, so the "
    "figures show how Conduit learns, and nothing about any real model."
)
PREFERENCES = Preferences(quality=0.8, cost=0.2, latency=0.0)
RATED_EVERY = 5  # one answer in five gets a rating, as users would give it

# The cheap are good at something, the dear at everything: there is something to learn.
MODELS: tuple[SimulatedModel, ...] = tuple(
    replace(model, output_tokens=(40, 160))
    for model in (
        SimulatedModel(
            "sim-nano", 0.05, 0.20, {"sentiment": 0.95, "extraction": 0.95, "choice": 0.9, "*": 0.3}
        ),
        SimulatedModel(
            "sim-small", 0.15, 0.60, {"capitals": 0.95, "translation": 0.95, "dates": 0.9, "*": 0.4}
        ),
        SimulatedModel(
            "sim-code",
            0.60,
            2.40,
            {"code": 0.97, "arithmetic": 0.97, "units": 0.95, "reversal": 0.95, "*": 0.45},
        ),
        SimulatedModel("sim-large", 2.50, 10.0, 0.8),
        SimulatedModel("sim-frontier", 10.0, 40.0, 0.95),
    )
)
NAMES: tuple[str, ...] = tuple(model.name for model in MODELS)


@dataclass(frozen=True, eq=False)
class World:
    """The questions in their order, and what every model would answer to each, at what price."""

    questions: tuple[Question, ...]
    quality: Floats  # (questions, models): 1 where the answer would be right
    cost_usd: Floats  # (questions, models)
    calibration: tuple[Question, ...] = ()  # others, which every model answers before

    def utility(self, quality: Floats, cost_usd: Floats) -> Floats:
        """Return quality less what its price is worth, as the router is asked to weigh them."""
        scale = float(self.cost_usd.mean(axis=0).max())
        return np.asarray(quality - PREFERENCES.cost / PREFERENCES.quality * cost_usd / scale)

    @property
    def best_single(self) -> int:
        """Return the model with the highest mean utility, which is known only afterwards."""
        return int(self.utility(self.quality, self.cost_usd).mean(axis=0).argmax())

    @property
    def cheapest(self) -> int:
        """Return the model with the lowest price."""
        return int(np.argmin([model.output_usd_per_mtok for model in MODELS]))

    @property
    def strongest(self) -> int:
        """Return the model with the best reputation: what most people use for everything."""
        return int(np.argmax([arm.quality or 0.0 for arm in arms()]))

    def mix(self, cost_usd: float) -> Mix:
        """Return the best blind mix of two models that costs as much per query."""
        return static_mix(NAMES, self.quality.mean(axis=0), self.cost_usd.mean(axis=0), cost_usd)


def make_world(queries: int, seed: int, calibration: int = 0) -> World:
    """Return a world of so many questions, ten topics in random order."""
    questions = provider_questions(n=queries + calibration, seed=seed)
    order = np.random.default_rng(seed).permutation(len(questions))
    shuffled = tuple(questions[k] for k in order)
    asked = shuffled[calibration:]
    quality = np.zeros((queries, len(MODELS)))
    cost_usd = np.zeros_like(quality)
    for i, question in enumerate(asked):
        for k, model in enumerate(MODELS):
            said, tokens = answer_of(model, question.prompt, seed)
            quality[i, k] = question.grade(said.content)
            cost_usd[i, k] = model.usd(tokens, said.output_tokens)
    return World(asked, quality, cost_usd, shuffled[:calibration])


def answer_of(model: SimulatedModel, prompt: str, seed: int) -> tuple[Completion, int]:
    """Return what a model says to a prompt, and how many tokens the prompt has."""
    ask = ask_from([Turn("user", prompt)], model=model.name)
    return compose(model, ask, seed), ask.input_tokens


def arms(base_url: str | None = None) -> list[ModelArm]:
    """Return the models as a user would name them: price, reputation, and where they are."""
    return [arm_of(model, base_url) for model in MODELS]


def executor_without_http(seed: int) -> FunctionExecutor:
    """Return an executor that answers as the provider would, within this process."""
    known = {model.name: model for model in MODELS}

    def answered(name: str, prompt: str) -> Answer[str]:
        model = known[name]
        said, tokens = answer_of(model, prompt, seed)
        text = said.content or ""
        response = Response(
            model=name,
            text=text,
            cost_usd=model.usd(tokens, said.output_tokens),
            input_tokens=tokens,
            output_tokens=said.output_tokens,
            output_valid=True,
        )
        return Answer(data=text, response=response)

    return FunctionExecutor(answered)


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to choose, and what it brought: the means over all queries."""

    name: str
    quality: float
    cost_usd: float  # of all queries together
    utility: float


def fixed(world: World, name: str, k: int) -> Strategy:
    """Return what one model for everything would have brought."""
    return blend(world, name, np.eye(len(MODELS))[k])


def blend(world: World, name: str, shares: Sequence[float] | Floats) -> Strategy:
    """Return what a blind choice with these shares brings on average, exactly."""
    weights = np.asarray(shares)
    quality, cost = world.quality @ weights, world.cost_usd @ weights
    return Strategy(
        name, float(quality.mean()), float(cost.sum()), float(world.utility(quality, cost).mean())
    )


def baselines(world: World, routed_usd: float) -> tuple[Strategy, ...]:
    """Return what could have been done instead; the last two are known only afterwards."""
    mix = world.mix(routed_usd / len(world.questions))
    return (
        fixed(world, f"always best ({NAMES[world.strongest]})", world.strongest),
        fixed(world, f"always cheapest ({NAMES[world.cheapest]})", world.cheapest),
        blend(world, "random", np.full(len(MODELS), 1 / len(MODELS))),
        fixed(world, f"best single in hindsight ({NAMES[world.best_single]})", world.best_single),
        blend(world, f"static mix, same cost ({mix_words(mix)})", mix_shares(mix)),
    )


def mix_shares(mix: Mix) -> Floats:
    """Return the share of each model in a mix."""
    return np.array([mix.shares.get(name, 0.0) for name in NAMES])


def mix_words(mix: Mix) -> str:
    """Return a mix as people say it."""
    return " + ".join(f"{share:.0%} {name}" for name, share in mix.shares.items() if share > 0)
