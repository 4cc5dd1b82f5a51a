"""Where settings come from, which source wins, and what an error says."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from conduit.catalogue.models import complete_arm, provider_key_names
from conduit.config import (
    ENVIRONMENT_NAMES,
    Settings,
    export_dotenv,
    load_settings,
    read_environment,
)
from conduit.core.errors import ConfigurationError
from conduit.core.models import ModelArm, Preferences
from conduit.service.assembly import create_router, router_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def empty_place(empty_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty directory with the network shut."""

    def refuse(*_: object) -> None:
        raise AssertionError("settings went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return empty_home


def write(text: str, name: str = "conduit.yaml") -> Path:
    """Write a file into the working directory."""
    path = Path(name)
    path.write_text(text)
    return path


def test_defaults_need_nothing() -> None:
    """Without a file, a variable or an argument every setting has its documented default."""
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.bandit_algorithm == "contextual_thompson"
    assert settings.preferences == Preferences()
    assert settings.exploration_floor == 0.02
    assert settings.prior_observations == 30.0
    assert (settings.models, settings.database_url, settings.config) == (None, None, None)


def test_each_source_wins_over_those_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments, then the environment, then .env, then the file, then defaults."""
    write("cache_ttl: 1\ntimeout_s: 1\nfeedback_days: 1\nrouter_name: from-file\n")
    write("CONDUIT_CACHE_TTL=2\nCONDUIT_TIMEOUT_S=2\nCONDUIT_FEEDBACK_DAYS=2\n", ".env")
    monkeypatch.setenv("CONDUIT_CACHE_TTL", "3")
    monkeypatch.setenv("CONDUIT_TIMEOUT_S", "3")
    settings = load_settings(cache_ttl=4)
    assert settings.cache_ttl == 4.0
    assert settings.timeout_s == 3.0
    assert settings.feedback_days == 2.0
    assert settings.router_name == "from-file"
    assert settings.seed is None


def test_an_argument_of_none_was_not_given() -> None:
    """Callers hand their own optional arguments through without hiding what is configured."""
    settings = load_settings(environ={"DATABASE_URL": "sqlite:///x"}, database_url=None)
    assert settings.database_url == "sqlite:///x"


def test_an_empty_variable_and_an_empty_key_count_as_not_set() -> None:
    """A copied .env.example and a key without a value leave what is below them."""
    write("redis_url:\ncache_ttl: 7\n")
    settings = load_settings(environ={"CONDUIT_CACHE_TTL": " ", "REDIS_URL": ""})
    assert (settings.redis_url, settings.cache_ttl) == (None, 7.0)


@pytest.mark.parametrize("text", ["", "# nothing here\n", "---\n"])
def test_an_empty_file_sets_nothing(text: str) -> None:
    """A file of comments is a file of defaults."""
    write(text)
    settings = load_settings(environ={})
    assert settings.model_copy(update={"config": None}) == Settings()
    assert settings.config == Path("conduit.yaml")


@pytest.mark.parametrize("way", ["argument", "variable", "working directory"])
def test_the_file_is_found_in_three_ways(way: str) -> None:
    """The path is an argument, CONDUIT_CONFIG, or conduit.yaml in the working directory."""
    write("router_name: other\n", "conduit.yaml")
    wanted = write("router_name: wanted\n", "elsewhere.yaml")
    environ = {"CONDUIT_CONFIG": str(wanted)} if way == "variable" else {}
    settings = load_settings(wanted if way == "argument" else None, environ)
    assert settings.router_name == ("other" if way == "working directory" else "wanted")
    assert settings.config == Path("conduit.yaml" if way == "working directory" else wanted)


def test_the_three_tiers_of_what_is_known_of_a_model() -> None:
    """The environment's number stands over the file's, the file's over the built-in one."""
    write(
        "models:\n"
        "  - {id: 'openai:gpt-4o-mini', quality: 0.2, input_usd_per_mtok: 0.5}\n"
        "  - openai:gpt-4o\n"
    )
    environ = {"CONDUIT_MODELS": '[{"id": "openai:gpt-4o-mini", "quality": 0.9}]'}
    (arm,) = load_settings(environ=environ).models or ()
    assert (arm.quality, arm.input_usd_per_mtok, arm.output_usd_per_mtok) == (0.9, 0.5, None)
    assert complete_arm(arm).output_usd_per_mtok == 0.6
    mine = ModelArm("openai:gpt-4o-mini", output_usd_per_mtok=9.0)
    (arm,) = load_settings(environ=environ, models=[mine]).models or ()
    assert (arm.quality, arm.input_usd_per_mtok, arm.output_usd_per_mtok) == (0.9, 0.5, 9.0)


def test_models_are_named_in_every_form() -> None:
    """Names between commas, JSON, a list of names and arms: all give arms."""
    model = object()
    for given in (
        load_settings(environ={"CONDUIT_MODELS": "a:x, b:y"}),
        load_settings(environ={"CONDUIT_MODELS": '["a:x", {"id": "b:y"}]'}),
        load_settings(environ={}, models=["a:x", ModelArm("b:y", model=model)]),
    ):
        assert [arm.id for arm in given.models or ()] == ["a:x", "b:y"]
    arms = load_settings(environ={}, models=[ModelArm("b:y", model=model)]).models
    assert arms is not None
    assert arms[0].model is model


@pytest.mark.parametrize(
    ("given", "preferences"),
    [
        ("cost", Preferences.of("cost")),
        (
            {"quality": 1.0, "cost": 0.5, "latency": 0.0},
            Preferences(quality=1, cost=0.5, latency=0),
        ),
        (Preferences(quality=0.4), Preferences(quality=0.4)),
    ],
)
def test_preferences_are_a_preset_or_weights(given: Any, preferences: Preferences) -> None:
    """A preset's name, a mapping and a value mean the same thing from every source."""
    assert load_settings(environ={}, preferences=given).preferences == preferences
    if isinstance(given, dict):
        as_json = {"CONDUIT_PREFERENCES": '{"quality": 1.0, "cost": 0.5, "latency": 0.0}'}
        assert load_settings(environ=as_json).preferences == preferences


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("a: 1\n", 1, "", "unknown setting 'a'"),
        ("seed: 1\n\nbandit_algoritm: x\n", 3, "", "did you mean 'bandit_algorithm'?"),
        ("DATABASE_URL: x\n", 1, "", "did you mean 'database_url'?"),
        ("config: other.yaml\n", 1, "", "unknown setting 'config'"),
        ("seed: 1\ncache_ttl: soon\n", 2, "cache_ttl", "valid number"),
        ("cache_ttl: .nan\n", 1, "cache_ttl", "finite"),
        ("cache_ttl: 0\n", 1, "cache_ttl", "greater than 0"),
        ("exploration_floor: 1.0\n", 1, "exploration_floor", "less than 1"),
        ("execution_backend: openai\n", 1, "execution_backend", "'pydantic_ai' or 'litellm'"),
        ("preferences: chep\n", 1, "preferences", "unknown preference 'chep'"),
        ("preferences:\n  quality: 1\n  cost: -1\n", 3, "preferences.cost", "from 0 to"),
        ("preferences:\n  qualty: 1\n", 2, "preferences.qualty", "did you mean 'quality'?"),
        ("models: openai:gpt-4o\n", 1, "models", "must be a list"),
        ("models: []\n", 1, "models", "at least 1"),
        ("models:\n  - a\n  - quality: 1\n", 3, "models[1]", "needs an id"),
        ("models:\n  - a\n  - id: b\n    quality: 7\n", 4, "models[1].quality", "0 to 1"),
        ("models:\n  - id: b\n    qualty: 1\n", 3, "models[0].qualty", "did you mean 'quality'?"),
        ("models:\n  - 17\n", 2, "models[0]", "a name, or a mapping"),
        ("seed: 1\nseed: 2\n", 2, "seed", "already set in line 1"),
        ("models:\n  - {id: a, id: b}\n", 2, "models[0].id", "already set"),
        ("seed: [1\n", 2, "", "expected"),
        ("seed: *nowhere\n", 1, "", "undefined alias"),
        ("models: &m [*m]\n", 1, "models", "alias of itself"),
        ("- seed\n", 1, "", "must be a mapping"),
        ("? [seed, cost]\n: 1\n", 1, "", "unhashable key"),
        ("seed: !!python/object:os.system x\n", 1, "", "could not determine a constructor"),
        ("seed: 1\n1: 2\n", 2, "", "unknown setting '1'"),
        ("yes: 2\n", 1, "", "unknown setting 'yes'"),
        ("seed: -1\n", 1, "seed", "greater than or equal to 0"),
        ("models:\n  - a\n\nseed: \x00\n", 4, "", "special characters"),
    ],
)
def test_an_error_in_the_file_names_file_line_and_key(
    text: str, line: int, key: str, words: str
) -> None:
    """Whoever reads the message can put the cursor where the mistake is."""
    file = write(text, "broken.yaml")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(file, {})
    message = str(caught.value)
    assert message.startswith(f"broken.yaml:{line}: {key}")
    assert words in message


