"""Names of OpenTelemetry's semantic conventions, as they stood when this was written. Those of ``gen_ai`` still change, so they stand here
and not in a package that would move them.

Sources: the HTTP server span, ``error.type`` and ``server.*`` are stable (open-telemetry/semantic-conventions, docs/http/http-spans.md);
``gen_ai.*`` is in development (open-telemetry/semantic-conventions-genai, docs/gen-ai/client-inference.md and client-embeddings.md).
What begins with ``runestone.`` is this program's own.

Of the server span, ``url.path`` is the route's, and nothing where there is none: a client may write anything there. Left out are
``url.query``, which no route has, and what is only recommended and tells of a person (``client.address``, ``network.peer.*``,
``user_agent.original``). Of the spans of ``gen_ai``, left out are ``gen_ai.request.stop_sequences``, which is a client's text, and what
only tells of content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runestone.domain.chat import Api

ERROR_TYPE: Final = "error.type"
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_REQUEST_METHOD_ORIGINAL: Final = "http.request.method_original"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
URL_PATH: Final = "url.path"
URL_SCHEME: Final = "url.scheme"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"  # only ever true: without it a request is not streamed
CHOICE_COUNT: Final = "gen_ai.request.choice.count"  # only where it is not 1
SEED: Final = "gen_ai.request.seed"
TOP_K: Final = "gen_ai.request.top_k"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
TOP_P: Final = "gen_ai.request.top_p"
FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
OUTPUT_TYPE: Final = "gen_ai.output.type"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"  # one a choice, in the words of the client's wire
RESPONSE_MODEL: Final = "gen_ai.response.model"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds, of streams
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"  # cached ones included
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"  # reasoning included
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"  # older versions: cache_creation
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"

REQUEST_ID: Final = "runestone.request_id"
OUTCOME: Final = "runestone.outcome"
GROUP: Final = "runestone.group"
ATTEMPTS: Final = "runestone.attempts"
ATTEMPT: Final = "runestone.attempt"
PROVIDER: Final = "runestone.provider"
REASON: Final = "runestone.reason"
WAITED_SECONDS: Final = "runestone.waited_seconds"
FAILED_PROVIDER: Final = "runestone.failed_provider"

OTHER_METHOD: Final = "_OTHER"
KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)

#: ``gen_ai.operation.name`` of what clients ask; the conventions have no word for a count of tokens.
OPERATIONS: Final[Mapping[Api, str]] = {
    "chat": "chat",
    "messages": "chat",
    "responses": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "count_tokens": "count_tokens",
}
#: The same by route.
ROUTES: Final[Mapping[str, str]] = {
    "/v1/chat/completions": "chat",
    "/v1/messages": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
    "/v1/messages/count_tokens": "count_tokens",
}
#: The operations whose answers end for a reason.
GENERATING: Final = frozenset({"chat", "text_completion"})
#: ``gen_ai.provider.name`` of the kinds that the conventions call something else than we do; the others go by their kind.
PROVIDERS: Final[Mapping[str, str]] = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
