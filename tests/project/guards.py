"""The guards of resilience: where each stands, what stands there without it, and the test that must then fail."""

from __future__ import annotations

from typing import Final

from attrs import frozen

_BREAKER: Final = "runestone/resilience/breaker.py"
_THROTTLE: Final = "runestone/resilience/throttle.py"
_QUARANTINE: Final = "runestone/resilience/quarantine.py"
_PLAN: Final = "runestone/failover/plan.py"
_CALL: Final = "runestone/failover/call.py"
_TRANSPORT: Final = "runestone/providers/transport.py"
_HEALTH: Final = "runestone/resilience/health.py"
_SELECTION: Final = "runestone/resilience/selection.py"
_RETRY: Final = "runestone/resilience/retry.py"
_ROUTER: Final = "runestone/failover/router.py"
_ATTEMPTS: Final = "runestone/failover/attempts.py"
_PROVIDER: Final = "runestone/providers/provider.py"
_MEMORY: Final = "runestone/providers/memory.py"
_MESSAGES: Final = "runestone/providers/messages.py"
_FAILURE: Final = "runestone/domain/failure.py"
_ERRORS: Final = "runestone/providers/codecs/errors.py"
_CONCURRENCY: Final = "runestone/resilience/concurrency.py"
_PASSING: Final = "runestone/providers/codecs/openai/passthrough_stream.py"
_EVENT_STREAM: Final = "runestone/http/event_stream.py"
_TRACES: Final = "runestone/telemetry/traces.py"
_SPANS: Final = "runestone/telemetry/spans.py"
_EXCHANGED: Final = "runestone/telemetry/exchanged.py"
_BODY: Final = "runestone/http/body.py"
_PROBING: Final = "runestone/resilience/probing.py"
_PROBE: Final = "runestone/providers/probe.py"
_PROBER: Final = "runestone/providers/prober.py"

_OF_BREAKER: Final = "tests/resilience/test_breaker.py::"
_OF_PLAN: Final = "tests/failover/test_plan.py::"
_OF_TRANSPORT: Final = "tests/providers/test_transport.py::"
_OF_HEALTH: Final = "tests/resilience/test_health.py::"
_OF_SELECTION: Final = "tests/resilience/test_selection.py::"
_OF_RETRY: Final = "tests/resilience/test_retry.py::"
_OF_ROUTER: Final = "tests/failover/test_router_actor.py::"
_OF_PROVIDER: Final = "tests/providers/test_provider_actor.py::"
_OF_LIMIT: Final = "tests/providers/test_concurrency_limit.py::"
_OF_FAILOVER: Final = "tests/e2e/test_failover.py::"
_OF_EVENT_STREAM: Final = "tests/http/test_event_stream.py::"
_OF_DRAIN: Final = "tests/e2e/test_drain.py::"
_OF_WIRE: Final = "tests/e2e/test_wire_safety.py::"
_OF_PROBING: Final = "tests/resilience/test_probing.py::"
_OF_PROBER: Final = "tests/providers/test_prober.py::"
_OF_TRACES: Final = "tests/telemetry/test_traces.py::"
_OF_SENDING: Final = "tests/telemetry/test_traces_actor.py::"
_OF_SPANS: Final = "tests/telemetry/test_spans.py::"
_OF_EXCHANGED: Final = "tests/telemetry/test_exchanged.py::"
_OF_CHECK: Final = "tests/e2e/test_check.py::"
_ROW: Final = "tests/e2e/test_faults.py::test_a_fault_is_told_counted_and_remembered_as_the_contract_says"


@frozen
class Guard:
    """``text`` occurs once in ``file``; with ``without`` in its place, ``test`` fails."""

    what: str
    file: str
    text: str
    without: str
    test: str


