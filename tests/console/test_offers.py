"""What is offered at the cursor: verbs, options, choices, and names that somebody else knows."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runestone.console import ctl
from runestone.console.commands import Live
from runestone.console.repl import topics
from runestone.console.repl.offers import candidates, hint
from runestone.console.repl.vocabulary import Vocabulary, vocabulary
from runestone.console.table import COMMANDS
from runestone.domain import faults
from runestone.operations.what_if import changes_of

LIVE: dict[Live, list[str]] = {
    "providers": ["anthropic-default", "openai-default"],
    "groups": ["default-chat-service"],
    "actors": ["failover", "provider:openai-default"],
    "requests": ["req_1"],
}


@pytest.fixture(scope="module")
def verbs() -> Vocabulary:
    parser = argparse.ArgumentParser(prog="runestone")
    ctl.add_parser(parser.add_subparsers())
    return vocabulary(parser)


def offered(verbs: Vocabulary, text: str) -> list[str]:
    return [found.text for found in candidates(verbs, text, lambda kind: LIVE[kind])]


def test_every_verb_of_the_table_is_in_the_vocabulary_with_its_arguments(verbs: Vocabulary) -> None:
    for command in COMMANDS:
        keys = {slot.key for slot in verbs[command.path].slots}
        assert {argument.key for argument in command.arguments} <= keys


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("", ["providers", "status", "help"]),
        ("pro", ["provider", "providers"]),
        ("provider re", ["remove", "restart"]),
        ("events ", ["export", "tail", "-n", "--follow"]),
        ("events tail -", ["-n", "--since"]),
        ("why an", ["anthropic-default"]),
        ("what-if op", ["openai-default"]),
        ("prov re", ["remove", "restart"]),
        ("provider restart ", ["anthropic-default", "openai-default"]),
        ("prov restart an", ["anthropic-default"]),
        ("status; failover show d", ["default-chat-service"]),
        ("actor show prov", ["provider:openai-default"]),
        ("provider restart x --h", ["--hard"]),
        ("top --sort b", ["busy"]),
        ("status --w", ["--watch", "--wait"]),
        ("provider restart x --w", ["--wait"]),
        ("provider set x --d", ["--dry-run"]),
        ("failover set-strategy default-chat-service pr", ["priority"]),
        ("provider add new --kind anth", ["anthropic"]),
        ("log level ", ["trace", "debug", "warning"]),
        ("log level w", ["warning"]),
        ("crash prov", ["provider:openai-default"]),
        ("fault openai-default ", ["none", "refused", "status=", "html", "rate="]),
        ("fault openai-default cut ", ["after=", "at=", "times="]),
        ("fault openai-default cut after=3 r", ["reset", "rate="]),
        ("what-if openai-default ", ["failure_threshold=", "slow_first_token="]),
        ("what-if openai-default half-open-limit=2 r", ["recovery_timeout="]),
        ("explain ", ["breaker", "retry.max_attempts", "breaker.changed"]),
        ("explain half", ["half_open"]),
        ("explain providers.NAME.ret", ["providers.NAME.retry_attempts"]),
        ("status | ", ["grep", "head", "count", "json"]),
        ("\\w", ["\\watch"]),
        ("\\", ["\\x", "\\q", "\\?"]),
        ("help provider sh", ["show"]),
        ("? stat", ["status"]),
    ],
)
def test_what_fits_is_offered(verbs: Vocabulary, text: str, some: list[str]) -> None:
    found = offered(verbs, text)

    assert set(some) <= set(found)
    assert all(one.startswith(text.rpartition(" ")[2]) for one in found)


@pytest.mark.parametrize(
    ("text", "none"),
    [
        ("provider restart x --hard --", "--hard"),  # it is there already
        ("provider restart ", "--hard"),  # the name comes first
        ("status | grep ", "grep"),
        ("provider restart x --w", "--watch"),
        ("breaker reset x --", "--watch"),
        ("trace x --w", "--watch"),
        ("tree --", "--wait"),
        ("status --d", "--dry-run"),
        ("provider restart x --d", "--dry-run"),
        ("events --", "--last"),
        ("events --last 3 -", "-n"),
        ("fault openai-default ", "after="),  # nothing is said that could happen later
        ("fault openai-default ", "retry_after"),  # it needs its number
        ("fault openai-default stall times=2 ", "after="),
        ("fault openai-default cut rate=0.5 ", "rate="),
        ("fault openai-default none ", "cut"),
        ("what-if openai-default half-open-limit=2 ", "half_open_limit="),
        ("log level debug ", "debug"),
        ("explain breaker ", "breaker"),
        ("provider show 'op", "openai-default"),
        ("no-such-verb ", "openai-default"),
        ("help provider show ", "openai-default"),
    ],
)
def test_what_does_not_fit_is_not_offered(verbs: Vocabulary, text: str, none: str) -> None:
    assert none not in offered(verbs, text)


@pytest.mark.parametrize("word", topics.known())
def test_all_that_is_offered_to_be_explained_is(word: str) -> None:
    assert topics.explained(word)


def test_every_word_that_is_offered_for_a_fault_says_one() -> None:
    for word in faults.words(()):
        said = faults.parse(f"{word}503" if word.endswith("=") else word)
        assert (faults.differences(said) == []) == (word == "none")
    for before in ("cut", "reset", "stall", "error_event", "invalid_json"):
        assert faults.differences(faults.parse(f"{before} {faults.words([before])[0]}3")) == [f"{before}_after"]


def test_every_setting_that_is_offered_for_what_if_is_one() -> None:
    [settings] = [a for c in COMMANDS if c.path == "what-if" for a in c.arguments if a.key == "settings"]

    for word in settings.offers(()):
        assert changes_of({word.rstrip("="): 1})


def test_an_option_that_may_be_repeated_is_offered_again(verbs: Vocabulary) -> None:
    assert "--weight" in offered(verbs, "group set g --weight a=2 --")


def test_names_are_asked_for_only_where_one_may_stand(verbs: Vocabulary) -> None:
    asked: list[Live] = []

    def names(kind: Live) -> list[str]:
        asked.append(kind)
        return []

    for text in ("", "provider ", "provider show --", "top --sort ", "status | ", "\\"):
        candidates(verbs, text, names)
    assert asked == []
    candidates(verbs, "provider show ", names)
    assert asked == ["providers"]


@settings(deadline=None)
@given(st.text("abpr \\;|'-x", max_size=20))
def test_there_is_an_offer_for_every_beginning(verbs: Vocabulary, text: str) -> None:
    assert all(isinstance(one, str) for one in offered(verbs, text))
    assert isinstance(hint(verbs, text), str)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("provider restart", " NAME [--hard]"),
        ("provider restart ", "NAME [--hard]"),
        ("provider restart openai-default ", "[--hard]"),
        ("breaker trip openai-default --seconds ", "SECONDS"),
        ("top --sort ", "{mailbox|busy|rate|restarts}"),
        ("failover explain g ", "--model MODEL"),
        ("status; trace failover --max 3 ", "--for TIME"),
        ("provider restart op", ""),
        ("events --last ", "N"),
        ("status | ", ""),
        ("", ""),
        ("nonsense ", ""),
    ],
)
def test_the_hint_says_what_comes_next(verbs: Vocabulary, text: str, says: str) -> None:
    assert hint(verbs, text) == says
