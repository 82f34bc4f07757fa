"""Which callables a configuration may name: every ``_target_`` is checked here before anything is called.

A config file can come from someone else, and Hydra's ``instantiate`` would call whatever it names. So each
group may only name what its registry holds; a package of the user's own is let in by ``trust=[package]``.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from hydra.utils import get_object

from cifar_exp.config.schema import REGISTRY
from cifar_exp.errors import RequestError, in_a_line

_MADE_BY_THE_RUNNER = {
    "albumentations.Normalize",
    "albumentations.ToFloat",
    "albumentations.ToTensorV2",
}


def check_targets(config: Mapping[str, Any], trusted: list[str]) -> None:
    """Refuse a configuration that names a callable outside the allow-list.

    Args:
        config: the whole configuration as plain containers.
        trusted: top-level packages whose callables are let in as well.

    Raises:
        RequestError: names the first offending value, where it stands and what is allowed there.
    """
    for path, target in targets(config):
        if not isinstance(target, str):
            raise RequestError(f"{path}={target}: must be the name of a callable")
        group = path.split(".", 1)[0]
        allowed = REGISTRY[group].targets if group in REGISTRY else {}
        if target in allowed or target.split(".", 1)[0] in trusted:
            continue
        if target in _MADE_BY_THE_RUNNER:
            raise RequestError(
                f"{path}={target}: leave it out; images stay uint8 and the runner normalizes them in batch"
            )
        near = sorted(allowed) if len(allowed) <= 8 else ["albumentations' transforms of plain values"]
        raise RequestError(
            f"{path}={target}: not on the list of what {group!r} may call ({', '.join(near) or 'nothing'}); "
            "a package of your own is let in by trust=[PACKAGE]"
        )


def targets(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in nested containers, with its dotted path."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            here = f"{path}.{key}" if path else str(key)
            if key == "_target_":
                yield here, value
            else:
                yield from targets(value, here)
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield from targets(value, f"{path}.{position}")


def options_of(node: Any) -> dict[str, Any]:
    """The keys of a group's node and their values."""
    return dict(node) if isinstance(node, Mapping) else {one.name: getattr(node, one.name) for one in fields(node)}


def call(node: Any, *arguments: Any, without: tuple[str, ...] = (), **extra: Any) -> Any:
    """Call what a checked node names, with the node's other keys as keyword arguments.

    Args:
        node: a group's node; its ``_target_`` has passed ``check_targets``.
        arguments: positional arguments to put in front.
        without: keys of the node that are not the callable's business (``name`` never is).
        extra: keyword arguments that the configuration does not hold.

    Raises:
        RequestError: there is no such callable, it does not take these arguments, or it fails with them.
    """
    options = options_of(node)
    target = options["_target_"]
    options = {key: value for key, value in options.items() if key not in ("_target_", "name", *without)}
    try:
        function = get_object(target)
    except Exception as error:  # Hydra wraps whatever the import raised
        raise RequestError(
            f"_target_={target}: cannot be imported ({' '.join(str(error).split())}); "
            "a package of your own must be installed or on PYTHONPATH"
        ) from error
    if twice := sorted(options.keys() & extra.keys()):
        raise RequestError(f"{target}: {', '.join(twice)} is given by the runner (the learning rate is max_lr)")
    try:
        # Binding alone finds a wrong argument's name without hiding a TypeError from inside the call.
        inspect.signature(function).bind(*arguments, **options, **extra)
    except TypeError as error:
        given = f" (the runner itself passes {', '.join(extra)})" if extra else ""
        raise RequestError(f"{target}: {error}{given}{_how_to_wrap(target, extra)}") from error
    try:
        return function(*arguments, **options, **extra)
    except RequestError:
        raise
    except Exception as error:
        if target.startswith("cifar_exp."):  # an error of our own is no wrong request
            raise
        passed = ", ".join(f"{key}={value!r}" for key, value in {**options, **extra}.items())[:300]
        raise RequestError(
            f"{target}: fails with the arguments {passed}: {in_a_line(error)}{_how_to_wrap(target, extra)}"
        ) from error


def _how_to_wrap(target: str, extra: Mapping[str, Any]) -> str:
    """What to do about a user's own callable that does not take what the runner passes."""
    if not extra or target.split(".")[0] in ("cifar_exp", "torch", "albumentations"):
        return ""
    name = target.rsplit(".", 1)[-1]
    return (
        f"; the runner always passes {', '.join(extra)}: if {name} calls them otherwise, name a function of your own "
        f"instead that takes these and calls {name} (docs/networks.md)"
    )
