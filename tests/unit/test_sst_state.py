"""The state file's text, and the position that the server writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst.errors import SstError
from pytunnel.sst.state import Position, State, format_state, parse_position, parse_state

UUID = "c4a544a1-e634-11f1-b8b7-3e9dd6f6a882"
POSITION = Position(UUID, 2, 0)


@pytest.mark.parametrize("text", [f"{UUID}:2 0", f"{UUID}:2 0\n"])
def test_a_position_is_read_as_the_server_writes_it(text: str) -> None:
    assert parse_position(text) == POSITION


def test_a_position_of_a_server_without_domains_stays_without() -> None:
    assert parse_position(f"{UUID}:2\n") == Position(UUID, 2)
    assert str(Position(UUID, 2)) == f"{UUID}:2"


def test_the_seqno_of_a_node_without_history_is_negative() -> None:
    assert parse_position(f"{UUID}:-1 0").seqno == -1


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", "2 0", UUID, f"{UUID[1:]}:2 0"),
        *(f"{UUID}:{rest}" for rest in ("", "x", "x 0", "2 0 0", "2  0", "2 -1", "٢ 0", "2\n0", "2 " + "9" * 5000)),
    ],
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(SstError, match="is no position; expected UUID:SEQNO, or UUID:SEQNO DOMAIN"):
        parse_position(text)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (f"{UUID}:2 0\n", State(POSITION)),
        (f"{UUID}:2 0", State(POSITION)),
        (f"{UUID}:2 0\nsecret abc\n", State(POSITION, "abc")),
        (f"{UUID}:2 0\nbypass\n", State(POSITION, bypass=True)),
        (f"{UUID}:2\nbypass\nsecret abc\n", State(Position(UUID, 2), "abc", True)),
        (f"{UUID}:2 0\nbypass\nsecret abc\n", State(POSITION, "abc", True)),
        (f"{UUID}:2 0\nsecret abc\nbypass\n", State(POSITION, "abc", True)),
    ],
)
def test_a_state_file_is_a_position_and_optional_lines(text: str, state: State) -> None:
    assert parse_state(text) == state


@pytest.mark.parametrize(
    "rest", ["secret", "secret ", "secret a b", "secret a\nsecret b", "bypass 1", "error", "", "bypass\n\n"]
)
def test_a_line_that_is_not_understood_is_refused_by_its_number(rest: str) -> None:
    with pytest.raises(SstError, match=r"line [23] of the state file"):
        parse_state(f"{UUID}:2 0\n{rest}\n")


def test_a_state_file_without_position_is_refused() -> None:
    with pytest.raises(SstError, match="is no position"):
        parse_state("bypass\n")


def test_an_empty_state_file_is_refused() -> None:
    with pytest.raises(SstError, match="is no position"):
        parse_state("")


def test_the_secret_is_shown_neither_by_repr_nor_by_an_error() -> None:
    assert "TopSecret" not in repr(State(POSITION, "TopSecret"))
    with pytest.raises(SstError) as caught:
        parse_state(f"{UUID}:2 0\nsecret TopSecret and more\n")
    assert "TopSecret" not in str(caught.value)


positions = st.builds(Position, st.uuids().map(str), st.integers(-1, 2**63 - 1), st.none() | st.integers(0, 2**32 - 1))
secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(positions)
def test_a_written_position_is_read_back(position: Position) -> None:
    assert parse_position(str(position)) == position


@given(positions, st.none() | secrets, st.booleans())
def test_a_written_state_is_read_back(position: Position, secret: str | None, bypass: bool) -> None:
    state = State(position, secret, bypass)
    assert parse_state(format_state(state)) == state
