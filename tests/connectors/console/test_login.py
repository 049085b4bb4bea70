"""The login of the console: who is let in, what the cookie proves, and what the console refuses."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from connectors.console.login import COOKIE, SESSION_S, Login, how
from streams.errors import ConfigurationError
from streams.settings import Settings

TOKEN = "a-token-of-the-console"
TOKENS = {"console_login": "token", "console_token": TOKEN}
PROXY = {
    "console_login": "proxy", "console_proxy_header": "x-user",
    "console_proxy_addresses": "10.1.0.0/16, fd00::1",
}  # fmt: skip


async def _seen(request: Request) -> Response:
    return PlainTextResponse("players and money")


def asked(
    settings: dict[str, Any],
    path: str,
    method: str = "GET",
    *,
    peer: str = "127.0.0.1",
    url: str = "http://localhost:8090",
    **more: Any,
) -> httpx.Response:
    paths = ("/", "/api/stream", "/static/console.css", "/operator", "/operator/batches", "/operators")
    app = Starlette(
        routes=[Route(each, _seen, methods=["GET", "POST"]) for each in paths],
        middleware=[Middleware(Login, settings=Settings.model_validate(settings), free="/operator")],
    )

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(peer, 5000))
        async with httpx.AsyncClient(transport=transport, base_url=url) as client:
            return await client.request(method, path, **more)

    return asyncio.run(ask())


def signed_in(**more: Any) -> httpx.Response:
    return asked(TOKENS, "/login", "POST", data={"token": TOKEN}, **more)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"console_host": "0.0.0.0"}, "CONSOLE_LOGIN"),
        ({"console_login": "token"}, "CONSOLE_TOKEN"),
        ({"console_login": "token", "console_token": "short"}, "CONSOLE_TOKEN"),
        ({"console_token": TOKEN}, "CONSOLE_LOGIN=token"),
        ({"console_login": "proxy", "console_proxy_header": "x-user"}, "PROXY_ADDRESSES"),
        ({**PROXY, "console_proxy_addresses": "the proxy"}, "PROXY_ADDRESSES"),
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as refused:
        how(Settings.model_validate(settings))
    assert TOKEN not in str(refused.value)


def test_everybody_is_let_in_only_where_it_is_said_or_on_a_loopback_address() -> None:
    assert how(Settings()) == "none"
    assert how(Settings(console_host="0.0.0.0", console_login="none")) == "none"
    assert asked({}, "/").text == "players and money"
    assert asked({}, "/", url="http://[::1]:8090").status_code == 200
    assert asked({}, "/", url="http://rebound.example:8090").status_code == 403


def test_without_a_cookie_only_the_form_and_its_style_are_served() -> None:
    assert asked(TOKENS, "/").headers["location"] == "/login"
    assert asked(TOKENS, "/api/stream").status_code == 401
    assert asked(TOKENS, "/static/console.css").status_code == 200
    form = asked(TOKENS, "/login")
    assert 'type="password"' in form.text
    assert "form-action 'self'" in form.headers["content-security-policy"]


def test_the_token_opens_the_console_for_a_while() -> None:
    answer = signed_in()
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    attributes = answer.headers["set-cookie"].lower()
    for due in ("httponly", "samesite=strict", f"max-age={SESSION_S}", "path=/"):
        assert due in attributes
    assert "secure" not in attributes
    assert TOKEN not in attributes
    cookie = answer.cookies[COOKIE]
    assert asked(TOKENS, "/", headers={"cookie": f"{COOKIE}={cookie}"}).text == "players and money"
    assert "secure" in signed_in(url="https://console.example").headers["set-cookie"].lower()


def test_a_cookie_that_is_old_changed_or_of_another_token_opens_nothing() -> None:
    until, _, mac = signed_in().cookies[COOKIE].partition(".")
    assert abs(int(until) - time.time() - SESSION_S) < 60
    another = {**TOKENS, "console_token": "another-token-of-the-console"}
    for settings, cookie in (
        (TOKENS, f"{int(until) + 1}.{mac}"),
        (TOKENS, f"{until}.{mac[:-1]}"),
        (TOKENS, f"{until}."),
        (TOKENS, "."),
        (TOKENS, f"{'9' * 5000}.{mac}"),
        (another, f"{until}.{mac}"),
    ):
        assert (
            asked(settings, "/api/stream", headers={"cookie": f"{COOKIE}={cookie}"}).status_code == 401
        )


@pytest.mark.parametrize(
    "body", ["token=wrong-token-of-the-console", "", "x" * 10_000, "token=" + TOKEN[:-1]]
)
def test_a_wrong_token_is_refused_and_not_repeated(body: str) -> None:
    answer = asked(TOKENS, "/login", "POST", content=body)
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)
    assert "This is not the token." in answer.text
    assert "wrong-token" not in answer.text


def test_signing_out_takes_the_cookie_away() -> None:
    answer = asked(TOKENS, "/logout", "POST")
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert asked(TOKENS, "/logout").headers["location"] == "/login"


@pytest.mark.parametrize(
    ("headers", "is_served"),
    [
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"origin": "http://elsewhere.example"}, False),
        ({"origin": "null"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"origin": "http://localhost:8090"}, True),
        ({}, True),
    ],
)
def test_another_site_can_send_no_request_that_acts(headers: dict[str, str], is_served: bool) -> None:
    assert (asked({}, "/", "POST", headers=headers).status_code == 200) is is_served


@pytest.mark.parametrize(
    ("peer", "headers", "is_let_in"),
    [
        ("10.1.2.3", {"x-user": "ann"}, True),
        ("fd00::1", {"x-user": "ann"}, True),
        ("10.1.2.3", {}, False),
        ("10.1.2.3", {"x-user": ""}, False),
        ("10.2.0.1", {"x-user": "ann"}, False),
        ("10.2.0.1", {"x-user": "ann", "x-forwarded-for": "10.1.2.3"}, False),
    ],
)
def test_the_header_of_a_proxy_is_believed_from_its_address_alone(
    peer: str, headers: dict[str, str], is_let_in: bool
) -> None:
    answer = asked(PROXY, "/", peer=peer, headers=headers)
    assert (answer.status_code == 200) is is_let_in


def test_the_page_for_operators_keeps_its_own_key() -> None:
    settings: list[dict[str, Any]] = [TOKENS, PROXY]
    for each in settings:
        assert asked(each, "/operator").status_code == 200
        assert asked(each, "/operator/batches").status_code == 200
        assert asked(each, "/operators").status_code != 200