GUARDS: Final = [
    # -- breaker
    Guard(
        "a breaker opens at its threshold",
        _BREAKER,
        "failures >= self.policy.failure_threshold",
        "failures > self.policy.failure_threshold",
        f"{_OF_BREAKER}test_it_opens_at_the_threshold_of_consecutive_failures_and_not_before",
    ),
    Guard(
        "a few calls have no ratio",
        _BREAKER,
        "if calls < policy.window_calls:",
        "if calls < 0:",
        f"{_OF_BREAKER}test_nine_calls_are_too_few_for_a_ratio",
    ),
    Guard(
        "stragglers have no say",
        _BREAKER,
        "if permit.generation != self.generation:",
        "if permit.generation < 0:",
        f"{_OF_BREAKER}test_a_straggler_from_before_the_opening_changes_nothing",
    ),
    Guard(
        "a client that leaves is no failure and no success",
        _BREAKER,
        'if outcome == "neutral":',
        'if outcome == "nothing":',
        f"{_OF_BREAKER}test_a_neutral_end_counts_for_nothing_and_does_not_interrupt_a_row_of_failures",
    ),
    Guard(
        "probes have a limit",
        _BREAKER,
        "if len(out) < self.policy.half_open_limit:",
        "if len(out) <= self.policy.half_open_limit:",
        f"{_OF_BREAKER}test_half_open_lets_three_probes_out_at_once_and_no_more",
    ),
    Guard(
        "a lost probe blocks nobody for ever",
        _BREAKER,
        "if deadline > now}",
        "if deadline > 0}",
        f"{_OF_BREAKER}test_a_probe_whose_deadline_has_passed_makes_room_for_another",
    ),
    Guard(
        "one bad probe opens it again",
        _BREAKER,
        'case HalfOpen() if outcome == "failure" or ',
        'case HalfOpen() if outcome == "nothing" or ',
        f"{_OF_BREAKER}test_one_bad_probe_opens_it_again_though_another_was_good",
    ),
    Guard(
        "a slow probe is a bad one",
        _BREAKER,
        'or (slow and outcome == "success"):',
        "or False:",
        f"{_OF_BREAKER}test_a_slow_probe_opens_it_again",
    ),
    Guard(
        "open it lets nothing through",
        _BREAKER,
        "case Open(until) if now < until:\n                return BreakerRefusal",
        "case Open(until) if until < now:\n                return BreakerRefusal",
        f"{_OF_BREAKER}test_open_it_lets_nothing_through_before_its_time_and_says_when_to_come_back",
    ),
    Guard(
        "half of the calls in the window open it",
        _BREAKER,
        "failed >= policy.window_ratio * calls",
        "failed > 99 * calls",
        f"{_OF_BREAKER}test_half_of_ten_calls_within_thirty_seconds_opens_it_though_no_row_is_long",
    ),
    Guard(
        "slow first tokens open it",
        _BREAKER,
        "slow >= policy.slow_ratio * calls",
        "slow > 99 * calls",
        f"{_OF_BREAKER}test_it_opens_at_eight_slow_first_tokens_of_ten_and_not_before",
    ),
    Guard(
        "what is older than the window is no part of it",
        _BREAKER,
        "if b[0] > number - _BUCKETS)",
        "if b[0] > -1)",
        f"{_OF_BREAKER}test_calls_older_than_the_window_do_not_count_in_the_ratio",
    ),
    Guard(
        "each re-opening doubles the time",
        _BREAKER,
        "2.0 ** min(self.reopenings, _DOUBLINGS)",
        "1.0",
        f"{_OF_BREAKER}test_each_reopening_doubles_the_recovery_time_up_to_five_minutes",
    ),
    Guard(
        "a recovery time is varied",
        _BREAKER,
        "(1 + policy.jitter * (2 * chance - 1))",
        "1.0",
        f"{_OF_BREAKER}test_the_recovery_time_varies_by_a_tenth",
    ),
    Guard(
        "one good probe of several does not close it",
        _BREAKER,
        "if state.good >= min(2, self.policy.half_open_limit):",
        "if state.good >= 1:",
        f"{_OF_BREAKER}test_two_good_probes_close_it_or_one_where_only_one_may_be_out",
    ),
    Guard(
        "a neutral end gives the probe back",
        _BREAKER,
        "for k, v in state.probes.items() if k != permit.id",
        "for k, v in state.probes.items()",
        f"{_OF_BREAKER}test_a_neutral_end_gives_the_probe_back",
    ),
    Guard(
        "forced open it lets nothing through",
        _BREAKER,
        "case ForcedOpen(until) if until is None or now < until:\n                return BreakerRefusal",
        "case ForcedOpen(until) if now < 0:\n                return BreakerRefusal",
        f"{_OF_BREAKER}test_forced_open_lets_nothing_through_until_it_is_lifted",
    ),
    Guard(
        "disabled it never opens",
        _BREAKER,
        "if too_bad and isinstance(self.state, Closed):",
        "if too_bad:",
        f"{_OF_BREAKER}test_disabled_it_measures_and_never_refuses",
    ),
    Guard(
        "a probe is judged at its commit point",
        _PROVIDER,
        "        if probe:\n            self._settle",
        "        if False:\n            self._settle",
        f"{_OF_PROVIDER}test_a_probe_is_judged_at_its_first_content",
    ),
    Guard(
        "a crash keeps what was learned",
        _PROVIDER,
        "memory.crashed_at is not None and now - memory.crashed_at < _CRASH_WINDOW_SECONDS",
        "now >= 0.0",
        f"{_OF_PROVIDER}test_a_crash_keeps_breaker_score_throttle_and_leases",
    ),
    Guard(
        "a second crash soon after starts fresh",
        _PROVIDER,
        '                memory.forget(now, "crashes")',
        "                pass",
        f"{_OF_PROVIDER}test_a_second_crash_within_the_window_starts_fresh_and_keeps_the_leases",
    ),
    Guard(
        "a refused request eats no probe",
        _PROVIDER,
        "if refusal is None:\n            before, counts",
        "if True:\n            before, counts",
        f"{_OF_PROVIDER}test_a_refused_request_eats_no_probe",
    ),
    Guard(
        "without a circuit breaker nothing is refused",
        _PROVIDER,
        "elif counts:  # else it only measures",
        "else:",
        f"{_OF_PROVIDER}test_without_a_circuit_breaker_it_measures_and_never_refuses",
    ),
    # -- leases and restarts
    Guard(
        "a request that ends gives its lease back",
        _PROVIDER,
        'self._released(Release(lease_id, "neutral", None, ""))',
        "pass",
        f"{_OF_PROVIDER}test_the_end_of_its_owner_gives_a_lease_back_as_neutral",
    ),
    Guard(
        "a lease that comes too late goes back",
        _MESSAGES,
        '            reply.release("neutral")',
        "            pass",
        f"{_OF_PROVIDER}test_a_caller_that_gives_up_at_the_very_reply_and_lives_on_holds_no_lease",
    ),
    Guard(
        "the next incarnation watches the leases that are out",
        _PROVIDER,
        "        for record in memory.leases.values():\n            self._watch(record)",
        "",
        f"{_OF_PROVIDER}test_the_next_incarnation_watches_the_owners_of_the_leases_that_are_out",
    ),
    Guard(
        "a restart is a clean slate",
        "runestone/providers/roster.py",
        "memory.forget(now)",
        "pass",
        "tests/providers/test_roster.py::test_a_restart_is_a_clean_slate_with_the_same_connections_and_the_leases_kept",
    ),
    Guard(
        "a restart keeps the leases",
        _MEMORY,
        "        self.ended_cleanly, self.crashed_at = True, None",
        "        self.ended_cleanly, self.crashed_at = True, None\n        self.leases.clear()",
        "tests/providers/test_roster.py::test_a_restart_is_a_clean_slate_with_the_same_connections_and_the_leases_kept",
    ),
    # -- what counts
    Guard(
        "a 429 is no failure",
        _FAILURE,
        '"rate_limited": Treatment(\n        outcome="neutral"',
        '"rate_limited": Treatment(\n        outcome="failure"',
        f"{_ROW}[429 retry_after=30, openai to openai, whole]",
    ),
    Guard(
        "a spent quota is no limit of the rate",
        _ERRORS,
        'return "quota_exceeded"\n    if kind is not None:',
        'return "rate_limited"\n    if kind is not None:',
        "tests/providers/test_errors_table.py::test_a_spent_quota_is_told_from_a_limit_of_the_rate",
    ),
    Guard(
        "a wrong key takes the provider out",
        _PROVIDER,
        'case "credentials" | "quota_exceeded":',
        'case "credentials_" | "quota_exceeded":',
        f"{_ROW}[401, openai to openai, whole]",
    ),
    Guard(
        "a model that is refused takes only itself out",
        _PROVIDER,
        "memory.quarantine.add(now, release.model, failure.kind",
        "memory.quarantine.add(now, None, failure.kind",
        f"{_OF_PROVIDER}test_a_model_that_is_refused_is_out_for_a_minute_and_the_others_are_not",
    ),
    Guard(
        "a name that was only passed on takes nothing out",
        _PROVIDER,
        '"not_found" if memory.serves(release.model) and tells',
        '"not_found" if tells',
        f"{_OF_PROVIDER}test_a_name_that_was_only_passed_on_is_never_quarantined",
    ),
    Guard(
        "an error in a 200 is a failure",
        _PASSING,
        'elif chunk.get("error") is not None:',
        'elif chunk.get("error") == 0:',
        f"{_ROW}[error_event, openai to openai, stream]",
    ),
    Guard(
        "a timeout is not asked for again",
        _FAILURE,
        '"first_token_timeout": _failure("upstream_timeout", retry=False',
        '"first_token_timeout": _failure("upstream_timeout", retry=True',
        f"{_ROW}[stall, openai to openai, stream]",
    ),
    Guard(
        "our own wrong key is not the client's",
        "runestone/domain/errors.py",
        'ours = failure.kind == "credentials"',
        'ours = failure.kind == "credentials_"',
        f"{_ROW}[401, openai to openai, whole]",
    ),
    Guard(
        "no key and no URL survives in an error",
        _ERRORS,
        'return _URLS.sub("[url]", _KEYS.sub("***", text))',
        "return text",
        "tests/providers/test_upstream_errors.py::test_no_key_and_no_url_survives_in_any_word_of_an_error",
    ),
    # -- who goes first
    Guard(
        "round robin takes turns",
        _SELECTION,
        "turn = cursor % max(len(order), 1)",
        "turn = 0",
        f"{_OF_SELECTION}test_round_robin_goes_around",
    ),
    Guard(
        "of two the one with less load",
        _SELECTION,
        "better, worse = sorted((first, second), key=_load)",
        "better, worse = first, second",
        f"{_OF_SELECTION}test_load_balanced_of_two_takes_the_one_with_less_expected_load",
    ),
    Guard(
        "weights count",
        _SELECTION,
        "/ max(candidate.weight, 1e-9)",
        "",
        f"{_OF_SELECTION}test_load_balanced_counts_load_by_weight",
    ),
    Guard(
        "the slow are tried now and then",
        _SELECTION,
        "if order and chance() < _EXPLORATION:",
        "if False:",
        f"{_OF_SELECTION}test_fastest_first_explores_in_five_of_a_hundred_requests",
    ),
    Guard(
        "a price that is not known comes last",
        _SELECTION,
        "key=lambda c: (c.price is None, c.price or 0.0)",
        "key=lambda c: c.price or 0.0",
        f"{_OF_SELECTION}test_cost_optimized_takes_the_cheapest_and_an_unknown_price_last",
    ),
    Guard(
        "the healthiest goes first",
        _SELECTION,
        "order.sort(key=lambda c: -c.score)",
        "pass",
        f"{_OF_SELECTION}test_health_aware_takes_the_highest_score_and_of_equals_the_listed_first",
    ),
    Guard(
        "the only provider is never out by its score",
        _PLAN,
        ", *((left[c.name], tier, True) for c in poor))",
        ",)",
        f"{_OF_PLAN}test_where_none_is_good_enough_the_best_serves",
    ),
    Guard(
        "out below the threshold, back a tenth above it",
        _ROUTER,
        "limit = min(group.health_threshold + 0.1, 1.0) if out else group.health_threshold",
        "limit = group.health_threshold",
        f"{_OF_ROUTER}test_one_below_the_threshold_is_out_and_back_at_a_tenth_above_it",
    ),
    Guard(
        "one that recovers gets its probes",
        _ROUTER,
        ' or memory.breaker.name(self.now()) == "half_open":',
        ":",
        f"{_OF_ROUTER}test_one_that_recovers_gets_its_probes_beside_the_healthy_and_is_back",
    ),
    Guard(
        "it is said that the best serves for want of a good one",
        _ROUTER,
        "if panic and plan.turn not in self._panics and",
        "if panic and not self._panics and False and",
        f"{_OF_ROUTER}test_that_the_best_serves_for_want_of_a_good_one_is_said_once_and_so_is_its_end",
    ),
    # -- health score
    Guard(
        "success is squared",
        _HEALTH,
        "return success * success, latency",
        "return success, latency",
        f"{_OF_HEALTH}test_success_is_squared",
    ),
    Guard(
        "a provider is measured by its own baseline",
        _HEALTH,
        "_TOLERANCE * self.baseline_seconds",
        "_TOLERANCE * 1.0",
        f"{_OF_HEALTH}test_a_slow_provider_with_a_slow_baseline_is_as_healthy_as_a_fast_one",
    ),
    Guard(
        "evidence fades",
        _HEALTH,
        "weight = min(self.all * _fading(now - self.at), 1.0)",
        "weight = min(self.all, 1.0)",
        f"{_OF_HEALTH}test_old_evidence_fades_without_a_jump_until_the_score_is_one_again",
    ),
    Guard(
        "what is left of the rate limit counts",
        _HEALTH,
        "min(1.0, (1.0 - spent) / _AMPLE)",
        "1.0",
        f"{_OF_HEALTH}test_the_last_fifth_of_the_rate_limit_lowers_the_score",
    ),
    Guard(
        "the breaker counts",
        _HEALTH,
        "headroom * _BREAKER[breaker], 0.0)",
        "headroom, 0.0)",
        f"{_OF_HEALTH}test_the_breaker_counts_in_full_half_or_not_at_all",
    ),
    Guard(
        "headers tell what is left",
        _PROVIDER,
        "if message.headroom is not None:",
        "if False:",
        f"{_OF_PROVIDER}test_what_an_answer_says_is_left_of_the_rate_limit_moves_the_score_until_it_fades",
    ),
    # -- what may be carried
    Guard(
        "calls that were out together lower the limit once",
        "runestone/resilience/concurrency.py",
        "if not self.policy.adaptive or began < self.lowered_at:",
        "if not self.policy.adaptive:",
        "tests/resilience/test_concurrency.py::test_calls_that_were_out_together_lower_it_once",
    ),
    Guard(
        "the keys take turns",
        "runestone/providers/waiting.py",
        "self._of[key] = waiting  # behind the other keys",
        "self._of[key] = waiting; self._of.move_to_end(key, last=False)",
        "tests/providers/test_waiting.py::test_keys_take_turns_and_each_key_keeps_its_order",
    ),
    Guard(
        "who leaves the line takes no place",
        "runestone/providers/provider.py",
        "case Down(monitor=monitor) if (waiting := self._left.get(monitor)) is not None:",
        "case Down(monitor=monitor) if False and (waiting := self._left.get(monitor)) is not None:",
        "tests/providers/test_concurrency_limit.py::test_a_client_that_leaves_the_line_takes_no_place",
    ),
    Guard(
        "one key leaves room for others",
        "runestone/resilience/shedding.py",
        "return held < limit / max(sharing, 2) or taken < limit - max(limit // 10, 1)",
        "return True",
        "tests/resilience/test_shedding.py::test_one_key_among_several_leaves_a_tenth_to_the_others",
    ),
    Guard(
        "a place is given back",
        "runestone/load.py",
        "        self._load.give_back(self._key)",
        "        pass",
        "tests/test_load.py::test_places_are_given_back_however_the_request_ends",
    ),
    Guard(
        "a provider has no more calls than its limit",
        _CONCURRENCY,
        "return limit is not None and in_flight >= limit",
        "return limit is not None and in_flight > limit",
        f"{_OF_LIMIT}test_more_calls_are_never_out_than_the_limit_whatever_the_schedule",
    ),
    Guard(
        "too much lowers the limit",
        _CONCURRENCY,
        "min(self.found, float(in_flight)) * _DECREASE",
        "min(self.found, float(in_flight))",
        f"{_OF_LIMIT}test_an_adaptive_limit_is_lowered_by_429_and_529_and_raised_by_success",
    ),
    Guard(
        "a 529 is too much",
        _PROVIDER,
        '("rate_limited", "overloaded")',
        '("rate_limited",)',
        f"{_OF_LIMIT}test_an_adaptive_limit_is_lowered_by_429_and_529_and_raised_by_success",
    ),
    Guard(
        "a line has an end",
        _PROVIDER,
        "if len(self._line) >= policy.queue or seconds <= 0:",
        "if seconds <= 0:",
        f"{_OF_LIMIT}test_a_full_line_takes_nobody",
    ),
    Guard(
        "nobody waits beyond its deadline",
        _PROVIDER,
        "min(policy.queue_seconds, acquire.round.admit.deadline - self.now())",
        "policy.queue_seconds",
        f"{_OF_LIMIT}test_nobody_waits_beyond_its_own_deadline",
    ),
    Guard(
        "a place that is free is offered to the line",
        _PROVIDER,
        "        if self._line:\n            self._serve_the_line()",
        "        pass",
        f"{_OF_LIMIT}test_where_all_are_at_their_limit_the_request_waits_for_the_first_place",
    ),
    Guard(
        "who is refused is refused before its body is read",
        "runestone/http/inference.py",
        "        with self.gateway.load.place(key, settings):",
        "        await body.read(exchange, limit_bytes=settings.server.body_limit_bytes)\n        with self.gateway.load.place(key, settings):",
        "tests/e2e/test_load.py::test_more_requests_than_the_node_may_carry_are_refused_before_their_body_is_read",
    ),
    Guard(
        "connections have a cap",
        "runestone/http/http11.py",
        "self._unwanted = self.config.connections > self.config.most()",
        "self._unwanted = False",
        "tests/http/test_http11.py::test_a_connection_above_the_cap_is_told_so_and_closed_and_makes_room_for_none",
    ),
    Guard(
        "others' load is not refused to who has less",
        "runestone/resilience/shedding.py",
        "return chance < self.share and (held + 1) * sharing > taken",
        "return chance < self.share",
        "tests/resilience/test_shedding.py::test_the_load_of_others_is_not_refused_to_who_has_less_than_a_share",
    ),
    # -- throttle and quarantine
    Guard(
        "who would wait too long at the door is told at once",
        "runestone/resilience/accept_queue.py",
        "return seen, max(waiting - max(int(rate * patience), _FEWEST), over)",
        "return seen, over",
        "tests/resilience/test_accept_queue.py::test_a_lasting_queue_is_kept_as_short_as_patience_and_what_can_be_served_is",
    ),
    Guard(
        "the system never has to drop who waits at the door",
        "runestone/resilience/accept_queue.py",
        "over = max(waiting - most, 0)",
        "over = 0",
        "tests/e2e/test_load.py::test_none_of_a_crowd_that_the_system_could_not_keep_much_longer_is_dropped",
    ),
    Guard(
        "who is turned away at the door can send all of its request",
        "runestone/http/door.py",
        "gone = not connection.recv(_READ_BYTES)",
        "gone = True",
        "tests/http/test_door.py::test_one_that_sends_more_than_the_system_keeps_can_send_it_all_and_read_the_answer",
    ),
    Guard(
        "who is above the cap can send all of its request",
        "runestone/http/http11.py",
        "            self._linger()\n            return",
        "            self.expire()\n            return",
        "tests/http/test_http11.py::test_who_is_refused_while_sending_can_send_it_all_and_reads_the_answer",
    ),
    Guard(
        "who comes while the loop stands still is let in",
        "runestone/resilience/accept_queue.py",
        "if rate is None or looks < _BURST_LOOKS:",
        "if rate is None:",
        "tests/resilience/test_accept_queue.py::test_a_burst_that_is_served_within_a_second_is_let_in",
    ),
    Guard(
        "a 429 never brings the end nearer",
        _THROTTLE,
        "max(self.until, until)",
        "until",
        "tests/resilience/test_throttle.py::test_a_429_never_brings_the_end_nearer_and_always_takes_it_out",
    ),
    Guard(
        "calls in flight together meet one limit",
        _THROTTLE,
        "if self.retry_after(now) is not None:",
        "if self.hits < 0:",
        "tests/resilience/test_throttle.py::test_calls_that_were_in_flight_together_double_nothing",
    ),
    Guard(
        "a quarantine is not cut short",
        _QUARANTINE,
        "until = max(until, kept.pop(scope)[0])",
        "kept.pop(scope)",
        "tests/resilience/test_quarantine.py::test_a_shorter_time_does_not_cut_a_longer_one_short",
    ),
    Guard(
        "names from clients do not fill it",
        _QUARANTINE,
        ">= _MODELS:",
        ">= 10**9:",
        "tests/resilience/test_quarantine.py::"
        "test_names_from_clients_fill_it_only_so_far_and_never_keep_the_provider_itself_in",
    ),
    Guard(
        "a 429 without a time doubles",
        _THROTTLE,
        "min(self.hits + 1, 10)",
        "self.hits",
        "tests/resilience/test_throttle.py::test_without_a_time_it_is_out_for_a_second_then_twice_as_long_each_time_up_to_a_minute",
    ),
    Guard(
        "who is throttled is not asked",
        _MEMORY,
        "(wait := self.throttle.retry_after(now)) is not None",
        "(wait := None) is not None",
        "tests/e2e/test_storms.py::test_a_provider_that_throttles_is_not_called_before_its_time_and_its_breaker_stays_closed",
    ),
    Guard(
        "who is quarantined is not asked",
        _MEMORY,
        "(wait := self.quarantine.retry_after(model, now)) is not None",
        "(wait := None) is not None",
        f"{_OF_PROVIDER}test_a_wrong_key_and_a_spent_quota_take_the_whole_provider_out_for_five_minutes",
    ),
    Guard(
        "who is drained is not asked",
        _MEMORY,
        "if self.draining and (self.leaving or not trial):",
        "if self.leaving:",
        f"{_OF_PROVIDER}test_draining_takes_nothing_new_and_lets_what_runs_end",
    ),
    # -- retries
    Guard(
        "retries have a budget",
        "runestone/resilience/retry_budget.py",
        "granted = balance >= 1.0",
        "granted = balance >= -1e9",
        "tests/resilience/test_retry_budget.py::test_under_steady_load_a_storm_gets_a_fifth_and_three_a_second",
    ),
    Guard(
        "upstream calls have a limit",
        _PLAN,
        "    if admit.calls >= rules.max_upstream_calls:",
        "    if admit.calls < 0:",
        f"{_OF_PLAN}test_at_the_limit_of_upstream_calls_nobody_is_asked_and_nothing_is_waited_for",
    ),
    Guard(
        "who has waited does not wait again",
        _PLAN,
        "if wait is not None and not admit.waited:",
        "if wait is not None:",
        f"{_OF_PLAN}test_who_has_waited_already_does_not_wait_again",
    ),
    Guard(
        "a long wait is worse than the other provider",
        _PLAN,
        "wait <= _SHORT_WAIT_SECONDS",
        "wait <= 1e9",
        "tests/e2e/test_stand_in.py::test_the_other_provider_gives_one_clean_answer[503 retry_after=5-1-whole-openai]",
    ),
    Guard(
        "a truncated answer is not asked for again",
        "runestone/domain/failure.py",
        '_failure("upstream_truncated", retry=False)',
        '_failure("upstream_truncated", retry=True)',
        f"{_ROW}[cut at=100, openai to openai, whole]",
    ),
    Guard(
        "the caller's own error ends the loop",
        "runestone/failover/attempts.py",
        "if not failure.may_fail_over:",
        "if failure is None:",
        "tests/e2e/test_stand_in.py::test_the_callers_own_error_is_told_at_once[400-openai]",
    ),
    Guard(
        "a failed attempt gives its lease back with its failure",
        "runestone/failover/attempts.py",
        "            await call.close()\n            self._past_seconds",
        "            self._past_seconds",
        f"{_ROW}[500, openai to openai, whole]",
    ),
    Guard(
        "a back-off is drawn",
        _RETRY,
        "return limit * chance if self.jitter else limit",
        "return limit",
        f"{_OF_PLAN}test_the_back_off_is_full_jitter_by_the_number_of_calls_so_far",
    ),
    Guard(
        "a back-off has a limit",
        _RETRY,
        "limit = min(self.cap_seconds, ",
        "limit = max(0.0, ",
        f"{_OF_RETRY}test_the_bound_grows_by_the_factor_up_to_thirty_seconds",
    ),
    Guard(
        "an upstream that says when is heeded",
        _PLAN,
        "seconds = last.failure.retry_after_seconds + _SETTLE_SECONDS",
        "pass",
        f"{_OF_PLAN}test_the_upstreams_time_goes_before_the_back_off_and_is_not_cut_short",
    ),
    Guard(
        "no wait goes beyond the deadline",
        _PLAN,
        "return seconds if now + seconds < admit.deadline else None",
        "return seconds",
        f"{_OF_PLAN}test_a_wait_beyond_the_deadline_is_not_begun",
    ),
    Guard(
        "an upstream that says no is heeded",
        _FAILURE,
        "self.treatment.retry and self.should_retry is not False",
        "self.treatment.retry",
        f"{_OF_PLAN}test_an_upstream_that_says_no_is_not_asked_again",
    ),
    Guard(
        "an upstream that asks for a retry after a 409 is heeded",
        _FAILURE,
        "if self.should_retry and self.status in _RETRIED_IF_ASKED:",
        "if False:",
        "tests/e2e/test_asked_to_retry.py::"
        "test_what_a_provider_asks_to_be_tried_again_is_tried_again_there_and_nothing_else_is[true-409]",
    ),
    Guard(
        "no word of an upstream makes the caller's own error another's",
        _FAILURE,
        "_RETRIED_IF_ASKED: Final = frozenset({408, 409})",
        "_RETRIED_IF_ASKED: Final = frozenset({400, 408, 409})",
        "tests/domain/test_failure.py::"
        "test_no_word_of_an_upstream_makes_a_retry_of_what_the_contract_names_as_never_retried[400]",
    ),
    Guard(
        "attempts at one provider have a limit",
        _PLAN,
        "last.calls >= retry.max_attempts",
        "last.calls < 0",
        f"{_OF_PLAN}test_the_attempts_at_one_provider_are_bounded_and_the_first_try_counts",
    ),
    Guard(
        "who has failed is not asked again",
        _PLAN,
        "if c.provider not in failed and c.provider in scene",
        "if c.provider in scene",
        f"{_OF_PLAN}test_one_that_failed_is_not_asked_again",
    ),
    Guard(
        "providers that are tried have a limit",
        _PLAN,
        ">= rules.max_attempts:",
        ">= 99:",
        f"{_OF_PLAN}test_no_more_providers_are_tried_than_allowed_but_the_last_may_be_retried",
    ),
    Guard(
        "a throttled provider is not waited for while another may serve",
        _PLAN,
        ' and last.failure.kind != "rate_limited"',
        "",
        f"{_OF_PLAN}test_a_throttled_provider_is_not_waited_for_while_tier_2_may_serve",
    ),
    Guard(
        "the first failover is free",
        _ROUTER,
        "> 1 or admit.waited",
        "> 0 or admit.waited",
        f"{_OF_ROUTER}test_the_first_failover_of_a_request_is_free_of_the_budget",
    ),
    Guard(
        "who only could not serve a field has cost nothing",
        _ROUTER,
        'sum(t.failure.kind != "unsupported" for t in admit.tried) > 1',
        "len(admit.tried) > 1",
        f"{_OF_ROUTER}test_one_that_cannot_serve_a_field_is_no_failover_and_costs_nothing_of_the_budget",
    ),
    Guard(
        "tier 2 does not answer for a model that is not known",
        _PLAN,
        't.failure.kind == "not_found" and t.tier == 1',
        't.failure.kind == "nothing"',
        f"{_OF_PLAN}test_a_model_that_tier_1_does_not_know_is_never_answered_by_tier_2",
    ),
    # -- who is left
    Guard(
        "who has met only failures is told when to come back",
        _ATTEMPTS,
        "(error.status == 429 or error.status >= 500) and",
        "error.status < 0 and",
        f"{_OF_FAILOVER}test_who_has_met_only_failures_is_told_when_to_come_back_and_not_to_pile_on[503-503-1]",
    ),
    Guard(
        "the time of one that is shut counts",
        _ROUTER,
        "if refusal is None and shut is None:",
        "if True:",
        f"{_OF_ROUTER}test_when_all_have_failed_it_is_told_when_the_first_of_them_may_be_asked_again[failed0-10.0]",
    ),
    Guard(
        "a failure is not replaced by a later refusal",
        _ATTEMPTS,
        "if served or (self._admit.tried and not refused1):",
        "if False:",
        f"{_OF_FAILOVER}test_an_upstreams_word_is_not_replaced_by_the_refusal_of_the_next_one[404-404]",
    ),
    Guard(
        "all throttled is a 429",
        _ATTEMPTS,
        'all(r.reason == "throttled" for r in exhausted.refusals)\n',
        "None\n",
        "tests/e2e/test_chat.py::test_429_reaches_the_client_when_every_candidate_is_throttled",
    ),
    Guard(
        "the soonest of all times is told",
        _MESSAGES,
        "return min((seconds for seconds in times",
        "return max((seconds for seconds in times",
        f"{_OF_FAILOVER}test_every_breaker_open_is_503_with_the_soonest_time",
    ),
    Guard(
        "clients are told not to pile on",
        "runestone/http/errors.py",
        "if error.should_retry is not None:",
        "if False:",
        f"{_OF_FAILOVER}test_every_breaker_open_is_503_with_the_soonest_time",
    ),
    # -- one call
    Guard(
        "a stalled stream is ended",
        "runestone/failover/idle.py",
        "self._stream.fail(",
        "repr(",
        f"{_ROW}[stall after=5, openai to openai, stream]",
    ),
    Guard(
        "silence has a limit",
        _CALL,
        "async with asyncio.timeout(limit):",
        "async with asyncio.timeout(None):",
        f"{_ROW}[stall, openai to openai, stream]",
    ),
    Guard(
        "the head is held until the first content",
        _CALL,
        "if piece.content or piece.finished:",
        "if piece.data:",
        f"{_ROW}[cut after=1, openai to openai, stream]",
    ),
    Guard(
        "a finished stream is not waited for",
        _CALL,
        "self._idle.end_within(_AFTER_END_SECONDS)",
        "self._idle.pause()",
        "tests/e2e/test_storms.py::test_a_stream_whose_end_has_come_is_whole_though_its_provider_says_no_more",
    ),
    Guard(
        "what comes before the first content has a limit",
        _CALL,
        "if self._received > _HEAD_BYTES:",
        "if self._received < 0:",
        f"{_ROW}[comments, openai to openai, stream]",
    ),
    Guard(
        "a status holds though its body breaks off",
        _CALL,
        "with suppress(UpstreamError, TimeoutError):",
        "with suppress(TimeoutError):",
        f"{_ROW}[429 retry_after=30 cut at=20, openai to openai, whole]",
    ),
    Guard(
        "a status holds though its body never comes",
        _CALL,
        "asyncio.timeout(min(_ERROR_BODY_SECONDS, self._timeouts.idle_seconds))",
        "asyncio.timeout(None)",
        f"{_ROW}[429 retry_after=30 stall at=20, openai to openai, whole]",
    ),
    Guard(
        "an error in one piece is the error that it says, for a stream too",
        _CALL,
        'elif "json" in kind:',
        'elif "nothing" in kind:',
        "tests/e2e/test_nonsense.py::"
        "test_a_stream_that_is_answered_by_an_error_in_one_piece_has_met_that_error_and_goes_elsewhere"
        "[insufficient_quota-1-0-quarantined]",
    ),
    Guard(
        "a page is no stream",
        _CALL,
        'elif "html" in kind:',
        'elif "nothing" in kind:',
        f"{_ROW}[html, openai to openai, stream]",
    ),
    Guard(
        "a truncated stream is never shown as whole",
        "runestone/providers/codecs/openai/passthrough_stream.py",
        "if self._finished:",
        "if self._content:",
        "tests/e2e/test_cut_anywhere.py::"
        "test_a_stream_that_is_cut_at_any_byte_is_told_once_and_counted_once[openai-openai]",
    ),
    Guard(
        "an event has a limit",
        "runestone/providers/sse.py",
        "return self._size > self._limit",
        "return self._size > 99 * self._limit",
        "tests/providers/test_sse.py::test_a_line_without_end_is_noticed_before_it_is_kept_for_long",
    ),
    Guard(
        "a read of thousands of empty events is no single turn of the loop",
        _CALL,
        "end = turn(data, begin)",
        "end = len(data)",
        "tests/failover/test_turns.py::"
        "test_others_have_their_turns_within_a_read_of_empty_events_and_the_answer_is_the_same[after it-comments]",
    ),
    Guard(
        "[DONE] without a finish reason is no end",
        _PASSING,
        "if self._finished or (self._seen_choices and self._seen_choices <= self._finished_choices):",
        "if True:",
        "tests/providers/test_openai_codec_stream.py::test_what_is_not_whole_fails_after_what_came_before",
    ),
    Guard(
        "a model that thinks first is waited for",
        _CALL,
        "self._prompt = chat.stream and not thinks_first(lease.choice.model)",
        "self._prompt = chat.stream",
        "tests/e2e/test_load.py::test_a_model_that_thinks_first_is_waited_for",
    ),
    Guard(
        "a slow client is not its provider's fault",
        "runestone/failover/idle.py",
        "due = (now if self._since is None else self._since) + self._seconds",
        "due = (0.0 if self._since is None else self._since) + self._seconds",
        "tests/failover/test_idle.py::test_a_stream_that_nobody_reads_is_not_idle",
    ),
    Guard(
        "a client that waits is kept",
        _EVENT_STREAM,
        "if self._sending is None or self._sending.done():",
        "if False:",
        f"{_OF_EVENT_STREAM}test_fifteen_seconds_of_silence_are_a_comment_of_one_line",
    ),
    Guard(
        "no comment comes into a write",
        _EVENT_STREAM,
        '        """The writer has something to write."""\n        self._since = None',
        '        """The writer has something to write."""',
        f"{_OF_EVENT_STREAM}test_no_heartbeat_comes_while_a_write_is_in_progress",
    ),
    Guard(
        "a heartbeat is no event",
        _EVENT_STREAM,
        'b": ping\\n"',
        'b": ping\\n\\n"',
        f"{_OF_EVENT_STREAM}test_fifteen_seconds_of_silence_are_a_comment_of_one_line",
    ),
    # -- the way to a provider
    Guard(
        "an answer has a limit",
        _TRANSPORT,
        "if self._left < 0:",
        "if self._left is None:",
        f"{_OF_TRANSPORT}test_an_answer_that_grows_over_the_limit_is_ended_but_a_stream_is_not",
    ),
    Guard(
        "what is compressed is not read",
        _TRANSPORT,
        'if encoding.strip().lower() not in ("", "identity"):',
        "if encoding is None:",
        f"{_ROW}[gzip_bomb, openai to openai, stream]",
    ),
    Guard(
        "a status holds though its body is compressed",
        _TRANSPORT,
        "if message.code >= 400:",
        "if message.code < 0:",
        f"{_ROW}[400 gzip_bomb, openai to openai, whole]",
    ),
    Guard(
        "a request that may have been worked on is not sent again",
        _TRANSPORT,
        "self._acked == _acked(self.transport) >= 0",
        "True",
        "tests/providers/test_transport_connections.py::"
        "test_it_is_not_sent_again_if_the_provider_may_have_seen_a_byte_of_it",
    ),
    # -- clients
    Guard(
        "a client that leaves is noticed",
        "runestone/http/disconnect.py",
        "call_later(_PATIENCE_SECONDS, self._listen)",
        "call_later(1e6, self._listen)",
        "tests/e2e/test_leaving.py::test_a_client_that_leaves_closes_the_upstream_within_a_second_and_blames_nobody",
    ),
    Guard(
        "a body is refused by its length",
        _BODY,
        'if int(exchange.headers.get(b"content-length", b"0")) > limit_bytes:',
        "if limit_bytes < 0:",
        f"{_OF_WIRE}test_a_request_over_a_limit_is_refused_with_its_reason",
    ),
    Guard(
        "a body is refused when it grows",
        _BODY,
        "if size > limit_bytes:",
        "if size < 0:",
        f"{_OF_WIRE}test_a_body_that_grows_over_the_limit_without_saying_so_is_refused",
    ),
    Guard(
        "an answer in one piece is whole though its time is over",
        "runestone/http/exchange.py",
        "            await self.send(whole)\n            raise",
        "            raise",
        "tests/http/test_exchange.py::test_an_answer_whose_client_is_slow_to_take_the_head_is_whole_though_its_time_is_over",
    ),
    Guard(
        "a refused body is read to its end",
        _BODY,
        "await asyncio.wait({drain}, timeout=_DRAIN_SECONDS)",
        "drain.cancel()",
        f"{_OF_WIRE}test_a_body_that_is_still_coming_when_its_request_is_refused_is_read_to_its_end",
    ),
    Guard(
        "a body has a deadline",
        "runestone/http/inference.py",
        "phase.request(now + server.body_timeout_seconds, self.route.path)",
        "phase.request(now + 1e6, self.route.path)",
        f"{_OF_WIRE}test_a_body_that_does_not_come_is_refused_after_its_deadline",
    ),
    Guard(
        "a Host is a name and a port",
        "runestone/auth/loopback.py",
        "not _HOST.fullmatch(host) or ",
        "",
        "tests/auth/test_loopback.py::test_only_a_loopback_host_is_served",
    ),
    Guard(
        "a request of two lengths is refused",
        "runestone/http/guard.py",
        'if b"content-length" in names and b"transfer-encoding" in names:',
        "if not names:",
        f"{_OF_WIRE}test_a_request_with_both_lengths_is_refused_closed_and_what_is_behind_it_not_served",
    ),
    Guard(
        "a draining node takes nothing new",
        "runestone/http/front.py",
        "        if self.gateway.phase.draining:\n            raise",
        "        if self.gateway.phase.cut:\n            raise",
        f"{_OF_DRAIN}test_while_draining_new_requests_are_refused_with_a_time_and_readiness_says_so",
    ),
    Guard(
        "a draining node is not ready",
        "runestone/http/health.py",
        "        if self.node.phase.draining:\n            return json_answer",
        "        if False:\n            return json_answer",
        f"{_OF_DRAIN}test_while_draining_new_requests_are_refused_with_a_time_and_readiness_says_so",
    ),
    Guard(
        "who outlasts a drain is told so",
        "runestone/gateway.py",
        "        self.cut = True",
        "        pass",
        f"{_OF_DRAIN}test_a_stream_that_outlasts_the_drain_is_told_in_band_and_gets_no_done",
    ),
    Guard(
        "who outlasts a drain is ended by a deadline of its own, not by the end of the tree",
        "runestone/gateway.py",
        "            deadline.reschedule(now)",
        "            pass",
        "tests/test_phase.py::test_a_drain_that_is_cut_short_brings_every_deadline_forward_to_now",
    ),
    # -- probes
    Guard(
        "one connection that failed says nothing",
        _PROBING,
        "_IN_A_ROW: Final = 2",
        "_IN_A_ROW: Final = 1",
        f"{_OF_PROBING}test_it_is_down_when_two_in_a_row_did_not_connect",
    ),
    Guard(
        "a call knows better than a probe",
        _PROBING,
        "self.unreachable >= _IN_A_ROW and last_call <= self.at and",
        "self.unreachable >= _IN_A_ROW and",
        f"{_OF_PROBER}test_a_call_that_ends_well_takes_back_what_probes_said",
    ),
    Guard(
        "what no probe confirms is forgotten",
        _PROBING,
        " and now < self.holds_until",
        "",
        f"{_OF_PROBING}test_what_is_not_confirmed_is_forgotten",
    ),
    Guard(
        "probes with a call between are not in a row",
        _PROBING,
        "self.unreachable if last_call <= self.at else 0",
        "self.unreachable",
        f"{_OF_PROBING}test_probes_before_and_after_a_call_are_not_in_a_row",
    ),
    Guard(
        "who does not want to be asked is asked less",
        _PROBING,
        "interval * 2.0**unwelcome",
        "interval",
        f"{_OF_PROBER}test_a_429_to_a_probe_has_no_effect_but_a_longer_pause",
    ),
    Guard(
        "who is called is not probed",
        _PROBING,
        "due = max(due, (now if busy else last_call) + interval)",
        "pass",
        f"{_OF_PROBER}test_a_provider_that_is_called_is_not_asked",
    ),
    Guard(
        "who has a call out is not probed",
        _PROBING,
        "(now if busy else last_call)",
        "last_call",
        f"{_OF_PROBER}test_a_provider_with_a_long_call_out_is_not_asked",
    ),
    Guard(
        "who is throttled or quarantined is not probed",
        _PROBER,
        'memory.admin_state == "maintenance" or out != (None, None)',
        'memory.admin_state == "maintenance"',
        f"{_OF_PROBER}test_who_is_not_to_be_asked_is_not",
    ),
    Guard(
        "who is in maintenance is not probed",
        _PROBER,
        'memory.admin_state == "maintenance" or out != (None, None)',
        "out != (None, None)",
        f"{_OF_PROBER}test_who_is_not_to_be_asked_is_not",
    ),
    Guard(
        "a probe over connections that are gone says nothing",
        _PROBER,
        "if self._memory.transport is message.transport:",
        "if True:",
        f"{_OF_PROBER}test_one_over_connections_that_were_replaced_meanwhile_says_nothing",
    ),
    Guard(
        "a prober that crashes all the time does not bring its supervisor to give up",
        _PROBER,
        "_AFTER_A_CRASH_SECONDS if self.incarnation > 1 else 0.0",
        "0.0",
        f"{_OF_PROBER}test_a_prober_that_crashes_at_every_probe_never_brings_its_provider_down",
    ),
    Guard(
        "who takes connections is not unreachable",
        _PROBE,
        'took("error", wrong)\n\n\n',
        'took("unreachable", wrong)\n\n\n',
        "tests/providers/test_probe.py::test_who_connects_and_says_nothing_is_not_unreachable",
    ),
    # -- throw-away providers
    Guard(
        "a throw-away provider is in no group that does not name it",
        "runestone/config/build.py",
        "tuple(one for one in usable if not is_throw_away(one))",
        "usable",
        "tests/config/test_file.py::test_a_provider_named_as_a_check_names_its_own_serves_only_groups_that_name_it",
    ),
    Guard(
        "a throw-away provider is no part of the node's health",
        "runestone/operations/node.py",
        "for name, memory in self.memories.items() if not is_throw_away(name)]",
        "for name, memory in self.memories.items()]",
        f"{_OF_CHECK}test_how_a_throw_away_provider_is_says_nothing_of_the_node",
    ),
    Guard(
        "a check's chats are no requests of the node",
        "runestone/operations/chat.py",
        "chat.group is not None and is_throw_away(chat.group)",
        "False",
        f"{_OF_CHECK}test_nothing_of_a_check_is_counted_booked_or_kept_by_the_name_of_its_providers",
    ),
    Guard(
        "a check takes away only what it has named itself",
        "runestone/check/stage.py",
        "[0-9a-f]{{6}}[a-z-]*",
        "[a-z-]*",
        f"{_OF_CHECK}test_a_provider_that_an_operator_has_named_so_is_left_alone",
    ),
    # -- traces
    Guard(
        "the queue of traces is bounded",
        _TRACES,
        "if len(self.queue) < QUEUE:",
        "if len(self.queue) >= 0:",
        f"{_OF_SENDING}test_while_a_collector_takes_nothing_requests_go_on_and_what_is_too_much_is_counted",
    ),
    Guard(
        "a collector that takes nothing does not hold up the end",
        _TRACES,
        "async with asyncio.timeout(FLUSH_SECONDS):",
        "async with asyncio.timeout(None):",
        f"{_OF_SENDING}test_a_collector_that_takes_nothing_holds_the_end_up_for_two_seconds_and_its_loss_is_counted",
    ),
    Guard(
        "one batch of traces is sent at a time",
        _TRACES,
        "if self._idle.is_set() and (batch",
        "if (batch",
        f"{_OF_SENDING}test_one_batch_is_sent_at_a_time",
    ),
    Guard(
        "a provider without telemetry is told of no trace",
        "runestone/telemetry/trace_context.py",
        "if self._sampled is None or not self.open:",
        "if self._sampled is None or not self.attempts:",
        f"{_OF_TRACES}test_a_provider_without_telemetry_has_no_span_and_is_told_nothing",
    ),
    Guard(
        "the loop has its turns while spans are made",
        _SPANS,
        "                time.sleep(0)  # lets",
        "                pass  # lets",
        f"{_OF_SPANS}test_the_loop_has_its_turns_while_spans_are_made_and_while_they_are_encoded",
    ),
    Guard(
        "the loop has its turns while spans are encoded",
        _SPANS,
        "                time.sleep(0)\n            yield span",
        "                pass\n            yield span",
        f"{_OF_SPANS}test_the_loop_has_its_turns_while_spans_are_made_and_while_they_are_encoded",
    ),
    Guard(
        "the surrounding program's trace is not ours",
        _SPANS,
        "    if parent is None:\n        return Context()",
        "    if parent is None:\n        return None  # type: ignore",
        f"{_OF_SPANS}test_what_the_surrounding_program_traces_has_no_part_in_it",
    ),
    Guard(
        "a model's name spoils no batch",
        _SPANS,
        'model[:_LONGEST].encode("utf-8", "replace").decode()',
        "model",
        f"{_OF_SPANS}test_no_name_of_a_model_spoils_the_batch_it_is_in",
    ),
    Guard(
        "a path of a client is not told",
        _SPANS,
        'finished.route if finished.route.startswith("/") else None',
        "finished.route",
        f"{_OF_TRACES}test_a_client_that_asks_nonsense_is_no_error_of_the_server",
    ),
    Guard(
        "a client's mistake is no error of the server",
        _SPANS,
        " and not 400 <= finished.status < 500",
        "",
        f"{_OF_TRACES}test_a_client_that_asks_nonsense_is_no_error_of_the_server",
    ),
    Guard(
        "a client that leaves is no error",
        _SPANS,
        'frozenset({"ok", "client_gone", "cancelled"})',
        'frozenset({"ok"})',
        f"{_OF_TRACES}test_a_client_that_leaves_makes_no_error",
    ),
    Guard(
        "what could not be sent was no call",
        _SPANS,
        "if call is None or call.outcome == _NO_CALL:",
        "if call is None:",
        f"{_OF_TRACES}test_a_field_that_a_provider_cannot_serve_makes_no_span_of_a_call",
    ),
    Guard(
        "a call ends with its request",
        _SPANS,
        "if latest is None else min(attempt.ended, latest)",
        "if latest is None else attempt.ended",
        f"{_OF_SPANS}test_a_call_that_is_put_away_after_the_last_byte_ended_with_it",
    ),
    Guard(
        "who answered is not who failed before",
        _SPANS,
        "if not calls or finished.provider not in (None, calls[-1][1].provider):",
        "if not calls:",
        f"{_OF_TRACES}test_a_provider_without_telemetry_has_no_span_and_is_told_nothing",
    ),
    Guard(
        "a setting that a provider is not sent is not told of its call",
        _EXCHANGED,
        "and name not in left_out and",
        "and",
        f"{_OF_TRACES}test_the_settings_of_a_request_are_told_of_each_call_as_far_as_it_was_sent_them",
    ),
    Guard(
        "an infinite setting, or one that is too large for a number, is not told",
        _EXCHANGED,
        " and -_DOUBLES <= value <= _DOUBLES else",
        " else",
        f"{_OF_EXCHANGED}test_a_setting_of_the_wrong_kind_is_not_told",
    ),
    Guard(
        "an integer that OTLP cannot hold is not told",
        _EXCHANGED,
        " and -_INTEGERS <= value < _INTEGERS else",
        " else",
        f"{_OF_EXCHANGED}test_a_setting_of_the_wrong_kind_is_not_told",
    ),
    Guard(
        "an answer's id is no text",
        _EXCHANGED,
        "and isinstance(answer.id, str) and _ID.fullmatch(answer.id):",
        "and isinstance(answer.id, str):",
        f"{_OF_EXCHANGED}test_what_a_provider_makes_up_is_bounded_and_no_text",
    ),
    Guard(
        "why an answer ended is a word",
        _EXCHANGED,
        "isinstance(reason, str) and _REASON.fullmatch(reason) else",
        "isinstance(reason, str) else",
        f"{_OF_EXCHANGED}test_what_a_provider_makes_up_is_bounded_and_no_text",
    ),
    Guard(
        "an answer has no more choices than can be told",
        _EXCHANGED,
        "or not 0 <= index < _MOST_CHOICES:",
        "or index < 0:",
        f"{_OF_EXCHANGED}test_what_a_provider_makes_up_is_bounded_and_no_text",
    ),
    Guard(
        "a span tells how a whole answer ended",
        _CALL,
        "self._exchanged.whole(self.head)",
        "pass",
        f"{_OF_TRACES}test_an_answer_s_id_and_why_each_choice_ended_are_told_in_the_client_s_words",
    ),
    Guard(
        "a span tells the head of a stream",
        _CALL,
        "self._exchanged.part(self.head)",
        "pass",
        f"{_OF_TRACES}test_an_answer_s_id_and_why_each_choice_ended_are_told_in_the_client_s_words",
    ),
    Guard(
        "a span tells how a stream ended",
        _CALL,
        "self._exchanged.part(piece.data)",
        "pass",
        f"{_OF_TRACES}test_an_answer_s_id_and_why_each_choice_ended_are_told_in_the_client_s_words",
    ),
    Guard(
        "the collector's headers are not logged",
        _SPANS,
        'logging.getLogger("opentelemetry.util.re").addFilter(_Calm(headers))',
        "del headers",
        "tests/e2e/test_traces.py::test_a_collector_that_is_away_costs_spans_which_are_counted_and_a_line_in_the_log",
    ),
    Guard(
        "a collector that is away does not fill the log",
        _SPANS,
        "if now < self._told.get(line, 0.0):",
        "if now < 0.0:",
        "tests/e2e/test_traces.py::test_a_collector_that_is_away_costs_spans_which_are_counted_and_a_line_in_the_log",
    ),
    Guard(
        "an invalid trace context is none",
        "runestone/telemetry/trace_context.py",
        'version == "ff" or (version == "00" and match[5] is not None) or not trace_id or not span_id',
        "not trace_id",
        f"{_OF_SPANS}test_an_invalid_trace_context_is_none",
    ),
    # -- what must go on
    Guard(
        "a head that comes byte by byte has its time",
        "runestone/http/http11.py",
        "self._head_timer = asyncio.get_running_loop().call_later(self.config.head_seconds, self.expire)",
        "pass",
        "tests/http/test_http11.py::test_a_head_that_comes_byte_by_byte_has_its_time_however_busy_it_looks",
    ),
    Guard(
        "who is stopped with what carries it is told so",
        "runestone/http/front.py",
        "            await self._refuse(exchange, stopped)\n",
        "",
        "tests/e2e/test_supervision.py::"
        "test_a_crash_of_what_carries_the_requests_is_told_in_each_stream_and_no_real_end_follows[requests]",
    ),
    Guard(
        "who gives up its place in a line is offered to the others",
        "runestone/failover/router.py",
        "self._looked_again(round_) if acquire.patient else round_",
        "round_",
        "tests/providers/test_concurrency_limit.py::"
        "test_who_gives_up_its_place_is_offered_to_one_that_has_recovered_meanwhile_before_it_is_refused",
    ),
    Guard(
        "what a node has loaded is kept from the collector",
        "runestone/serve.py",
        "loop.call_later(LOADED_SECONDS, gc.freeze)",
        "pass",
        "tests/e2e/test_health.py::test_what_a_node_has_loaded_is_kept_from_the_collector_some_seconds_after_its_start",
    ),
    # -- the history of a provider
    Guard(
        "a call that would have been refused moves nothing in a what-if",
        "runestone/resilience/replay.py",
        "self._left_out.add(lease)",
        "pass",
        "tests/resilience/test_history.py::test_a_lower_threshold_would_have_refused_calls_whose_ends_are_known",
    ),
    Guard(
        "a permit from before the kept steps is what it was",
        "runestone/resilience/replay.py",
        "None if generation is None else Permit(lease, generation, probe)",
        "None",
        "tests/operations/test_why.py::test_leases_from_before_the_kept_steps_are_what_they_were",
    ),
    Guard(
        "an outage does not wash away what has begun it",
        "runestone/resilience/history.py",
        "_REFUSALS_SHARE * (first - since)",
        "0.0",
        "tests/resilience/test_history.py::test_an_outage_of_a_day_is_few_steps_and_every_refusal_counts",
    ),
    # -- ledger
    Guard(
        "the end of a node writes what waits for the ledger",
        "runestone/ledger/bookkeeper.py",
        "            await self._flush()\n",
        "            pass\n",
        "tests/ledger/test_bookkeeper.py::test_the_end_of_the_node_writes_all_that_waits",
    ),
    Guard(
        "what waits for the ledger is bounded",
        "runestone/ledger/books.py",
        "if len(self.ended) + len(self.rows) >= self.most:",
        "if self.most < 0:",
        "tests/ledger/test_bookkeeper.py::test_beyond_the_bound_calls_are_dropped_and_counted",
    ),
    Guard(
        "nobody closes a ledger that SQLite has open",
        "runestone/ledger/sqlite.py",
        "os.O_CREAT | os.O_EXCL",
        "os.O_CREAT",
        "tests/ledger/test_sqlite.py::test_another_use_in_this_process_takes_no_lock_away_from_who_writes",
    ),
    Guard(
        "a row that is written twice counts once",
        "runestone/ledger/sqlite.py",
        " ON CONFLICT (id) DO NOTHING",
        "",
        "tests/ledger/test_store.py::test_a_row_that_is_written_twice_counts_once",
    ),
]
