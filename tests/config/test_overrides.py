"""Values on the command line: a text is used literally, also each text of a sweep."""

from dataclasses import fields

import pytest

from cifar_exp.config.compose import compose_job
from cifar_exp.config.overrides import split_trust, with_quotes
from cifar_exp.config.schema import SCHEMAS
from cifar_exp.errors import RequestError
from cifar_exp.sweeps.grid import Request, compose_sweep

TEXTS = (
    "my images/a=b", "a&b", "a#b", "it's", 'say "hi"', "~/x", "x(1)", "a[1]", "a{b}", "a!b;c", "a`b^c", "<a|b>", "é ü",
    "http://h/x?y=1&z=2", "1e5", "1_000", "true", "2024", "007", "a  b", r"C:\my files\x", r"end\'s", "back\\",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_used_literally(text):
    once = with_quotes([f"name={text}"])
    assert compose_job(once).name == text
    assert with_quotes(once) == once


def test_each_text_of_a_sweep_is_used_literally():
    jobs = compose_sweep(Request(["name=a b,c=d,1e5", "max_lr=1e-2,1e-1"])).jobs
    assert [job.config.name for job in jobs[::2]] == ["a b", "c=d", "1e5"]
    assert [job.config.max_lr for job in jobs[:2]] == [0.01, 0.1]


@pytest.mark.parametrize(
    "override", ["max_lr=choice(0.1,0.2)", "explain.layers=[a,b]", "name='a,b'", "~augment.transforms.flip", "seed=1e5"]
)
def test_values_of_the_grammar_are_not_quoted(override):
    assert with_quotes([override]) == [override]


def test_trust_among_overrides():
    assert split_trust(["trust=[a,b]", "epochs=1", "trust='c'"]) == (["a", "b", "c"], ["epochs=1"])
    with pytest.raises(RequestError, match=r"trust=\[PACKAGE\]"):
        split_trust(["trust=[../a]"])


def test_every_key_has_a_description_on_one_line():
    nodes = {"model", "data", "augment", "optimizer", "scheduler", "_target_", "low_resolution", "transforms", *SCHEMAS}
    for schemas in SCHEMAS.values():
        for schema in schemas:
            for one in fields(schema):
                text = one.metadata.get("description", "")
                assert one.name in nodes or (text and "\n" not in text and not text.endswith(".")), one.name
