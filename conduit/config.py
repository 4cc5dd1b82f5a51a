"""The settings of a service: arguments, over the environment and .env, over conduit.yaml.

Nothing is read by importing this module or by making a `Settings`: `load_settings` is the one door.
Providers' keys are no settings. They stay in the environment, where the vendors' clients look for
them, and only their presence is asked for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeGuard

from pydantic import BeforeValidator, Field, InstanceOf, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from conduit.core.errors import ConfigurationError, InvalidInput, unknown_name
from conduit.core.models import ModelArm, Preferences

CONFIG_FILE = "conduit.yaml"
_MAX_DEPTH = 8  # of a file whose deepest setting is a number of a model in a list
_ARM_FIELDS = tuple(f.name for f in fields(ModelArm) if f.name != "model")


def _arm(value: object) -> ModelArm:
    """Make an arm of a model's name or of a mapping of its fields."""
    if isinstance(value, ModelArm):
        return value
    if isinstance(value, str):
        return ModelArm(value.strip())
    if not isinstance(value, Mapping):
        raise InvalidInput("a model is a name, or a mapping with an id", field="models")
    for name in value:
        if name not in (*_ARM_FIELDS, "model"):
            raise InvalidInput(unknown_name("model setting", name, _ARM_FIELDS), field=str(name))
    if "id" not in value:
        raise InvalidInput("a model needs an id", field="id")
    return ModelArm(**value)


def _listed(value: object) -> object:
    if not _is_list(value):
        raise InvalidInput("models must be a list of names and mappings", field="models")
    return value


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Arms = Annotated[
    tuple[Annotated[InstanceOf[ModelArm], BeforeValidator(_arm)], ...],
    Field(min_length=1),
    BeforeValidator(_listed),
]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Amount = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)
]


class _Places(dict[str, str]):
    """Where each setting was read; settings that differ in nothing else are the same."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Places)


class Settings(BaseSettings):
    """What a service is made of; each field's description says what it does."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    models: Arms | None = Field(
        None, description="the models to choose among; without it, those whose keys are there"
    )
    bandit_algorithm: str = Field("contextual_thompson", description="the name of a policy")
    use_hybrid: bool = Field(False, description="start with UCB1, go on with LinUCB")
    preferences: Annotated[InstanceOf[Preferences], BeforeValidator(Preferences.of)] = Field(
        default_factory=Preferences,
        description="balanced, quality, cost, speed, or weights of quality, cost and latency",
    )
    exploration_floor: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.02, description="the share of decisions that are spread over all candidates"
    )
    prior_observations: Amount = Field(
        30.0, description="how many observations a model's quality prior is worth"
    )
    seed: Annotated[int, Field(ge=0)] | None = Field(
        None, description="makes the sequence of choices repeatable"
    )
    router_name: str = Field(
        "default", min_length=1, description="replicas of one name learn together"
    )
    embedding_model: str | None = Field(
        None, description="sentence-transformers/…, onnx/…, or the built-in static embedder"
    )
    cache_enabled: bool = Field(False, description="keep features of queries that come again")
    cache_ttl: PositiveSeconds = Field(3600.0, description="seconds that cached features live")
    redis_url: str | None = Field(None, repr=False, description="the cache of all replicas")
    database_url: str | None = Field(
        None, repr=False, description="sqlite+aiosqlite:///… or postgresql+asyncpg://…"
    )
    journal_path: Path = Field(
        Path("conduit-journal"), description="keeps feedback while the database is away"
    )
    store_text: bool = Field(False, description="store the text of prompts and answers")
    feedback_days: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = Field(
        30.0, description="days after a decision within which feedback is taken"
    )
    secret: SecretStr | None = Field(
        None, description="signs receipts; without it, only this process can read its own"
    )
    execution_backend: Literal["pydantic_ai", "litellm"] = Field(
        "pydantic_ai", description="which library calls the models"
    )
    timeout_s: PositiveSeconds = Field(60.0, description="seconds for an answer, fallbacks in all")
    budget_usd: Amount | None = Field(None, description="dollars that may be spent per period")
    budget_per: Literal["day", "month", "total"] = Field("day", description="the budget's period")
    budget_scope: Literal["router", "user"] = Field("router", description="whose budget it is")
    budget_pace: bool = Field(False, description="weigh cost so that the budget lasts")
    opinions_per_hour: Annotated[int, Field(ge=0)] = Field(
        60, description="opinions of one user that count within an hour; 0 is no limit"
    )
    opinions_times_average: Amount = Field(
        3.0, description="how many average raters one user may count for; 0 is no limit"
    )
    judge_model: str | None = Field(None, description="the model that grades a sample of answers")
    judge_sample_rate: Fraction = Field(0.1, description="the share of answers that are graded")
    judge_daily_budget_usd: Amount | None = Field(None, description="what grading may cost a day")
    log_level: LogLevel = Field(
        "INFO", description="of the loggers under `conduit`; without it the application's stands"
    )
    environment: str = Field("development", description="a name for logs and health reports")
    config: Path | None = Field(None, description="the YAML file that was read")

    _places: _Places = PrivateAttr(default_factory=_Places)

    def placed(self, error: ConfigurationError) -> ConfigurationError:
        """Return the error with the file and line, or the variable, that its setting came from."""
        if error.field not in self._places:
            return error
        return ConfigurationError(f"{self._places[error.field]}: {error}", field=error.field)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the constructor read nothing: what is read comes through `load_settings`."""
        return (init_settings,)


# Four names are shared with other programs and have no prefix.
_SHARED_NAMES = ("database_url", "redis_url", "log_level", "environment")

ENVIRONMENT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        name: name.upper() if name in _SHARED_NAMES else f"CONDUIT_{name.upper()}"
        for name in Settings.model_fields
    }
)


@dataclass(frozen=True)
class _Tier:
    """The values of one source, and how it calls a setting in a message."""

    values: Mapping[str, Any]
    places: Mapping[tuple[str | int, ...], str]

    def place(self, path: Sequence[str | int]) -> str:
        """Return the nearest known place of a path whose setting is of this source."""
        prefixes = (tuple(path[:length]) for length in range(len(path), 0, -1))
        return next(self.places[prefix] for prefix in prefixes if prefix in self.places)


def load_settings(
    path: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    **arguments: Any,
) -> Settings:
    """Return the settings: arguments, over environment and .env, over conduit.yaml, over defaults.

    An argument of None is one that was not given. An `environ` stands for the whole environment:
    .env is not read beside it. The file is the `path`, CONDUIT_CONFIG, or ./conduit.yaml if there
    is one. What cannot work is a ConfigurationError that names its place, never its value.
    """
    surroundings = read_environment() if environ is None else environ
    file = _config_path(path, surroundings)
    tiers = [
        _arguments_tier(arguments),
        _environment_tier(surroundings),
        _file_tier(file) if file else _Tier({}, {}),
    ]
    values = _overlaid([tier.values for tier in tiers])
    try:
        settings = Settings(**{**values, "config": file})
    except ValidationError as error:
        raise _explained(error, tiers) from None  # the cause would show the values
    arguments_tier, *read = tiers  # whoever writes an argument knows where it is
    for tier in reversed(read):
        settings._places |= {n: tier.place([n]) for n in tier.values}
    for name in arguments_tier.values:
        settings._places.pop(name, None)
    return settings


def read_environment(dotenv: str | Path = ".env") -> dict[str, str]:
    """Return the process's environment over what the file adds to it; empty variables are none."""
    from dotenv import dotenv_values

    file = Path(dotenv)
    added = dotenv_values(stream=StringIO(_read_text(file))) if file.is_file() else {}
    both = {**added, **{name: value for name, value in os.environ.items() if value}}
    return {name: value for name, value in both.items() if value}


