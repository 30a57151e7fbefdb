"""What my_print_defaults prints, as values. The program itself is asked in tests/integration/test_optionfile.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytunnel.sst.address import Address
from pytunnel.sst.optionfile import OptionGroup, command_line, parse_output
from pytunnel.sst.request import Request, Role, ServerOption


def group(output: bytes) -> OptionGroup:
    return OptionGroup(tuple(parse_output(output)))


def test_the_last_of_several_values_counts() -> None:
    assert group(b"--tca=/a\n--x=1\n--tca=/b\n").get("tca") == "/b"


def test_underscores_and_dashes_are_the_same() -> None:
    options = group(b"--log_bin=a\n--log-bin-index=b\n")
    assert (options.get("log-bin"), options.get("log_bin_index")) == ("a", "b")


def test_loose_options_are_options() -> None:
    assert group(b"--loose-log-bin=a\n--loose_relay_log=b\n").get("relay-log") == "b"
    assert group(b"--loose-log-bin=a\n").get("log-bin") == "a"


def test_a_flag_an_empty_value_and_a_missing_option_differ() -> None:
    options = group(b"--flag\n--empty=\n")
    assert ("flag" in options, options.get("flag")) == (True, None)
    assert ("empty" in options, options.get("empty")) == (True, "")
    assert ("missing" in options, options.get("missing")) == (False, None)


@pytest.mark.parametrize("line", [b"--x\n", b"--x=1\n", b"--x=ON\n", b"--x=True\n", b"--x=0\n--x=yes\n"])
def test_a_switch_that_is_on(line: bytes) -> None:
    assert group(line).is_on("x")


@pytest.mark.parametrize("line", [b"", b"--x=\n", b"--x=0\n", b"--x=off\n", b"--x\n--x=OFF\n"])
def test_a_switch_that_is_off(line: bytes) -> None:
    assert not group(line).is_on("x")


def test_a_flag_after_a_value_takes_the_value_back() -> None:
    assert group(b"--log-bin=a\n--log-bin\n").get("log-bin") is None


def test_a_value_is_kept_as_it_is() -> None:
    sockopt = ",cipher=!SSLv2:kEECDH:+3DES,pf=ip6"
    assert group(f"--sockopt={sockopt}\n".encode()).get("sockopt") == sockopt


def test_a_path_that_is_not_utf_8_stays_the_same_path() -> None:
    assert bytes(Path(group(b"--tca=/caf\xe9\n").get("tca") or "")) == b"/caf\xe9"


def test_no_output_is_an_empty_group() -> None:
    assert group(b"") == OptionGroup()


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z-]{0,9}", fullmatch=True),
        st.none() | st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])),
    )
)
def test_printed_options_come_back_as_they_were(options: dict[str, str | None]) -> None:
    lines = [f"--loose-{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    found = group("".join(f"{line}\n" for line in lines).encode())
    assert found.options == tuple(ServerOption(name.removeprefix("loose-"), value) for name, value in options.items())


PLAIN = Request(Role.JOINER, Address("node2"), Path("/db"))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (PLAIN, []),
        (replace(PLAIN, defaults_file=Path("/a b.cnf")), ["--defaults-file=/a b.cnf"]),
        (
            replace(PLAIN, defaults_extra_file=Path("/e"), defaults_group_suffix=".2"),
            ["--defaults-extra-file=/e", "--defaults-group-suffix=.2"],
        ),
    ],
)
def test_options_about_files_come_first(request_: Request, words: list[str]) -> None:
    assert command_line(request_, "--mysqld") == ["my_print_defaults", *words, "--mysqld"]
