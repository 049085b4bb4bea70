"""Who may see the console: everybody, who knows a token, or whom a proxy in front of it has let in.

``none`` is for the loopback address. It answers only to names of this machine, so that a page of
another site cannot read it by a name that leads here (DNS rebinding).

``token``: a form sends the token once, and the answer sets a cookie that proves it for a while. The
cookie has a time and its HMAC under the token: it outlives a restart, and another token ends it. The
token itself is in no URL, no cookie and no log.

``proxy``: a request counts as signed in if it comes from one of the proxy's addresses and has its
header.

The page for operators has keys of its own, so its paths are not behind this login. Requests that change
something are refused if they come from another site.
"""

import hashlib
import hmac
import ipaddress
import time
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from streams.errors import ConfigurationError
from streams.settings import Settings

COOKIE = "roundhouse-console"
SESSION_S = 12 * 3600
TOKEN_MIN = 16
_FORM_BYTES_MAX = 4096
_PAGE = Path(__file__).parent / "login.html"
_STYLE = "/static/console.css"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
How = Literal["none", "token", "proxy"]


def how(settings: Settings) -> How:
    """The login that the settings ask for. Raises ``ConfigurationError`` if they contradict."""
    chosen: How | None = settings.console_login
    token = settings.console_token.get_secret_value() if settings.console_token else ""
    if chosen is None and settings.console_host not in _LOOPBACK:
        raise ConfigurationError(
            f"ROUNDHOUSE_CONSOLE_HOST is {settings.console_host}, and the console shows players and "
            "money: set ROUNDHOUSE_CONSOLE_LOGIN to token or proxy (or to none, for everybody who "
            "reaches it)"
        )
    if chosen == "token" and len(token) < TOKEN_MIN:
        raise ConfigurationError(
            f"ROUNDHOUSE_CONSOLE_TOKEN must have {TOKEN_MIN} characters or more, for "
            "ROUNDHOUSE_CONSOLE_LOGIN=token; `openssl rand -hex 24` makes one"
        )
    if token and chosen != "token":
        raise ConfigurationError(
            "ROUNDHOUSE_CONSOLE_TOKEN is set, and nobody is asked for it: set "
            "ROUNDHOUSE_CONSOLE_LOGIN=token"
        )
    if chosen == "proxy" and not (settings.console_proxy_header and _networks(settings)):
        raise ConfigurationError(
            "ROUNDHOUSE_CONSOLE_LOGIN=proxy needs ROUNDHOUSE_CONSOLE_PROXY_HEADER, the header with the "
            "user, and ROUNDHOUSE_CONSOLE_PROXY_ADDRESSES, from which alone it is believed"
        )
    return chosen or "none"


def _networks(settings: Settings) -> list[Network]:
    try:
        return [
            ipaddress.ip_network(text.strip())
            for text in (settings.console_proxy_addresses or "").split(",")
            if text.strip()
        ]
    except ValueError as error:
        raise ConfigurationError(
            f"ROUNDHOUSE_CONSOLE_PROXY_ADDRESSES: {error}; write addresses or networks like 10.0.0.0/8"
        ) from None


class Login:
    """The application behind the login; the paths under ``free`` are not behind it."""

    def __init__(self, app: ASGIApp, settings: Settings, free: str) -> None:
        self._app = app
        self._how = how(settings)
        self._token = settings.console_token.get_secret_value() if settings.console_token else ""
        self._header = settings.console_proxy_header or ""
        self._proxies = _networks(settings)
        self._names = {*_LOOPBACK, settings.console_host} if settings.console_login is None else None
        self._free = free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        refused = await self._refusal(request)
        await (refused or self._app)(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        path = request.url.path
        if self._names is not None and _name(request.headers) not in self._names:
            return _wrong(
                "this console answers to the names of its own machine alone; for another name, behind "
                "a proxy, set ROUNDHOUSE_CONSOLE_LOGIN",
                403,
            )
        if path == self._free or path.startswith(f"{self._free}/"):
            return None
        if request.method not in ("GET", "HEAD") and not _is_own(request.headers):
            return _wrong("the request comes from another site", 403)
        if self._how == "token" and path == "/login":
            return await self._sign_in(request)
        if self._how == "token" and path == "/logout" and request.method == "POST":
            return _gone()
        if self._may_see(request) or path == _STYLE:
            return None
        if self._how == "proxy":
            return _wrong("sign in at the proxy in front of the console", 403)
        if path.startswith("/api/"):
            return _wrong("sign in first", 401)
        return RedirectResponse("/login", 303)

    def _may_see(self, request: Request) -> bool:
        if self._how == "token":
            return self._is_signed(request.cookies.get(COOKIE, ""), time.time())
        if self._how == "proxy":
            return self._is_proxy(request) and bool(request.headers.get(self._header))
        return True

    def _is_proxy(self, request: Request) -> bool:
        if request.client is None:
            return False
        try:
            address = ipaddress.ip_address(request.client.host)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)

    async def _sign_in(self, request: Request) -> Response:
        if request.method != "POST":
            return _form("")
        given = await _token_of(request)
        if not hmac.compare_digest(_digest(given), _digest(self._token)):
            return _form("This is not the token.", 403)
        until = int(time.time()) + SESSION_S
        answer = RedirectResponse("/", 303)
        forwarded = request.headers.get("x-forwarded-proto") if self._is_proxy(request) else None
        answer.set_cookie(
            COOKIE,
            f"{until}.{self._mac(until)}",
            max_age=SESSION_S,
            secure=(forwarded or request.url.scheme) == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _mac(self, until: int) -> str:
        text = f"session of the console until {until}"
        return hmac.new(self._token.encode(), text.encode(), hashlib.sha256).hexdigest()

    def _is_signed(self, cookie: str, now: float) -> bool:
        until, _, mac = cookie.partition(".")
        if not until.isdecimal() or len(until) > 12:
            return False
        return hmac.compare_digest(mac.encode(), self._mac(int(until)).encode()) and now < int(until)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def _token_of(request: Request) -> str:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _FORM_BYTES_MAX:
            return ""
    return parse_qs(body.decode(errors="replace")).get("token", [""])[0]


def _form(message: str, status: int = 200) -> Response:
    text = _PAGE.read_text(encoding="utf-8").replace("MESSAGE", message)
    policy = (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    headers = {"content-security-policy": policy, "cache-control": "no-store"}
    return HTMLResponse(text, status, headers)


def _gone() -> Response:
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _wrong(message: str, status: int) -> Response:
    return JSONResponse({"error": message}, status)


def _name(headers: Headers) -> str | None:
    return urlsplit(f"//{headers.get('host', '')}").hostname


def _is_own(headers: Headers) -> bool:
    """Whether a request comes from a page of the console, or from no page."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