def export_dotenv(
    names: Iterable[str], environ: MutableMapping[str, str], dotenv: str | Path = ".env"
) -> tuple[str, ...]:
    """Give the named variables of the file to the environment that lacks them; return which.

    Vendors' clients look for their keys in the environment only.
    """
    found = read_environment(dotenv)
    missing = tuple(name for name in names if name in found and not environ.get(name))
    environ.update({name: found[name] for name in missing})
    return missing


def _arguments_tier(arguments: Mapping[str, Any]) -> _Tier:
    for name in arguments:
        _known(name, "argument")
    given = {name: value for name, value in arguments.items() if value is not None}
    return _Tier(given, {(name,): name for name in given})


def _environment_tier(environ: Mapping[str, str]) -> _Tier:
    values: dict[str, Any] = {}
    for name, variable in ENVIRONMENT_NAMES.items():
        text = environ.get(variable, "").strip()
        if text and name != "config":
            values[name] = _decoded(name, variable, text)
    return _Tier(values, {(name,): ENVIRONMENT_NAMES[name] for name in values})


def _decoded(name: str, variable: str, text: str) -> object:
    """Read JSON where it is JSON, and names between commas where they are models."""
    if name not in ("models", "preferences") or text[0] not in "[{":
        return text.split(",") if name == "models" else text
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(
            f"{variable}: not JSON (character {error.pos + 1}: {error.msg})", field=name
        ) from None


def _config_path(path: str | Path | None, environ: Mapping[str, str]) -> Path | None:
    named = path or environ.get(ENVIRONMENT_NAMES["config"], "").strip()
    if named:
        return Path(named)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def _file_tier(file: Path) -> _Tier:
    values, lines = _read_yaml(file)
    places = {path: f"{file}:{line}: {_dotted(path)}" for path, line in lines.items()}
    for name in (path[0] for path in lines if len(path) == 1):  # as written: 1 and yes are keys
        _known(str(name), "setting", places[name,].removesuffix(str(name)))
    return _Tier({k: v for k, v in values.items() if v is not None}, places)


