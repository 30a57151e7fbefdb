"""The words of `pytunnel certs`: its help, and the commands that it tells to run. What they do is in
tests/integration/test_certs_program.py."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from lab import certificates as lab
from pytunnel.certs.advice import advise
from pytunnel.certs.making import Identity, issue, make_ca, make_key, make_self_signed, valid_for
from pytunnel.certs.names import Names, parse_names
from pytunnel.certs.rotation import Bundle, Goal, NodeFile, Progress, Step
from pytunnel.cli.certs import add_certs
from pytunnel.cli.command import CommandParser

COMMANDS = ["ca", "node", "self-signed", "bundle", "show", "verify", "rotate"]
OLD, NEW = Path("old ca.crt"), Path("new ca.crt")


def parse(words: list[str]) -> argparse.Namespace:
    """What the command line makes of the words behind `pytunnel`."""
    parser = CommandParser(prog="pytunnel")
    add_certs(parser.add_subparsers(required=True))
    return parser.parse_args(words)


def shown_help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(["certs", *words, "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], *([command] for command in COMMANDS)])
def test_the_help_has_examples_and_each_can_be_typed(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    examples = re.findall(r"^    (?:sudo )?pytunnel (certs .*)$", shown_help(capsys, *words), re.MULTILINE)
    assert examples
    for example in examples:
        assert callable(parse(shlex.split(example, comments=True)).run)


def test_the_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    listed = re.findall(r"^    ([a-z-]+)(?:  .*)?$", shown_help(capsys), re.MULTILINE)
    assert listed == COMMANDS


def advice(folder: Path, step: Step, new: Identity) -> list[str]:
    """The lines for a step; in commands, what the command line makes of them must be what was meant."""
    path = folder / NEW
    path.write_text(new.certificate_pem)
    return list(advise(step, OLD, path))


def node_file(folder: Path, name: str, text: str) -> NodeFile:
    (folder / name).write_text(text)
    return NodeFile.read(folder / name)


CA = make_ca("New CA", valid_for(900), make_key())
NAMES = parse_names(["node1.my.cluster", "node1"], ["10.0.0.1", "fd00::1"])


def renewal(folder: Path, file: NodeFile) -> argparse.Namespace:
    (line,) = advice(folder, Step(Goal.RENEW, Progress.NOW, nodes=(file,)), CA)
    return parse(shlex.split(line)[1:])


def test_a_new_certificate_is_made_with_the_names_of_the_old_one(tmp_path: Path) -> None:
    old = issue(CA, NAMES, valid_for(1), make_key())
    options = renewal(tmp_path, node_file(tmp_path, "node1.crt", old.certificate_pem))
    assert parse_names(options.names, options.ip) == NAMES
    assert (options.ca, options.ca_key) == (tmp_path / "new ca.crt", tmp_path / "new ca.key")
    assert (options.out, options.combined, options.force) == (str(tmp_path / "node1"), False, True)


def test_the_name_of_an_address_is_not_given_twice(tmp_path: Path) -> None:
    names: Names = parse_names(["10.0.0.1"])
    old = issue(CA, names, valid_for(1), make_key())
    options = renewal(tmp_path, node_file(tmp_path, "node1.crt", old.certificate_pem))
    assert (options.names, options.ip) == (["10.0.0.1"], [])


def test_a_combined_file_stays_a_combined_file(tmp_path: Path) -> None:
    old = issue(CA, NAMES, valid_for(1), make_key())
    options = renewal(tmp_path, node_file(tmp_path, "node1.pem", old.combined_pem))
    assert (options.out, options.combined) == (str(tmp_path / "node1"), True)


@pytest.mark.parametrize("name", ["server-cert.pem", "tls.cer", "node1.my"])
def test_a_file_with_a_name_that_certs_node_does_not_give_is_replaced_by_hand(tmp_path: Path, name: str) -> None:
    file = node_file(tmp_path, name, lab.self_signed("node1").certificate_pem().decode())
    line, sentence = advice(tmp_path, Step(Goal.RENEW, Progress.NOW, nodes=(file,)), CA)
    out = f"{tmp_path / Path(name).stem}-new"
    options = parse(shlex.split(line)[1:])
    assert (options.names, options.out, options.combined, options.force) == (["node1"], out, False, False)
    assert sentence == f"put {out}.crt in place of {file.path}, and {out}.key in place of the file of its key"


def test_a_combined_file_with_another_ending_is_replaced_by_hand(tmp_path: Path) -> None:
    file = node_file(tmp_path, "node1.crt", lab.self_signed("node1").combined_pem().decode())
    line, sentence = advice(tmp_path, Step(Goal.RENEW, Progress.NOW, nodes=(file,)), CA)
    options = parse(shlex.split(line)[1:])
    assert (options.out, options.combined, options.force) == (str(tmp_path / "node1-new"), True, False)
    assert sentence == f"put {tmp_path / 'node1-new.pem'} in place of {file.path}"


def test_a_new_certificate_that_is_no_ca_is_put_in_the_old_one_s_place(tmp_path: Path) -> None:
    new = make_self_signed(NAMES, valid_for(9), make_key())
    file = node_file(tmp_path, "node1.crt", new.certificate_pem)
    (line,) = advice(tmp_path, Step(Goal.RENEW, Progress.NOW, nodes=(file,)), new)
    assert line == f"put {tmp_path / 'new ca.crt'} and its key in the place of {tmp_path / 'node1.crt'} and its key"


def test_the_new_ca_comes_into_the_bundle(tmp_path: Path) -> None:
    bundle = Bundle(Path("my bundle.crt"), ())
    (line,) = advice(tmp_path, Step(Goal.TRUST_BOTH, Progress.NOW, bundles=(bundle,)), CA)
    options = parse(shlex.split(line)[1:])
    assert (options.files, options.without) == ([bundle.path, tmp_path / "new ca.crt"], [])
    assert (options.out, options.force) == (bundle.path, True)


def lines_for_lists(folder: Path, new: Identity) -> tuple[str, argparse.Namespace]:
    """What is said of a bundle with revocation lists, and the command behind it."""
    bundle = Bundle(Path("my bundle.crt"), ())
    step = Step(Goal.TRUST_BOTH, Progress.NOW, bundles=(bundle,), listless=(bundle,))
    sentence, line = advice(folder, step, new)
    return sentence, parse(shlex.split(line)[1:])


def test_the_new_ca_s_revocation_list_comes_into_a_bundle_that_has_others(tmp_path: Path) -> None:
    sentence, options = lines_for_lists(tmp_path, CA)
    assert "it needs the new CA's first" in sentence
    assert options.files == [Path("my bundle.crt"), tmp_path / "new ca.crt", tmp_path / "new ca.crl"]


def test_no_revocation_list_is_asked_for_from_a_node_that_signs_itself(tmp_path: Path) -> None:
    sentence, options = lines_for_lists(tmp_path, make_self_signed(NAMES, valid_for(9), make_key()))
    assert "take them out first" in sentence
    assert options.files == [Path("my bundle.crt"), tmp_path / "new ca.crt"]


def test_the_old_ca_leaves_the_bundle(tmp_path: Path) -> None:
    bundle = Bundle(Path("my bundle.crt"), ())
    (line,) = advice(tmp_path, Step(Goal.DROP_OLD, Progress.NOW, bundles=(bundle,)), CA)
    options = parse(shlex.split(line)[1:])
    assert (options.files, options.without, options.out) == ([bundle.path], [OLD], bundle.path)
