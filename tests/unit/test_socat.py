"""socat's syntax: words, quotes, numbers. tests/integration/test_socat_syntax.py asks socat itself."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sockopt.syntax import read_flag, read_integer, read_seconds, split_words

Words = list[tuple[str, str | None]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (",", []),
        ("nodelay", [("nodelay", None)]),
        ("cert=", [("cert", "")]),
        (",cert=a,,key=b,", [("cert", "a"), ("key", "b")]),
        ("cert=a=b", [("cert", "a=b")]),
        (r"cert=a\,b", [("cert", "a,b")]),
        (r"cert=a\\b", [("cert", r"a\b")]),
        ("cert='a,b'c", [("cert", "a,bc")]),
        ('cert="a,b"c', [("cert", "a,bc")]),
        (r'cert="a\"b"', [("cert", 'a"b')]),
        ("bind=[::1]:80", [("bind", "[::1]:80")]),
        ("cert=(a,{b,(c)}),key=d", [("cert", "(a,{b,(c)})"), ("key", "d")]),
        ("cert=('a',b)", [("cert", "('a',b)")]),
        ("cert=a]b", [("cert", "a]b")]),
        ("cert='!!'", [("cert", "!!")]),
        (" cert= a", [(" cert", " a")]),
    ],
)
def test_words_are_split_as_socat_splits_them(text: str, words: Words) -> None:
    assert list(split_words(text)) == words


@pytest.mark.parametrize("text", ["cert='a", 'cert="a', "cert=(a,key=b", "cert=(a]", "cert='(a'b)'"])
def test_what_is_never_closed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is missing"):
        list(split_words(text))


def test_a_backslash_at_the_end_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing follows the last backslash"):
        list(split_words("cert=a\\"))


def test_two_addresses_are_refused() -> None:
    with pytest.raises(ValueError, match="!!"):
        list(split_words("cert=a!!b"))


def test_a_nul_character_is_refused() -> None:
    with pytest.raises(ValueError, match="'cert' holds a NUL"):
        list(split_words(r"cert=a\0b"))


names = st.text(alphabet="abcdefghijklmnopqrstuvwxyz-", min_size=1)


@given(st.lists(st.tuples(names, st.text(st.characters(exclude_characters="\0nrtfbav0")))))
def test_a_value_with_every_character_escaped_comes_back_as_it_was(words: list[tuple[str, str]]) -> None:
    text = ",".join(name + "=" + "".join("\\" + character for character in value) for name, value in words)
    assert list(split_words(text)) == words


@given(st.lists(st.tuples(names, st.text(st.characters(exclude_characters="\0'\\")))))
def test_a_value_in_single_quotes_comes_back_as_it_was(words: list[tuple[str, str]]) -> None:
    text = ",".join(f"{name}='{value}'" for name, value in words)
    assert list(split_words(text)) == words


@given(st.text())
def test_any_text_is_split_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all(name or value is not None for name, value in split_words(text))


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("+3", 3), ("010", 8), ("0x1f", 31), ("0X1F", 31), ("-1", -1)]
)
def test_numbers_are_read_as_c_reads_them(text: str, number: int) -> None:
    assert read_integer(text, -5) == number


@pytest.mark.parametrize("text", ["", "1k", "0b1", "1_0", "08", " 1", "٣", "9" * 5000, "3000000000", "-6"])
def test_what_is_no_number_in_range_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number from -5 to 2147483647"):
        read_integer(text, -5)


@pytest.mark.parametrize(("text", "flag"), [("0", False), ("00", False), ("1", True), ("2", True), ("-1", True)])
def test_a_flag_is_false_for_nought_alone(text: str, flag: bool) -> None:
    assert read_flag(text) is flag


def test_a_flag_in_words_is_refused() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        read_flag("yes")


@pytest.mark.parametrize(("text", "seconds"), [("5", 5.0), ("1.25", 1.25), (".5", 0.5), ("5.", 5.0), ("1e1", 10.0)])
def test_times_may_have_fractions(text: str, seconds: float) -> None:
    assert read_seconds(text, 0) == seconds


@pytest.mark.parametrize("text", ["", "5s", "inf", "nan", "-1", "1:2", "1e999", "."])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"seconds such as 2\.5"):
        read_seconds(text, 0)