@pytest.mark.parametrize("mistake", ["bandit_algorithm: lin", "embedding_model: nope"])
def test_a_name_that_nothing_answers_to_is_found_in_the_file_too(mistake: str) -> None:
    """What only the router can judge names file, line and key as well; an argument needs none."""
    write(f"models: [a]\n{mistake}\n")
    name, _, value = mistake.partition(": ")
    with pytest.raises(ConfigurationError, match=rf"^conduit\.yaml:2: {name}: unknown"):
        router_of(load_settings(environ={}))
    with pytest.raises(ConfigurationError, match=rf"^{ENVIRONMENT_NAMES[name]}: unknown"):
        router_of(load_settings(environ={ENVIRONMENT_NAMES[name]: value}))
    with pytest.raises(ConfigurationError, match=r"^unknown"):
        router_of(load_settings(environ={}, **{name: value}))


def test_a_wrong_entry_is_one_mistake() -> None:
    """A list of models whose only entry is wrong is not called too short besides."""
    write("models:\n  - id: a\n    quality: 5\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={})
    assert str(caught.value).count("\n") == 0


def test_all_mistakes_are_told_at_once() -> None:
    """Three wrong settings from two sources are one error with three places."""
    write("cache_ttl: soon\nseed: x\n")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={"CONDUIT_BUDGET_USD": "-1"})
    message = str(caught.value)
    for place in ("conduit.yaml:1: cache_ttl", "conduit.yaml:2: seed", "CONDUIT_BUDGET_USD"):
        assert place in message


