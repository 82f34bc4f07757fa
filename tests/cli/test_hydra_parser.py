"""Hydra's parser under an argparse that looks into each help, as Python 3.14's does."""

import argparse

import pytest
from hydra._internal.utils import get_args_parser

from cifar_exp.cli.hydra_parser import make_parsable


class NoText:
    """What Hydra passes: text only when it is shown."""


@pytest.fixture
def looks_into_help(monkeypatch):
    """Python 3.14's behaviour, whichever Python this is."""
    add_argument = argparse.ArgumentParser.add_argument

    def check_help(parser, action):
        if action.help and "%" not in action.help:  # raises TypeError for what is not text
            return
        raise ValueError("badly formed help string")

    def added(parser, *args, **options):
        action = add_argument(parser, *args, **options)
        parser._check_help(action)
        return action

    monkeypatch.setattr(argparse.ArgumentParser, "_check_help", check_help, raising=False)
    monkeypatch.setattr(argparse.ArgumentParser, "add_argument", added)


@pytest.mark.usefixtures("looks_into_help")
def test_a_help_that_is_no_text_is_let_through_and_a_wrong_one_is_not():
    with pytest.raises(TypeError):
        get_args_parser()
    make_parsable()
    make_parsable()
    assert get_args_parser().parse_args(["-m", "epochs=1"]).multirun
    parser = argparse.ArgumentParser()
    parser.add_argument("--lazy", help=NoText())
    with pytest.raises(ValueError, match="badly formed"):
        parser.add_argument("--odd", help="100 %")


def test_this_python_parses():
    make_parsable()
    assert get_args_parser().parse_args(["--cfg", "job"]).cfg == "job"
