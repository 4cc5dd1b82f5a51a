"""Judge routing on your own table: every model's quality and cost for each of your prompts."""

import numpy as np

from conduit import ModelArm
from conduit.evaluation.replay import ReplayTable, replay

rng = np.random.default_rng(0)
topics = rng.integers(2, size=600)
texts = [
    f"{('solve the equation', 'write a poem about')[t]} number {i}" for i, t in enumerate(topics)
]
skill = np.where(topics[:, None] == 0, [0.9, 0.4], [0.4, 0.9])

table = ReplayTable(
    models=[ModelArm("mathematician"), ModelArm("poet")],
    texts=texts,
    quality=rng.random((600, 2)) < skill,
    cost_usd=np.tile([0.001, 0.002], (600, 1)),
)
for policy in ("contextual_thompson", "thompson", "random"):
    print(replay(table, policy=policy, cost_weight=0.1, orders=3).summary())

# contextual_thompson: quality well above both single models; thompson and random: below it.
