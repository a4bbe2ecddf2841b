"""Layers: the highest that sets a key wins, and says so; and in which line of a file a key stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import tomli_w
from hypothesis import given

from runestone.config.build import build
from runestone.config.layers import Layer, merge
from runestone.config.load import Sources, read
from runestone.config.overlay import Overlay
from runestone.config.settings import ConfigurationError
from runestone.config.toml_lines import line_of, lines

ORDER = ("file", "env", "flag", "runtime")
KEYS = {
    "server.port": ("RUNESTONE_PORT", "--port", st.integers(5000, 60000)),
    "health.port": ("RUNESTONE_HEALTH_PORT", "--health-port", st.integers(1, 4000)),
    "retry.max_attempts": ("RETRY_MAX_ATTEMPTS", None, st.integers(1, 100)),
    "providers.openai-default.timeout_ms": ("OPENAI_TIMEOUT", None, st.integers(1000, 100000)),
    "failover.strategy": ("FAILOVER_STRATEGY", None, st.sampled_from(["priority", "round_robin", "fastest_first"])),
}


def nested(values: dict[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in values.items():
        *path, name = key.split(".")
        inner = table
        for part in path:
            inner = inner.setdefault(part, {})
        inner[name] = value
    return table


layer_values = st.fixed_dictionaries({}, optional={key: values for key, (_, _, values) in KEYS.items()})


@given(st.fixed_dictionaries(dict.fromkeys(ORDER, layer_values)))
def test_the_highest_layer_that_sets_a_key_wins_and_is_its_origin(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, dict[str, Any]]
) -> None:
    values["flag"] = {key: value for key, value in values["flag"].items() if KEYS[key][1]}
    path = tmp_path_factory.mktemp("layers") / "runestone.toml"
    path.write_text(tomli_w.dumps(nested(values["file"])))
    environ = {KEYS[key][0]: str(value) for key, value in values["env"].items()}
    flags = {str(KEYS[key][1]): str(value) for key, value in values["flag"].items()}

    found = {e.key: e for e in build(read(environ, path, flags), nested(values["runtime"])).entries}

    for key, (variable, flag, _) in KEYS.items():
        entry = found[key]
        highest = next((name for name in reversed(ORDER) if key in values[name]), None)
        if highest is None:
            assert entry.origin == "default"
            continue
        assert entry.value == values[highest][key]
        origin = {"env": f"env:{variable}", "flag": f"flag:{flag}", "runtime": "runtime"}.get(highest)
        assert entry.origin == origin if origin else entry.origin.startswith("runestone.toml:")


def test_tables_are_mixed_lists_and_values_are_replaced() -> None:
    low = Layer("low", {"groups": {"g": {"members": ["a", "b"], "strategy": "priority"}}})
    high = Layer("high", {"groups": {"g": {"members": ["c"]}, "h": {}}})

    merged = merge((low, high))

    assert merged.table == {"groups": {"g": {"members": ["c"], "strategy": "priority"}, "h": {}}}
    assert merged.origin(("groups", "g", "members")) == "high"
    assert merged.origin(("groups", "g", "strategy")) == "low"
    assert merged.origin(("nothing", "at all")) == "default"


def test_a_place_of_a_secret_replaces_the_place_below_it() -> None:
    low = Layer("low", {"providers": {"a": {"api_key": {"env": "A"}}}})
    high = Layer("high", {"providers": {"a": {"api_key": {"file": "/a"}}}})

    assert merge((low, high)).table["providers"]["a"]["api_key"] == {"file": "/a"}


def test_none_takes_a_provider_of_a_lower_layer_away() -> None:
    low = Layer("low", {"providers": {"a": {"kind": "openai"}, "b": {"kind": "openai"}}})

    merged = merge((low, Layer("runtime", {"providers": {"a": None}})))

    assert merged.table["providers"] == {"b": {"kind": "openai"}}
    assert ("providers", "a", "kind") not in merged.origins


def test_a_mistake_at_run_time_is_told_as_such() -> None:
    with pytest.raises(ConfigurationError) as raised:
        build(Sources(layers=(), environ={}), {"retry": {"max_attempts": 0}})

    assert str(raised.value) == "runtime: retry.max_attempts: is not a whole number in range; got 0; allowed: 1 to 100"


# -- the overlay -----------------------------------------------------------------------------------------------------------


def test_an_overlay_keeps_what_it_was_told_and_gives_it_back() -> None:
    overlay = Overlay().edited(("groups", "g"), {"members": ["a"]}, in_base=False)
    overlay = overlay.edited(("groups", "g", "strategy"), "priority", in_base=False)

    assert overlay.values() == [(("groups", "g", "members"), ["a"]), (("groups", "g", "strategy"), "priority")]
    assert overlay.edited(("groups", "g"), None, in_base=False).tables == {}
    assert overlay.edited(("groups", "g"), None, in_base=True).layer(()) == {"groups": {"g": None}}


def test_a_tuned_breaker_waits_for_its_provider_and_is_mixed_into_the_provider_s_own() -> None:
    overlay = Overlay().edited(("breakers", "a"), {"half_open_limit": 5}, in_base=False)
    assert overlay.layer(()) == {}
    assert overlay.layer({"a"}) == {"providers": {"a": {"circuit_breaker": {"half_open_limit": 5}}}}

    overlay = overlay.edited(("providers", "a"), {"circuit_breaker": {"failure_threshold": 9}}, in_base=False)

    own = {"failure_threshold": 9, "half_open_limit": 5}
    assert overlay.layer({"a"}) == {"providers": {"a": {"circuit_breaker": own}}}


@pytest.mark.parametrize("own", ["false", "true", "{ failure_threshold = 9 }"])
def test_a_tuned_breaker_is_mixed_into_the_file_s_and_waits_while_the_file_lets_it_only_measure(
    tmp_path: Path, own: str
) -> None:
    path = tmp_path / "runestone.toml"
    path.write_text(
        f'[providers.a]\nkind = "openai"\napi_key = "{{}}"\ncircuit_breaker = {own}\n'.replace("{}", "k" * 20)
    )
    path.chmod(0o600)
    loaded = build(read({}, path), {"breakers": {"a": {"half_open_limit": 5}, "b": {"half_open_limit": 5}}})

    (provider,) = loaded.settings.providers
    assert provider.circuit_breaker is (own != "false")
    assert provider.breaker.half_open_limit == (3 if own == "false" else 5)
    assert provider.breaker.failure_threshold == (9 if "9" in own else 5)
    origins = {e.key: e.origin for e in loaded.entries if e.written}
    assert origins.get("providers.a.circuit_breaker.half_open_limit") == (None if own == "false" else "runtime")


# -- lines ------------------------------------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
leaves = st.integers() | st.booleans() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)
tables = st.recursive(
    st.dictionaries(names, leaves, max_size=3), lambda t: st.dictionaries(names, leaves | t, max_size=3), max_leaves=12
)


def paths(table: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in table.items():
        found += paths(value, (*path, key)) if isinstance(value, dict) else [((*path, key), value)]
    return found


@given(tables)
def test_the_line_of_a_key_is_the_line_that_has_it(table: dict[str, Any]) -> None:
    text = tomli_w.dumps(table)
    found = lines(text)
    rows = text.split("\n")

    for path, value in paths(table):
        row = rows[found[path] - 1]
        written = tomli_w.dumps({path[-1]: value}).split("\n")[0]
        assert row.strip() == written or row.startswith(written.partition("=")[0])


def test_strings_comments_and_brackets_hide_what_looks_like_a_key() -> None:
    text = (
        '# a = 1\na = """\nb = 2 [\n"""\nc = [ # ]\n  1,\n]\n[d."e.f"] # [x]\ng.h = { i = 1 }\n'
        "[[list]]\nz = '['\n[[list]]\nz = 2\n[list.sub]\ny = 1\n"
    )

    assert lines(text) == {
        ("a",): 2,
        ("c",): 5,
        ("d", "e.f"): 8,
        ("d", "e.f", "g"): 9,
        ("d", "e.f", "g", "h"): 9,
        ("list", "0"): 10,
        ("list", "0", "z"): 11,
        ("list", "1"): 12,
        ("list", "1", "z"): 13,
        ("list", "sub"): 14,
        ("list", "sub", "y"): 15,
    }


def test_what_is_inside_an_inline_table_is_where_that_begins_and_an_implied_table_where_its_first_key_is() -> None:
    found = lines("[a.b]\nc = { d = 1 }\n")

    assert line_of(found, ("a", "b", "c", "d")) == 2
    assert line_of(found, ("a",)) == 1
    assert line_of(found, ("x",)) is None


def test_a_file_s_origin_is_its_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("\n\n[retry]\njitter = false\n")

    found = {e.key: e.origin for e in build(read({}, path), {}).entries}

    assert found["retry.jitter"] == "mine.toml:4"
