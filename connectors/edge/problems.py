"""Answers that say what is wrong: ``application/problem+json`` (RFC 9457)."""

from http import HTTPStatus
from typing import Any

import msgspec
from starlette.responses import Response


class Problem(Exception):
    """Ends a request with an error answer; no error of the process, so not in :mod:`streams.errors`.

    ``code`` is stable; the answer is sent ``delay_s`` later; ``more`` goes into the body.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: dict[str, str] | None = None,
        *,
        delay_s: float = 0.0,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.delay_s = delay_s
        self.status = status
        self.code = code
        self.headers = headers or {}
        self.body = {
            "type": f"urn:roundhouse:problem:{code}",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "code": code,
            "detail": detail,
        } | more

    def response(self) -> Response:
        return Response(
            msgspec.json.encode(self.body),
            self.status,
            self.headers,
            media_type="application/problem+json",
        )
