"""The server: a page and its assets, and three questions it answers, for this computer alone.

It guards the door (host, origin, size) and hands fields to the rooms that know. JAX runs in one
thread of its own, so that a compilation keeps nobody waiting who needs none. Must not know what is
computed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from jaxfd.calculator._fields import FieldError

STATIC = Path(__file__).parent / "static"
_LARGEST = 16_384  # bytes of a request: fields and no more
_COOKIE = "jaxfd-calculator-token"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_log = logging.getLogger("jaxfd.calculator")


class Guard:
    """Lets in what this computer's own browser asks of its own page, and nothing else.

    A page of another origin could otherwise send requests here, or, by a name that it points to
    this address, read what comes back.

    Args:
        app: what is guarded.
        port: the port served.
        token: what a request must show, in the address or as a cookie; None where none is needed.
    """

    def __init__(self, app: ASGIApp, port: int, token: str | None = None) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:
            self._hosts |= {"127.0.0.1", "localhost"}
        self._cookie = f"{_COOKIE}-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        answer = self._refusal(request)
        if answer is None and self._token is not None:
            answer = self._stranger(request)
        if answer is not None:
            answer.headers.update(_HEADERS)
            await answer(scope, receive, send)
            return

        async def sealed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [
                    (k.lower().encode(), v.encode()) for k, v in _HEADERS.items()
                ]
            await send(message)

        await self._app(scope, receive, sealed)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if host not in self._hosts:
            return PlainTextResponse("This server answers to 127.0.0.1 and localhost alone.", 403)
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return PlainTextResponse("Requests from another origin are refused.", 403)
        # A link may be followed to the page from anywhere; nothing else comes from elsewhere.
        site = request.headers.get("sec-fetch-site", "none")
        if request.url.path != "/" and site not in ("none", "same-origin"):
            return PlainTextResponse("Requests from another site are refused.", 403)
        return None

    def _stranger(self, request: Request) -> Response | None:
        assert self._token is not None
        given = request.query_params.get("token", "")
        if hmac.compare_digest(given.encode(), self._token.encode()):
            # The token leaves the address, which may be copied and sent.
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        known = request.cookies.get(self._cookie, "")
        if hmac.compare_digest(known.encode(), self._token.encode()):
            return None
        return PlainTextResponse(
            "This page asks for the token in the address that the command printed.", 403
        )


class Worker:
    """The one thread in which JAX runs."""

    def __init__(self) -> None:
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "jax")

    async def __call__(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What the work returns, done in that thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def start(self, work: Callable[[], Any]) -> None:
        """Begins work that nobody waits for."""
        self._pool.submit(work)


def application(
    port: int,
    warm: bool = True,
    token: str | None = None,
    page: str = "index.html",
    answers: Mapping[str, Callable[[Any], Any]] | None = None,
) -> Starlette:
    """The application.

    Args:
        port: the port that it is served at, for the guard.
        warm: whether JAX is started at once, so that the first formula need not wait for it.
        token: what requests must show; None where none is needed.
        page: the page at the root.
        answers: questions by name, and what answers them in JAX's thread; None for the formulas'.
    """
    worker = Worker()

    async def root(request: Request) -> Response:
        return FileResponse(STATIC / page)

    async def values(given: Any) -> Any:
        from jaxfd.calculator._values import by_values

        return by_values(given)

    async def formula(given: Any) -> Any:
        from jaxfd.calculator._request import request as read

        return await worker(_by_formula, read(given))  # what is malformed is said before JAX is up

    async def neuron(given: Any) -> Any:
        from jaxfd.calculator._neuron import by_neuron, read_neuron

        read_neuron(given)
        return await worker(by_neuron, given)

    def asked(work: Callable[[Any], Any]) -> Callable[[Any], Awaitable[Any]]:
        async def ask(given: Any) -> Any:
            return await worker(work, given)

        return ask

    own = {"values": values, "formula": formula, "neuron": neuron}
    doors = own if answers is None else {name: asked(work) for name, work in answers.items()}
    routes = [
        Route("/", root),
        *(Route(f"/api/{name}", _answer(door), methods=["POST"]) for name, door in doors.items()),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
    if warm:
        worker.start(_warm)
    return Starlette(routes=routes, middleware=[Middleware(Guard, port=port, token=token)])


def _by_formula(asked: Any) -> Any:
    from jaxfd.calculator._formula import by_formula

    return by_formula(asked)


def _warm() -> None:
    """Starts JAX with the page's first formula."""
    from jaxfd.calculator._request import request

    try:
        _by_formula(request({"e": "100/(x+1)", "x.x": "5", "m": "forward", "h": "0.001"}))
    except Exception:
        _log.exception("JAX could not be started.")


def _answer(door: Callable[[Any], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint: JSON in, JSON out; what is wrong with fields as messages, by field."""

    async def endpoint(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST:
                return _wrong({"": "This is too long: the page sends a few short fields."}, 413)
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            return _wrong({"": "The request is no JSON."}, 400)
        try:
            return JSONResponse(await door(given))
        except FieldError as error:
            # An answer as any other: a browser would log another status as a fault of the page.
            return _wrong(error.messages, 200, getattr(error, "variables", None))
        except asyncio.CancelledError:  # Ctrl-C, while this was computed
            return _wrong({"": "The calculator was ended."}, 503)
        except Exception:
            _log.exception("A question could not be answered.")
            return _wrong({"": "This could not be computed; the terminal says why."}, 500)

    return endpoint


def _wrong(messages: dict[str, str], status: int, variables: Any = None) -> Response:
    told: dict[str, Any] = {"messages": messages}
    if variables is not None:
        told["variables"] = list(variables)
    return JSONResponse(told, status)
