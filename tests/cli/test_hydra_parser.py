"""Hydra's private parser, also with the stricter argparse of Python 3.14."""

import argparse

import pytest
from hydra._internal.utils import get_args_parser

from cifar_exp.cli.hydra_parser import _SWITCHES, _WITH_VALUE, patch_help_check


class LazyText:
    """A lazy help text, as Hydra passes one."""


@pytest.fixture
def strict_argparse(monkeypatch):
    """The check of Python 3.14, in any Python."""
    add_argument = argparse.ArgumentParser.add_argument

    def check_help(parser, action):
        if action.help and "%" not in action.help:  # raises TypeError unless it is a string
            return
        raise ValueError("badly formed help string")

    def added(parser, *args, **options):
        action = add_argument(parser, *args, **options)
        parser._check_help(action)
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", added)


@pytest.mark.usefixtures("strict_argparse")
def test_a_lazy_help_text_is_accepted_and_a_malformed_one_is_not():
    with pytest.raises(TypeError):
        get_args_parser()
    patch_help_check()
    patch_help_check()
    assert get_args_parser().parse_args(["-m", "epochs=1"]).multirun
    parser = argparse.ArgumentParser()
    parser.add_argument("--lazy", help=LazyText())
    with pytest.raises(ValueError, match="badly formed"):
        parser.add_argument("--odd", help="100 %")


def test_the_parser_has_the_flags_that_the_program_reads():
    patch_help_check()
    flags = vars(get_args_parser().parse_args(["--cfg", "job"]))
    assert flags["cfg"] == "job"
    assert {"help", "overrides", "config_path", "experimental_rerun", *_WITH_VALUE, *_SWITCHES} <= set(flags)
