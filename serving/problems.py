"""Errors as problem JSON (RFC 9457), and requests too long to read."""

import logging
import sqlite3
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ArtefactError, SlatewiseError
from .records import EventConflictError

_log = logging.getLogger("slatewise.serving")


def problem(
    status: int, detail: str, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An answer of type `application/problem+json`."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    return JSONResponse(body, status, headers=headers, media_type=_MEDIA_TYPE)


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error of the app answer as problem JSON."""

    async def on_http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}))

    async def on_invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        # The input itself is not repeated: it may be long, secret, or not even text.
        found = [{"where": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
        return problem(422, "; ".join(f"{one['where']}: {one['message']}" for one in found[:3]), found[:20])

    async def on_refused(_: Request, error: Exception) -> JSONResponse:
        return problem(409 if isinstance(error, EventConflictError) else 422, str(error))

    async def on_storage(_: Request, error: Exception) -> JSONResponse:
        _log.error("the event store failed: %s", error)
        return problem(
            503, "the event store cannot be used now; nothing was kept, send the request again", None, _RETRY
        )

    async def on_defect(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed: %r", error)
        return problem(500, "the server failed on this request; its log says why")

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(SlatewiseError, on_refused)
    app.add_exception_handler(ArtefactError, on_storage)
    app.add_exception_handler(sqlite3.Error, on_storage)
    app.add_exception_handler(Exception, on_defect)


def describe_problems(app: FastAPI) -> None:
    """Let the interface's description name the media type that errors have; FastAPI itself would say plain JSON."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        described = plain()
        for path in described["paths"].values():
            for operation in path.values():
                for status, answer in operation["responses"].items():
                    content = answer.get("content", {})
                    if int(status) >= 400 and "application/json" in content:
                        content[_MEDIA_TYPE] = content.pop("application/json")
        return described

    app.openapi = openapi  # type: ignore[method-assign]


_MEDIA_TYPE = "application/problem+json"
_RETRY = {"Retry-After": "1"}


class BodyLimit:
    """ASGI middleware that refuses bodies longer than a limit, whether or not they say their length."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what is read of its body."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        if not told.isdigit() or int(told) > self.most:
            await self._refusal()(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise HTTPException(413, self._words())
            return message

        await self.app(scope, counted, send)

    def _words(self) -> str:
        return f"the request is longer than {self.most} bytes; send fewer events at once"

    def _refusal(self) -> JSONResponse:
        return problem(413, self._words(), headers={"Connection": "close"})
