"""The token, and patience with wrong ones."""

from pathlib import Path

import pytest

from edge_apps.camera.web import auth
from edge_apps.camera.web.address import Address
from edge_apps.camera.web.auth import Patience, Token, choose_token
from edge_apps.errors import BadInput

NEAR, FAR = Address("127.0.0.1", 80), Address("0.0.0.0", 80)
GOOD = "0123456789abcdef0123456789abcdef"


def test_nobody_needs_one_on_this_machine_unless_it_was_given() -> None:
    assert choose_token(NEAR, {}) is None
    assert choose_token(NEAR, {"EDGE_CAMERA_TOKEN": GOOD}) == GOOD


def test_a_new_one_has_192_bits_and_is_another_every_time() -> None:
    tokens = {choose_token(FAR, {}) for _ in range(100)}
    assert len(tokens) == 100
    assert all(token is not None and len(token) == 32 for token in tokens)


def test_a_file_goes_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{GOOD[::-1]}\n")
    assert choose_token(FAR, {"EDGE_CAMERA_TOKEN": GOOD}, tmp_path / "token") == GOOD[::-1]


@pytest.mark.parametrize("bad", ["", "short", "0123456789abcdef 0123456789", "x" * 21, "ü" * 40, "a&b=c" * 10])
def test_a_bad_one_is_refused_without_repeating_it(bad: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(bad, encoding="utf-8")
    for file, environment in ((tmp_path / "token", {}), (None, {"EDGE_CAMERA_TOKEN": bad})):
        with pytest.raises(BadInput, match="openssl rand") as refused:
            choose_token(FAR, environment, file)
        assert not bad or bad not in str(refused.value)


def test_no_file() -> None:
    with pytest.raises(BadInput, match="Cannot read the token file 'nowhere': No such file"):
        choose_token(FAR, {}, Path("nowhere"))


def test_right_and_wrong() -> None:
    token = Token(GOOD)
    assert token.is_right(GOOD)
    assert not any(token.is_right(wrong) for wrong in ("", GOOD[:-1], GOOD + "x", token.cookie, "ü\udce4"))
    assert token.is_right_cookie(token.cookie)
    assert not token.is_right_cookie(GOOD)
    assert token.cookie != Token(GOOD[::-1]).cookie


def test_patience_ends_and_comes_back() -> None:
    now = [100.0]
    patience = Patience(lambda: now[0])
    for number in range(auth.WRONG_ALLOWED):
        assert patience.wait("10.0.0.1") == 0
        patience.wrong("10.0.0.1", f"guess-{number}")
    assert patience.wait("10.0.0.1") == auth.WINDOW
    assert patience.wait("10.0.0.2") == 0
    now[0] += 59.5
    assert patience.wait("10.0.0.1") == pytest.approx(0.5)
    now[0] += 1
    assert patience.wait("10.0.0.1") == 0
    patience.wrong("10.0.0.1", "guess")
    assert patience.wait("10.0.0.1") == 0


def test_the_same_wrong_token_again_is_no_further_guess() -> None:
    """A program that was left with an old token sends it for ever."""
    patience = Patience()
    for _ in range(10 * auth.WRONG_ALLOWED):
        patience.wrong("10.0.0.1", "of the last run")
    for number in range(auth.WRONG_ALLOWED - 1):
        assert patience.wait("10.0.0.1") == 0
        patience.wrong("10.0.0.1", f"guess-{number}")
    assert patience.wait("10.0.0.1") > 0


def test_one_network_of_ipv6_is_one_visitor() -> None:
    patience = Patience()
    for number in range(auth.WRONG_ALLOWED):
        patience.wrong(f"2001:db8::{number:x}", f"guess-{number}")
    assert patience.wait("2001:db8::ffff:1") > 0
    assert patience.wait("2001:db8:0:1::1") == 0
    for number in range(auth.WRONG_ALLOWED):
        patience.wrong("::ffff:10.0.0.1", f"guess-{number}")
    assert patience.wait("::ffff:10.0.0.1") > 0
    assert patience.wait("::ffff:10.0.0.2") == 0


def test_it_remembers_only_so_many() -> None:
    patience = Patience()
    for number in range(3 * auth.MOST_ADDRESSES):
        patience.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "guess")
    assert len(patience._wrong) == auth.MOST_ADDRESSES