@pytest.mark.parametrize(
    ("environ", "field"),
    [
        ({"CONDUIT_CACHE_TTL": "soon"}, "cache_ttl"),
        ({"CONDUIT_MODELS": '[{"id": "a"'}, "models"),
        ({"CONDUIT_MODELS": '[{"id": "a", "quality": 2}]'}, "models[0]"),
        ({"CONDUIT_PREFERENCES": "{oops"}, "preferences"),
        ({"LOG_LEVEL": "LOUD"}, "log_level"),
    ],
)
def test_an_error_in_the_environment_names_the_variable(
    environ: dict[str, str], field: str
) -> None:
    """A wrong variable is named as one types it, and the setting is in the error's field."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ=environ)
    assert str(caught.value).startswith(f"{next(iter(environ))}: ")
    assert caught.value.field == field


def test_an_unknown_argument_names_the_nearest() -> None:
    """A misspelt argument is refused and corrected before anything is read."""
    with pytest.raises(ConfigurationError, match="did you mean 'models'") as caught:
        load_settings(environ={}, modles=["a"])
    assert caught.value.field == "modles"


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_a_named_file_that_cannot_be_read_is_an_error(path: str) -> None:
    """A path that was asked for is not silently left out."""
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(path, {})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(environ={"CONDUIT_CONFIG": path})


def test_settings_made_by_hand_take_the_same_forms() -> None:
    """A name, an arm and a mapping of fields are all models of a `Settings`."""
    settings = Settings(models=["a:x", ModelArm("b:y"), {"id": "c:z"}])  # type: ignore[arg-type]
    assert [arm.id for arm in settings.models or ()] == ["a:x", "b:y", "c:z"]


def test_bytes_that_are_no_text_are_an_error() -> None:
    """A byte that is no UTF-8 is found in its line."""
    Path("conduit.yaml").write_bytes(b"seed: 1\n# caf\xe9\n")
    with pytest.raises(ConfigurationError, match=r"^conduit\.yaml:2: is not UTF-8"):
        load_settings(environ={})


def test_a_file_that_is_nested_without_end_is_an_error() -> None:
    """Two thousand brackets are no crash of the parser."""
    write("models: " + "[" * 2_000 + "]" * 2_000)
    with pytest.raises(ConfigurationError, match=r"^conduit\.yaml: is nested too deep"):
        load_settings(environ={})


def test_no_secret_is_shown() -> None:
    """Neither a repr nor an error shows a signing secret or the password of an address."""
    canary = "canary-5f1e"
    environ = {
        "CONDUIT_SECRET": canary,
        "DATABASE_URL": f"postgresql+asyncpg://u:{canary}@h/d",
        "REDIS_URL": f"redis://:{canary}@h",
        "OPENAI_API_KEY": canary,
    }
    settings = load_settings(environ=environ)
    assert settings.secret is not None
    assert settings.secret.get_secret_value() == canary
    assert canary not in repr(settings)
    assert canary not in str(settings)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ={**environ, "CONDUIT_SEED": canary, "CONDUIT_TIMEOUT_S": canary})
    assert caught.value.__cause__ is None
    assert canary not in "".join(traceback.format_exception(caught.value))
    assert canary not in repr(caught.value.__context__)


def test_a_providers_key_is_no_setting() -> None:
    """Keys stay in the environment: no field holds one, and the file may not either."""
    assert not {name.lower() for name in provider_key_names()} & set(Settings.model_fields)
    write("openai_api_key: x\n")
    with pytest.raises(ConfigurationError, match="unknown setting 'openai_api_key'"):
        load_settings(environ={})


def test_settings_cannot_be_changed() -> None:
    """What was loaded once stays as it is for every reader."""
    settings = load_settings(environ={})
    with pytest.raises(ValidationError):
        settings.seed = 3  # type: ignore[misc]


def test_making_settings_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The constructor sees neither the environment, nor .env, nor a file."""
    write("seed: 1\n")
    write("CONDUIT_SEED=2\n", ".env")
    monkeypatch.setenv("CONDUIT_SEED", "3")
    monkeypatch.setenv("SEED", "4")
    assert Settings().seed is None
    assert load_settings().seed == 3


