"""Who is let in: token, cookie, host, other sites."""

import re
import time
from collections.abc import Callable

import pytest

from edge_apps.camera.web import auth
from edge_apps.camera.web.address import Address
from edge_apps.camera.web.auth import Token
from edge_apps.camera.web.routes import PAGE
from edge_apps.camera.web.server import WebServer

from_browser = {"Accept": "text/html,application/xhtml+xml"}
TOKEN = "correct-horse-battery-staple"
PATHS = [*PAGE, "/stream", "/snapshot.jpg", "/events", "/api/state", "/metrics", "/healthz", "/nowhere"]


def test_an_address_that_others_reach_must_have_a_token() -> None:
    with pytest.raises(ValueError, match=r"0\.0\.0\.0:0 needs a token"):
        WebServer(None, Address("0.0.0.0", 0), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_nothing_is_told_without_the_token(serve: Callable, host: str) -> None:
    camera = serve(token=TOKEN, host=host)
    for path in PATHS:
        answer = camera.get(path)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert answer.text == "A token is needed: Authorization: Bearer TOKEN.\n"
        assert camera.get(path, Authorization=f"Bearer {TOKEN}x").status in (401, 429)


def test_programs_bring_it_as_bearer(serve: Callable) -> None:
    camera = serve(token=TOKEN)
    for path in ("/metrics", "/api/state", "/"):
        assert camera.get(path, Authorization=f"Bearer {TOKEN}").status == 200
        assert camera.get(path, Authorization=f"bearer  {TOKEN} ").status == 200
    assert camera.get("/healthz", Authorization=f"Bearer {TOKEN}").status in (200, 503)
    assert camera.get("/nowhere", Authorization=f"Bearer {TOKEN}").status == 404
    for wrong in ("", "Basic " + TOKEN, "Bearer", f"Bearer{TOKEN}"):
        assert camera.get("/", Authorization=wrong).status == 401


def test_a_browser_brings_it_once_and_then_a_cookie(serve: Callable) -> None:
    camera = serve(token=TOKEN)
    answer = camera.get(f"/?token={TOKEN}&theme=a%20b")
    assert (answer.status, answer.headers["Location"]) == (303, "/?theme=a+b")
    cookie, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(attributes)
    assert TOKEN not in str(answer.headers)
    assert camera.get("/", Cookie=cookie).status == 200
    assert camera.get("/api/state", Cookie=f"other=1; {cookie}").status == 200
    assert camera.get("/", Cookie=cookie[:-1]).status == 401
    assert camera.get("/", Cookie=cookie.replace("edge", "wedge")).status == 401
    assert camera.get("/", Cookie=f"{cookie.partition('=')[0]}={TOKEN}").status == 401


@pytest.mark.parametrize("path", ["//elsewhere.example/", "/\\elsewhere.example/", "/%5c%5celsewhere.example", "///x"])
def test_the_way_back_leads_to_this_host(serve: Callable, path: str) -> None:
    answer = serve(token=TOKEN).get(f"{path}?token={TOKEN}")
    assert answer.status == 303
    assert re.match(r"/[^/\\]", answer.headers["Location"])


def test_a_browser_without_it_gets_a_field_to_type_it_into(serve: Callable) -> None:
    camera = serve(token=TOKEN)
    answer = camera.get("/", **from_browser)
    assert answer.status == 401
    assert '<input name="token" type="password"' in answer.text
    assert "wrong" not in answer.text
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "That token is wrong" in camera.get("/?token=x", **from_browser).text


def test_who_guesses_has_to_wait_and_who_has_the_cookie_has_not(
    serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "WINDOW", 2.0)
    camera = serve(token=TOKEN)
    cookie = camera.get(f"/?token={TOKEN}").headers["Set-Cookie"].partition(";")[0]
    for _ in range(2 * auth.WRONG_ALLOWED):  # no token, or the cookie of an older one, is at most one guess
        assert camera.get("/events", Cookie=cookie[:-1]).status == 401
    statuses = [camera.get(f"/?token=guess-{number}").status for number in range(auth.WRONG_ALLOWED)]
    assert set(statuses) == {401}
    answer = camera.get(f"/?token={TOKEN}")
    assert answer.status == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    assert camera.get("/", Authorization=f"Bearer {TOKEN}").status == 429
    assert camera.get("/", Cookie=cookie).status == 200
    time.sleep(int(answer.headers["Retry-After"]) + 0.1)
    assert camera.get(f"/?token={TOKEN}").status == 303


def test_an_old_token_sent_again_and_again_locks_nobody_out(serve: Callable) -> None:
    """Behind a tunnel all programs have one address."""
    camera = serve(token=TOKEN)
    for _ in range(2 * auth.WRONG_ALLOWED):
        assert camera.get("/metrics", Authorization="Bearer of-the-last-run").status == 401
        assert camera.get("/metrics?token=of-the-last-run").status == 401
    assert camera.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
    assert camera.get(f"/?token={TOKEN}").status == 303


def test_a_cookie_is_no_way_around_the_patience(serve: Callable) -> None:
    """Whoever guesses a token can work out its cookie."""
    camera = serve(token=TOKEN)
    name, _, right = camera.get(f"/?token={TOKEN}").headers["Set-Cookie"].partition(";")[0].partition("=")
    guesses = [Token(f"guess-{number}").cookie for number in range(auth.WRONG_ALLOWED)]
    assert {camera.get("/", Cookie=f"{name}={guess}").status for guess in guesses} == {401}
    assert {camera.get("/", Cookie=f"{name}={guess}").status for guess in (*guesses, right)} == {429}
    assert camera.get("/", Authorization=f"Bearer {TOKEN}").status == 200
    assert camera.get("/").status == 401


@pytest.mark.parametrize("name", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"])
def test_a_page_without_a_token_answers_to_this_machine(serve: Callable, name: str) -> None:
    assert serve(frames=False).get("/", Host=name).status == 200


@pytest.mark.parametrize(
    "name", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_and_to_no_other_name(serve: Callable, name: str) -> None:
    answer = serve(frames=False).get("/api/state", Host=name)
    assert (answer.status, answer.text) == (421, "This page answers to localhost only.\n")


def test_with_a_token_any_name_will_do(serve: Callable) -> None:
    assert serve(token=TOKEN).get("/", Host="camera.example", Authorization=f"Bearer {TOKEN}").status == 200


def test_ipv6(serve: Callable) -> None:
    camera = serve(host="::1", frames=False)
    assert camera.server.url == f"http://[::1]:{camera.port}/"
    assert camera.get("/").status == 200
    assert camera.get("/", Host="evil.example").status == 421


def test_pages_of_other_sites_cannot_take_a_place(serve: Callable) -> None:
    camera = serve(frames=False)
    assert camera.get("/stream", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors").status == 403
    assert camera.get("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    assert camera.get("/api/state", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors").status == 200


def test_the_token_is_shown_once_and_never_said(
    serve: Callable, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    camera = serve(token=TOKEN, host="0.0.0.0")
    assert camera.server.entry == f"{camera.server.url}?token={TOKEN}"
    assert TOKEN not in camera.server.url
    for path in (f"/?token={TOKEN}", f"/?token={TOKEN}x", f"/api/state?token={TOKEN}"):
        camera.get(path)
    camera.get("/api/state", Authorization=f"Bearer {TOKEN}")
    state = camera.get("/api/state", Authorization=f"Bearer {TOKEN}").text
    metrics = camera.get("/metrics", Authorization=f"Bearer {TOKEN}").text
    said = capfd.readouterr()
    for text in (state, metrics, said.out, said.err, caplog.text, repr(camera.server)):
        assert TOKEN not in text
