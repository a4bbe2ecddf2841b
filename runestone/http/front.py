"""The public port: every request passes here, is checked, routed, counted once, and answered even when something breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from attrs import frozen
from loguru import logger
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from runestone.auth import loopback
from runestone.auth.keys import KeyRing, KeysInForce
from runestone.domain.errors import Draining, InvalidRequest, RunestoneError, Unauthenticated, UpstreamFailed
from runestone.gateway import Gateway
from runestone.http import body, errors, guard, openapi
from runestone.http.apis import ROUTES
from runestone.http.body import ClientGone
from runestone.http.exchange import Exchange
from runestone.http.inference import Inference
from runestone.http.models import Models
from runestone.telemetry import logs
from runestone.telemetry.bus import Bus
from supervisors import ActorError

_PATHS = ", ".join(route.path for route in ROUTES)


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Every path that no route has."""
    raise InvalidRequest(
        f"There is no {scope['path'][:100]} here. This gateway serves GET /v1/models and POST {_PATHS}.",
        status=404,
        code="unknown_url",
    )


@frozen
class Front:
    """The ASGI app of the public port."""

    gateway: Gateway
    keys: Callable[[], KeyRing]
    bus: Bus
    hot: Mapping[str, ASGIApp]  # whole paths, found without the router
    router: Router

    @classmethod
    def over(cls, gateway: Gateway, bus: Bus) -> Front:
        """The app over ``gateway``."""
        keys = KeysInForce(gateway.live)
        models = Models(gateway.live)
        hot: dict[str, ASGIApp] = {route.path: Inference(gateway, route) for route in ROUTES}
        hot |= {"/v1/models": models, openapi.PATH: openapi.describe}
        routes = [*(Route(path, app) for path, app in hot.items()), Route("/v1/models/{name:path}", models)]
        return cls(gateway, keys, bus, hot, Router(routes, redirect_slashes=False, default=not_found))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's request, or the server's own life cycle."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        exchange = Exchange(scope, receive, send, self.bus)
        scope["runestone.exchange"] = exchange
        about = logs.REQUEST_ID.set(exchange.request_id)
        try:
            self._check(exchange)
            route = self.hot.get(scope["path"], self.router)
            await route(scope, receive, exchange.send)
        except ClientGone:
            exchange.outcome = "client_gone"
        except RunestoneError as error:
            exchange.outcome = error.failure.kind if isinstance(error, UpstreamFailed) else error.code
            await self._refuse(exchange, error)
            error.__traceback__ = None  # whose frames hold the error
        except ActorError as error:
            exchange.outcome = "restarting"
            logger.warning(
                "request {} met a part of the gateway that is being restarted: {}", exchange.request_id, error
            )
            await self._refuse(exchange, _restarting())
        except asyncio.CancelledError:
            # What carries the request is being stopped: `requests`, `servers`, or all of the node. Its client is still there to be told.
            stopped = self._stopped()
            exchange.outcome = stopped.code
            await self._refuse(exchange, stopped)
            raise
        except Exception:  # noqa: BLE001 - HTTP's last resort: the client gets an answer, the log the reason
            logger.exception("request {} failed by a bug", exchange.request_id)
            exchange.outcome = "internal_error"
            await self._refuse(
                exchange, RunestoneError("The gateway failed. Its log has the reason under this request id.")
            )
        finally:
            exchange.finished()
            logs.REQUEST_ID.reset(about)
            del scope["runestone.exchange"]  # which holds the scope: a ring, for the collector to find

    def _check(self, exchange: Exchange) -> None:
        if (objection := guard.objection(exchange.scope)) is not None:
            raise objection
        if self.gateway.phase.draining:
            raise _draining(self.gateway.phase.retry_after_seconds)
        headers = exchange.headers
        if keys := self.keys():
            exchange.key = keys.authenticate(headers.get(b"authorization"), headers.get(b"x-api-key"))
            if exchange.key is None:
                raise Unauthenticated(
                    "Incorrect API key provided. Send one of this gateway's keys as Authorization: Bearer KEY."
                )
        elif (refusal := loopback.refusal(headers)) is not None:
            raise refusal

    def _stopped(self) -> RunestoneError:
        phase = self.gateway.phase
        return _draining(phase.retry_after_seconds) if phase.draining else _restarting()

    async def _refuse(self, exchange: Exchange, error: RunestoneError) -> None:
        if exchange.started:
            await exchange.tell(error)
            return
        attempts = [(b"x-runestone-attempts", str(exchange.attempts).encode())]
        exchange.status = errors.status(error, exchange.dialect)
        exchange.finished()
        if exchange.body_read:
            await body.answer(error, exchange, attempts)
        else:
            await body.refuse(error, exchange, attempts)


def _draining(retry_after_seconds: float) -> Draining:
    message = "The gateway is draining and takes nothing new. Send the request again."
    return Draining(message, retry_after_seconds=retry_after_seconds)


def _restarting() -> RunestoneError:
    message = "A part of the gateway is being restarted. Send the request again."
    return RunestoneError(message, status=503, code="restarting", retry_after_seconds=1.0)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