def test_importing_reads_nothing() -> None:
    """A broken file beside a program that only imports Conduit does not matter."""
    write("no: [such\n")
    program = "import conduit.config, sys; sys.exit('yaml' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CONDUIT_SEED": "no number"},
    )
    assert done.returncode == 0, done.stderr


def test_the_environment_wins_over_dotenv_and_empty_counts_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A variable that is set empty does not hide what .env says."""
    write("GROQ_API_KEY=from-file\nHF_TOKEN=from-file\nMISTRAL_API_KEY=\n", ".env")
    monkeypatch.setenv("GROQ_API_KEY", "from-shell")
    monkeypatch.setenv("HF_TOKEN", "")
    found = read_environment()
    assert (found["GROQ_API_KEY"], found["HF_TOKEN"]) == ("from-shell", "from-file")
    assert "MISTRAL_API_KEY" not in found


def test_a_dotenv_in_another_encoding_is_refused_with_its_line() -> None:
    """What is no UTF-8 cannot be read for sure; the error says where, and not what."""
    Path(".env").write_bytes(b"CONDUIT_MODELS=m\nNAME=\xe9\n")
    with pytest.raises(ConfigurationError, match=re.escape(".env:2: is not UTF-8")):
        read_environment()


def test_a_dotenv_may_begin_with_a_byte_order_mark() -> None:
    """Editors on Windows write one; the first variable has its name all the same."""
    Path(".env").write_bytes(b"\xef\xbb\xbfCONDUIT_ROUTER_NAME=marked\n")
    assert read_environment()["CONDUIT_ROUTER_NAME"] == "marked"


def test_keys_of_dotenv_reach_the_vendors_clients() -> None:
    """Only the named variables that are missing are exported, and the call says which."""
    write("GROQ_API_KEY=a\nOPENAI_API_KEY=b\nUNRELATED=c\n", ".env")
    environ = {"OPENAI_API_KEY": "mine"}
    assert export_dotenv(provider_key_names(), environ) == ("GROQ_API_KEY",)
    assert environ == {"OPENAI_API_KEY": "mine", "GROQ_API_KEY": "a"}


def names_in_env_example() -> list[str]:
    """Return the variables of .env.example, in its order."""
    text = (ROOT / ".env.example").read_text()
    return re.findall(r"^([A-Z0-9_]+)=", text, flags=re.MULTILINE)


def test_env_example_holds_exactly_the_settings_that_exist() -> None:
    """Neither a variable too few nor one too many, and each one is empty."""
    names = names_in_env_example()
    assert len(names) == len(set(names))
    assert set(names) == set(ENVIRONMENT_NAMES.values()) | set(provider_key_names())
    text = (ROOT / ".env.example").read_text()
    assert re.findall(r"^[A-Z0-9_]+=(.+)$", text, flags=re.MULTILINE) == []


def test_a_copied_env_example_changes_nothing() -> None:
    """Copying the example is a first step without an effect."""
    write((ROOT / ".env.example").read_text(), ".env")
    assert load_settings() == Settings()


def test_the_yaml_example_loads_and_shows_every_setting() -> None:
    """The example is a valid file whose settings, commented ones included, are all there are."""
    example = ROOT / "conduit.yaml.example"
    settings = load_settings(example, {})
    shown = re.findall(r"^(?:# )?([a-z_]+):", example.read_text(), flags=re.MULTILINE)
    assert set(shown) == set(Settings.model_fields) - {"config"}
    assert settings.models is not None
    assert all(complete_arm(arm).priced for arm in settings.models)
    defaults = settings.model_copy(update={"models": None, "config": None})
    assert defaults == Settings()


def test_what_the_yaml_example_comments_out_loads_too() -> None:
    """Taking the comment marks away leaves a valid file."""
    text = (ROOT / "conduit.yaml.example").read_text()
    opened = re.sub(r"^# ((?!secret)[a-z_]+: )", r"\1", text, flags=re.MULTILINE)
    settings = load_settings(write(opened, "opened.yaml"), {})
    assert (settings.seed, settings.budget_usd) == (7, 25.0)
    assert settings.judge_daily_budget_usd == 1.0


@pytest.mark.parametrize("name", sorted(set(Settings.model_fields) - {"config"}))
def test_every_setting_says_what_it_does(name: str) -> None:
    """No field is without its sentence."""
    assert Settings.model_fields[name].description


async def test_log_level_and_environment_reach_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A level that is set is our loggers'; health reports have the environment's name."""
    import logging

    from conduit import create_service

    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("conduit")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    for options, level in (({}, logging.NOTSET), ({"log_level": "debug"}, logging.DEBUG)):
        async with await create_service(
            models=["acme:a"], database_url="sqlite:///a.db", environment="staging", **options
        ) as service:
            assert logger.level == level
            assert (await service.health()).environment == "staging"


@pytest.mark.parametrize("name", ["arms", "models"])
def test_a_router_is_made_of_models_by_either_name(name: str) -> None:
    """`create_router` takes its models as it names them, and as `Router` does."""
    made = create_router(algorithm="ucb1", environ={}, **{name: ["openai:gpt-4o-mini"]})
    assert [arm.id for arm in made.models] == ["openai:gpt-4o-mini"]
    assert made.get_stats().policy == "ucb1"
