"""The node's metrics by name, and what each of them means. Names, units and labels are those that Prometheus users expect."""

from __future__ import annotations

from typing import Final

from aioprometheus.collectors import Registry

from runestone.telemetry.series import Family

SECONDS: Final = tuple(0.01 * 2**n for n in range(14))  # OpenTelemetry's: 0.01 to 81.92
_OVERHEAD_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
_CHUNK_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_DELAY_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_HANDLE_SECONDS: Final = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.01, 0.1, 1.0, 10.0)
_LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Families:
    """Every metric there is, in a registry of its own."""

    def __init__(self) -> None:  # noqa: PLR0915 - a list, one line each
        registry = self.registry = Registry()

        def counter(name: str, text: str) -> Family:
            return Family.counter(registry, name, text)

        def gauge(name: str, text: str) -> Family:
            return Family.gauge(registry, name, text)

        def histogram(name: str, text: str, bounds: tuple[float, ...] = SECONDS) -> Family:
            return Family.histogram(registry, name, text, bounds)

        self.build = gauge("runestone_build_info", "The version that runs, and its commit.")
        # what clients ask
        self.requests = counter("runestone_requests_total", "Client requests.")
        self.request_seconds = histogram(
            "runestone_request_duration_seconds", "Client requests, by the class of their outcome."
        )
        self.in_flight = gauge("runestone_request_in_flight", "Client requests in flight.")
        self.overhead_seconds = histogram(
            "runestone_overhead_seconds",
            "What a request took while no upstream call was out for it.",
            _OVERHEAD_SECONDS,
        )
        self.shed = counter("runestone_requests_shed_total", "Requests refused for the node's own load.")
        # what providers answer
        self.attempts = counter("runestone_provider_attempts_total", "Upstream calls, by the class of their outcome.")
        self.failures = counter(
            "runestone_provider_failures_total", "Upstream calls that failed, by the kind of the failure."
        )
        self.attempt_seconds = histogram("runestone_provider_duration_seconds", "Upstream calls.")
        self.first_chunk_seconds = histogram(
            "runestone_provider_time_to_first_chunk_seconds", "From the call to the first content of a stream."
        )
        self.chunk_seconds = histogram(
            "runestone_provider_time_per_output_chunk_seconds",
            "Between two chunks of a stream behind its first content: the mean of each stream that came whole.",
            _CHUNK_SECONDS,
        )
        self.tokens = counter("runestone_tokens_total", "Tokens that providers reported; input holds the cached ones.")
        self.cost = counter("runestone_cost_usd_total", "What booked calls have cost, as far as prices are known.")
        self.cost_unknown = counter("runestone_cost_unknown_total", "Booked calls whose cost is not known.")
        # how providers stand
        self.score = gauge("runestone_provider_health_score", "Health score, 0 to 1.")
        self.up = gauge("runestone_provider_up", "Whether the provider may be asked.")
        self.admin_state = gauge("runestone_provider_admin_state", "1 for the state that an operator has put it in.")
        self.provider_in_flight = gauge("runestone_provider_in_flight", "Upstream calls in flight.")
        self.waiting = gauge("runestone_provider_waiting", "Requests that wait for a call to end.")
        self.concurrency = gauge(
            "runestone_provider_concurrency_limit", "Upstream calls that may be in flight at once."
        )
        self.stale = counter(
            "runestone_provider_stale_connections_total",
            "Requests sent once more, for the provider had closed their connection before they came.",
        )
        self.breaker = gauge("runestone_circuit_breaker_state", "1 for the state that it is in.")
        self.transitions = counter("runestone_circuit_breaker_transitions_total", "Changes of state.")
        self.throttles = counter("runestone_provider_throttled_total", "429 answers of providers.")
        self.quarantines = counter(
            "runestone_provider_quarantined_total",
            "Times that a provider, or a model of it, was taken out for good reason.",
        )
        self.probes = counter("runestone_probes_total", "Active probes of providers.")
        # who stands in
        self.retries = counter("runestone_retries_total", "Calls of the same provider again.")
        self.retry_seconds = histogram("runestone_retry_delay_seconds", "What was waited before them.", _DELAY_SECONDS)
        self.failovers = counter("runestone_failovers_total", "Calls of another provider.")
        self.exhausted = counter("runestone_failover_exhausted_total", "Requests that nobody would take.")
        # the tree and its loop
        self.restarts = counter("runestone_actor_restarts_total", "Restarts of processes of the tree.")
        self.intensity = counter(
            "runestone_supervisor_intensity_exceeded_total", "Supervisors that gave up after too many restarts."
        )
        self.mailbox_depth = gauge(
            "runestone_actor_mailbox_depth", "Messages that wait, by named actor, once a second."
        )
        self.mailbox_taken = counter(
            "runestone_actor_messages_total", "Messages taken from the mailboxes of named actors."
        )
        self.handle_seconds = histogram(
            "runestone_actor_handle_seconds",
            "How long a named actor took for a message, what its handler waited for included.",
            _HANDLE_SECONDS,
        )
        self.mailbox_dropped = counter("runestone_actor_mailbox_dropped_total", "Messages that a full mailbox dropped.")
        self.loop_lag = histogram(
            "runestone_event_loop_lag_seconds",
            "How late the event loop was, looked at five times a second.",
            _LAG_SECONDS,
        )
        self.loop_lag_worst = gauge(
            "runestone_event_loop_lag_worst_seconds", "How late the event loop was at most within the last minute."
        )
        # the operator's side
        self.reload_success = gauge("runestone_config_last_reload_success", "Whether the last reload was taken.")
        self.reload_at = gauge(
            "runestone_config_last_reload_success_timestamp_seconds", "When settings were last read and taken."
        )
        self.admin = counter("runestone_admin_actions_total", "What was done by the admin socket.")
        self.log_dropped = counter("runestone_log_dropped_total", "Log lines that were dropped for a slow sink.")
        self.handler_failures = counter("runestone_event_handler_failures_total", "Events that a handler failed on.")
        self.events_dropped = counter("runestone_events_dropped_total", "Events that a full queue dropped.")
        self.ledger_written = counter("runestone_ledger_calls_total", "Upstream calls written to the ledger.")
        self.ledger_dropped = counter(
            "runestone_ledger_dropped_total", "Upstream calls that the ledger will never hold."
        )
        self.ledger_failures = counter("runestone_ledger_failures_total", "Tries to write it that failed.")
        self.ledger_waiting = gauge("runestone_ledger_waiting", "Upstream calls that wait for the ledger.")
        self.traces_dropped = counter("runestone_traces_dropped_total", "Requests whose spans were not sent.")
        self.series_dropped = counter(
            "runestone_metric_series_dropped_total", "Series that were not begun because a metric has its most."
        )
        # the process
        self.memory = gauge("process_resident_memory_bytes", "Resident memory.")
        self.virtual_memory = gauge("process_virtual_memory_bytes", "Virtual memory.")
        self.cpu = counter("process_cpu_seconds_total", "User and system time.")
        self.descriptors = gauge("process_open_fds", "Open file descriptors.")
        self.most_descriptors = gauge("process_max_fds", "File descriptors that may be open.")
        self.started = gauge("process_start_time_seconds", "When the process started, since the epoch.")

    def families(self) -> list[Family]:
        """All of them."""
        return [family for family in vars(self).values() if isinstance(family, Family)]
