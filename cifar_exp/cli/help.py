"""What ``--help`` prints: usage, each group's options, each key with its value and description."""

from collections.abc import Iterator
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar_exp.cli.commands import COMMANDS
from cifar_exp.config.compose import CONFIG_MODULE, compose_jobs, composition, without_hydra
from cifar_exp.config.fields import descriptions
from cifar_exp.config.hydra_errors import group_options
from cifar_exp.config.schema import GROUPS, SCHEMAS, group_schema
from cifar_exp.config.suggestions import suggest_key
from cifar_exp.errors import DONE, RequestError

_USAGE = """\
cifar-exp: train, explain, reproduce and compare image classifiers on CIFAR-10

One run, and a sweep (every combination, each in a directory of its own):
  cifar-exp experiment=quickstart
  cifar-exp max_lr=0.05 epochs=10 model=resnet9
  cifar-exp -m max_lr=0.01,0.05 epochs=5,10
  cifar-exp -m hydra/launcher=joblib max_lr=0.01,0.05   several jobs at a time (also ray, slurm)
  cifar-exp -m hydra/sweeper=optuna                     jobs chosen by the results of earlier ones

Before a sweep (every command has its own --help):
  cifar-exp lr-find [KEY=VALUE ...]    which max_lr to start from

Commands about existing runs:
  cifar-exp compare PATH...    what differs, by how much, and whether it means anything
  cifar-exp resume RUN         continue an interrupted run or sweep
  cifar-exp reproduce RUN      run the saved config again: are the numbers the same?
  cifar-exp evaluate RUN       measure the checkpoint again, on its own or on other data
  cifar-exp predict RUN PATH   classify images, from the run directory alone
  cifar-exp list [PATH...]     the runs, newest first
  cifar-exp report RUN...      write report.html again, from the run directory alone

Options of each config group (GROUP=OPTION; `cifar-exp --help GROUP` describes them):
{groups}

The keys, as these arguments compose them (change any: KEY=VALUE):
{keys}

Flags: --cfg job (only the config), -m (a sweep), --config-dir DIR (options of your own), --trust PACKAGE (let it be
called), --version, --hydra-help (all flags). Shell completion: eval "$(cifar-exp -sc install=bash)" (or zsh, fish).
Exit codes: 0 done, 1 a run failed or diverged, 2 the request is wrong, 130 interrupted."""

_GROUPS = (*GROUPS, "averaging", "tracker", "experiment")
_MOST_NAME, _MOST_VALUE = 36, 22  # characters of the columns; longer ones push the rest to the right


def show_help(arguments: list[str], *, config_dir: str | None) -> int:
    """Print the whole help, or that on the groups, keys or commands named among the overrides; returns the exit code.

    Raises:
        RequestError: there is no such group, key or command.
    """
    topics = [argument for argument in arguments if "=" not in argument and argument[0] not in "+~"]
    overrides = [argument for argument in arguments if argument not in topics]
    if not topics:
        print(help_text(overrides, config_dir=config_dir))
    for topic in topics:
        if topic in COMMANDS:
            return int(import_module(COMMANDS[topic]).main(["--help"]))
        print(topic_text(topic, overrides, config_dir=config_dir))
    return DONE


def help_text(overrides: list[str], *, config_dir: str | None = None) -> str:
    """Usage, the options of each group, and the composed keys with their descriptions."""
    job = without_hydra(compose_jobs(overrides, config_dir=config_dir, checked=False)[0])
    with composition(config_dir):
        groups = "\n".join(f"  {group}: {', '.join(group_options(group))}" for group in _GROUPS)
    top = [key for key in job if not isinstance(job._get_node(key), DictConfig)]
    nodes = [str(key) for key in job if key not in top]
    blocks = ["\n".join(_lines(job, "", only=top)), *("\n".join(_lines(job, node)) for node in nodes)]
    return _USAGE.format(groups=groups, keys="\n\n".join(blocks))


def topic_text(topic: str, overrides: list[str], *, config_dir: str | None = None) -> str:
    """The help on a group, with its options, or on a node or a key.

    Raises:
        RequestError: there is no such topic.
    """
    job = without_hydra(compose_jobs(overrides, config_dir=config_dir, checked=False)[0])
    lines = []
    with composition(config_dir):
        for name in group_options(topic):
            lines.append((f"  {topic}={name}".ljust(32) + _purpose(topic, name, config_dir)).rstrip())
    if lines:
        lines = [f"Options of {topic}:", *lines, ""]
    if topic == "experiment":
        return "\n".join(lines).rstrip()
    found = list(_lines(job, topic))
    if found and lines:
        chosen = f" of {topic}={job[topic].get('name')}" if topic in GROUPS else ""
        found = [f"Keys{chosen} (those of another option: cifar-exp --help {topic} {topic}=OPTION):", *found]
    if not lines and not found:
        known = [*_GROUPS, *(key for key, _, _ in _keys(job, ""))]
        raise RequestError(
            f"--help {topic}: no such group, key or command{suggest_key(topic, known)}; `cifar-exp --help` lists them"
        )
    return "\n".join([*lines, *found]).rstrip()


def _purpose(group: str, option: str, config_dir: str | None) -> str:
    """The first line of an option's file, which says what it is for."""
    folders = ([Path(config_dir)] if config_dir else []) + [files(CONFIG_MODULE)]
    for folder in folders:
        try:
            text = folder.joinpath(*group.split("/"), f"{option}.yaml").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        comments = [line[2:] for line in text.splitlines()[:3] if line.startswith("# ") and "@package" not in line]
        return comments[0] if comments else ""
    return ""


def _lines(job: DictConfig, node: str, only: list[Any] | None = None) -> Iterator[str]:
    """A line for each key of a node, or for one key: its name, its value, its description."""
    for key, value, description in _keys(job, node):
        if only is None or key in only:
            start = f"  {key.ljust(_MOST_NAME)} {value.ljust(_MOST_VALUE)} "
            yield (start + description).rstrip()


def _keys(job: DictConfig, node: str) -> Iterator[tuple[str, str, str]]:
    """Dotted name, value as text and description of each leaf of a node, or of the key itself."""
    value = OmegaConf.select(job, node) if node else job
    if not isinstance(value, DictConfig):
        parent, _, leaf = node.rpartition(".")
        above = OmegaConf.select(job, parent) if parent else job
        if isinstance(above, DictConfig) and leaf in above:
            yield node, _as_text(above, leaf), _described(above, parent).get(leaf, "")
        return
    described = _described(value, node)
    for key in value:
        name = f"{node}.{key!s}".lstrip(".")
        if isinstance(value._get_node(key), DictConfig):
            yield from _keys(job, name)
        elif key != "_target_":
            yield name, _as_text(value, str(key)), described.get(str(key), "")


def _described(node: DictConfig, name: str) -> dict[str, str]:
    if name in GROUPS and name != "augment":
        schema = group_schema(name, node.get("_target_"))
        return {} if schema is None else descriptions(schema)
    return descriptions(SCHEMAS[name][0]) if name in SCHEMAS else {}


def _as_text(node: DictConfig, key: str) -> str:
    """A value as it is written in an override, its interpolation as it stands."""
    plain = OmegaConf.to_container(node)[key]  # type: ignore[call-overload, index]
    if plain is None or isinstance(plain, bool):
        return str(plain).lower().replace("none", "null")
    return str(plain).replace("'", "") if isinstance(plain, list | tuple) else str(plain)
