"""The text of ``--help``: usage, the options of each group, each key with its value and description."""

from collections.abc import Iterator
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cifar_exp.cli.commands import COMMANDS, run_command
from cifar_exp.config.compose import compose_job, without_hydra
from cifar_exp.config.hydra_errors import CONFIG_MODULE
from cifar_exp.config.parse import as_yaml
from cifar_exp.config.schema import GROUPS, SCHEMAS, group_schema
from cifar_exp.config.suggestions import suggest_key
from cifar_exp.errors import DONE, RequestError

_USAGE = """\
cifar-exp: train, explain, reproduce and compare image classifiers on CIFAR-10

One run, and a sweep (every combination, each in its own directory):
  cifar-exp experiment=quickstart
  cifar-exp max_lr=0.05 epochs=10 model=resnet9
  cifar-exp -m max_lr=0.01,0.05 epochs=5,10
  cifar-exp -m hydra/launcher=joblib max_lr=0.01,0.05   several jobs at a time (also ray, slurm)
  cifar-exp -m hydra/sweeper=optuna                     jobs chosen by the results of earlier ones

Commands (each has its own --help):
{commands}

Options of each config group (GROUP=OPTION; `cifar-exp --help GROUP` describes them):
{groups}

The keys, as these arguments compose them (change any: KEY=VALUE):
{keys}

Flags: --cfg job (only the config), -m (a sweep), --config-dir DIR (your own options), --trust PACKAGE (allow your own
package), --version, --hydra-help (all flags). Shell completion: eval "$(cifar-exp -sc install=bash)" (or zsh, fish).
Exit codes: 0 done, 1 a run failed or diverged, 2 the request is wrong, 130 interrupted."""

_GROUPS = (*GROUPS, "averaging", "tracker", "experiment")
_NAME_WIDTH, _VALUE_WIDTH = 36, 22  # characters of the columns; longer texts push the rest to the right


def show_help(arguments: list[str], *, config_dir: str | None) -> int:
    """Print the whole help, or that on the groups, keys or commands named among the overrides; returns the exit code.

    Raises:
        RequestError: no such group, key or command.
    """
    topics = [argument for argument in arguments if "=" not in argument and argument[0] not in "+~"]
    overrides = [argument for argument in arguments if argument not in topics]
    if not topics:
        print(help_text(overrides, config_dir=config_dir))
    for topic in topics:
        if topic in COMMANDS:
            return run_command(topic, ["--help"])
        print(_topic_text(topic, overrides, config_dir))
    return DONE


def help_text(overrides: list[str], *, config_dir: str | None = None) -> str:
    """Usage, the options of each group, and the composed keys with their descriptions."""
    job = without_hydra(compose_job(overrides, config_dir=config_dir, checked=False))
    groups = "\n".join(f"  {group}: {', '.join(_options(group, config_dir))}" for group in _GROUPS)
    blocks: dict[str, list[str]] = {"": []}  # of the top-level keys, then of each node
    for key, line in _lines(job, ""):
        blocks.setdefault(key.partition(".")[0] if "." in key else "", []).append(line)
    keys = "\n\n".join("\n".join(block) for block in blocks.values())
    commands = "\n".join(f"  cifar-exp {f'{name} {one.usage}':28} {one.purpose}" for name, one in COMMANDS.items())
    return _USAGE.format(commands=commands, groups=groups, keys=keys)


def _topic_text(topic: str, overrides: list[str], config_dir: str | None) -> str:
    """The help on a group with its options, or on a node or a key."""
    job = without_hydra(compose_job(overrides, config_dir=config_dir, checked=False))
    found = _options(topic, config_dir)
    options = [f"  {topic}={name}".ljust(32) + _purpose(file) for name, file in found.items()]
    keys = [] if topic == "experiment" else [line for _, line in _lines(job, topic)]
    if not options and not keys:
        known = [*_GROUPS, *(key for key, _ in _lines(job, ""))]
        hint = suggest_key(topic, known)
        raise RequestError(f"--help {topic}: no such group, key or command{hint}; `cifar-exp --help` lists them")
    if options and keys:
        chosen = f" of {topic}={job[topic].get('name')}" if topic in GROUPS else ""
        keys.insert(0, f"\nKeys{chosen} (those of another option: cifar-exp --help {topic} {topic}=OPTION):")
    if options:
        options.insert(0, f"Options of {topic}:")
    return "\n".join(line.rstrip() for line in [*options, *keys])


def _options(group: str, config_dir: str | None) -> dict[str, Any]:
    """The files of a group's options by name; Hydra's own list takes a quarter of the time of ``--help``."""
    roots = [files(CONFIG_MODULE), *([Path(config_dir)] if config_dir else [])]
    folders: list[Any] = [root.joinpath(*group.split("/")) for root in roots]
    found = {file.name: file for folder in folders if folder.is_dir() for file in folder.iterdir()}
    return {name.removesuffix(".yaml"): found[name] for name in sorted(found) if name.endswith(".yaml")}


def _purpose(file: Any) -> str:
    """The first comment line of an option's file, which states its purpose."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()[:3]
    return next((line[2:] for line in lines if line.startswith("# ") and "@package" not in line), "")


def _lines(job: DictConfig, node: str) -> Iterator[tuple[str, str]]:
    """Each key of a node, or the key itself, with its line: name, value, description."""
    value = OmegaConf.select(job, node) if node else job
    if not isinstance(value, DictConfig):
        parent, _, leaf = node.rpartition(".")
        above = OmegaConf.select(job, parent) if parent else job
        if isinstance(above, DictConfig) and leaf in above:
            yield node, _line(above, parent, leaf)
        return
    for key in value:
        name = f"{node}.{key!s}".lstrip(".")
        if isinstance(value._get_node(key), DictConfig):
            yield from _lines(job, name)
        elif key != "_target_":
            yield name, _line(value, node, str(key))


def _line(node: DictConfig, name: str, key: str) -> str:
    """The line of a key: the dotted name, the value as in an override, the description of the schema's field."""
    schema = SCHEMAS[name][0] if name in SCHEMAS else None
    if name in GROUPS and name != "augment":
        schema = group_schema(name, node.get("_target_"))
    value: Any = OmegaConf.to_container(node)[key]  # type: ignore[call-overload, index]  # keeps interpolations
    described = {} if schema is None else {one.name: one.metadata.get("description", "") for one in fields(schema)}
    dotted = f"{name}.{key}".lstrip(".")
    return f"  {dotted:{_NAME_WIDTH}} {as_yaml(value):{_VALUE_WIDTH}} {described.get(key, '')}".rstrip()
