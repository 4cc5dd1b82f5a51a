"""The models that a router chooses among: those it was told, or those that it can reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from conduit.catalogue.models import arms_from_environment, complete_arm, default_arms
from conduit.catalogue.pricing import with_list_price
from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm


def known_arm(model: str | ModelArm, today: date) -> ModelArm:
    """Return a model with what the catalogue and the price lists know of it today."""
    arm = model if isinstance(model, ModelArm) else ModelArm(model)
    return with_list_price(complete_arm(arm, today), today)


def arms_of(
    models: Sequence[str | ModelArm] | None, environ: Mapping[str, str], today: date
) -> tuple[list[ModelArm], str]:
    """Return the arms with what the catalogue knows, and a note where nobody named them."""
    if isinstance(models, str | ModelArm):  # the letters of a name would be models of their own
        raise ConfigurationError(
            f"models must be a list, as in models=[{getattr(models, 'id', models)!r}]",
            field="models",
        )
    if models is not None:
        given = [known_arm(m, today) for m in models]
        if not given:
            raise ConfigurationError("models must not be empty", field="models")
        return given, ""
    found = list(arms_from_environment(environ, today))
    if found:
        return found, ""
    return list(default_arms(today)), "no provider key was found, so this is the default pool"