def _read_yaml(file: Path) -> tuple[dict[str, Any], dict[tuple[str | int, ...], int]]:
    """Return the file's mapping, and the line of every key and list entry in it."""
    import yaml

    lines: dict[tuple[str | int, ...], int] = {}
    text = _read_text(file)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None or root.tag == "tag:yaml.org,2002:null":
            return {}, lines
        if not isinstance(root, yaml.MappingNode):
            raise ConfigurationError(f"{file}:1: the file must be a mapping of settings")
        _mark(root, (), file, lines)
        return dict(loader.construct_document(root)), lines
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(f"{file}:{line}: {error.reason}", field="config") from None
    except RecursionError:
        raise ConfigurationError(f"{file}: is nested too deep", field="config") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigurationError(f"{file}:{line}: {error.problem}", field="config") from None


def _read_text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error})", field="config") from error
    try:
        return content.decode("utf-8").removeprefix("\ufeff")  # as editors on Windows begin it
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(f"{file}:{line}: is not UTF-8", field="config") from None


def _mark(
    node: Any, path: tuple[str | int, ...], file: Path, lines: dict[tuple[str | int, ...], int]
) -> None:
    """Note the line of what is below a node, and refuse a key that is there twice."""
    for name, child, line in _children(node):
        below = (*path, name)
        refused = f"is already set in line {lines[below]}" if below in lines else ""
        if len(below) > _MAX_DEPTH:
            refused = "is nested too deep, or an alias of itself"
        if refused:
            place = _dotted(below[:_MAX_DEPTH])
            raise ConfigurationError(f"{file}:{line}: {place}: {refused}", field=place)
        lines[below] = line
        _mark(child, below, file, lines)


def _children(node: Any) -> Iterator[tuple[str | int, Any, int]]:
    """Yield the entries of a YAML node: their name or number, node and line."""
    if node.id == "mapping":
        for key, value in node.value:
            if key.id == "scalar":
                yield key.value, value, key.start_mark.line + 1
    elif node.id == "sequence":
        for number, value in enumerate(node.value):
            yield number, value, value.start_mark.line + 1


def _known(name: str, kind: str, place: str = "") -> None:
    """Refuse a name that is no setting, and say which one is nearest."""
    names = tuple(n for n in Settings.model_fields if n != "config")
    if name in names:
        return
    meant = name.lower().replace("-", "_").removeprefix("conduit_")
    words = unknown_name(kind, name, names)
    if meant in names:
        words = f"unknown {kind} {name!r}; did you mean {meant!r}?"
    raise ConfigurationError(f"{place}{words}", field=name)


def _overlaid(tiers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return each setting from the first source that has it; models are overlaid field by field."""
    values = {name: value for tier in reversed(tiers) for name, value in tier.items()}
    lists = [tier["models"] for tier in tiers if "models" in tier]
    if lists and _is_list(lists[0]):
        values["models"] = [_merged(entry, lists[1:]) for entry in lists[0]]
    return values


def _merged(entry: object, lower: Sequence[object]) -> object:
    """Return a model's entry over the entries of the same id in lower sources."""
    own = _entry_fields(entry)
    if own is None:
        return entry
    merged: dict[str, Any] = {}
    for entries in reversed(lower):
        for other in entries if _is_list(entries) else ():
            fields_of_other = _entry_fields(other)
            if fields_of_other is not None and fields_of_other.get("id") == own.get("id"):
                merged |= fields_of_other
    return merged | own


def _entry_fields(entry: object) -> dict[str, Any] | None:
    """Return the fields that an entry sets, or None for what is no entry."""
    if isinstance(entry, str):
        return {"id": entry.strip()}
    if isinstance(entry, ModelArm):
        given = {f.name: getattr(entry, f.name) for f in fields(ModelArm)}
    elif isinstance(entry, Mapping):
        given = dict(entry)
    else:
        return None
    return {name: value for name, value in given.items() if value is not None}


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _explained(error: ValidationError, tiers: Sequence[_Tier]) -> ConfigurationError:
    """Say each thing that is wrong with its place in the source it came from, without its value."""
    problems = []
    found = error.errors(include_url=False, include_input=False)
    entries = {problem["loc"][0] for problem in found if len(problem["loc"]) > 1}
    for problem in found:
        path = list(problem["loc"])
        if problem["type"] == "too_short" and path[0] in entries:
            continue  # what is wrong with the entries is said; that they do not count is no news
        cause = problem.get("ctx", {}).get("error")
        words = str(cause) if isinstance(cause, ValueError) else problem["msg"]
        inner = getattr(cause, "field", "")
        source = next(tier for tier in tiers if path[0] in tier.values)
        problems.append((path, f"{source.place([*path, inner])}: {words}"))
    return ConfigurationError(
        "\n".join(text for _, text in problems), field=_dotted(problems[0][0])
    )


def _dotted(path: Sequence[str | int]) -> str:
    """Write a path as one would in code: models[0].quality."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")
