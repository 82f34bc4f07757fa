"""The callables that a configuration may name: every ``_target_`` is checked before anything is called.

A config file can come from a stranger, and Hydra's ``instantiate`` calls any name. So each group may only name the
targets of its registry; ``trust=[package]`` allows a package of the user's own.
"""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from hydra.utils import get_object

from cifar_exp.config.schema import REGISTRY
from cifar_exp.errors import RequestError, in_a_line

_DONE_BY_CIFAR_EXP = {f"albumentations.{name}" for name in ("Normalize", "ToFloat", "ToTensorV2")}


def check_targets(config: Mapping[str, Any], trusted: list[str]) -> None:
    """Refuse a configuration that names a callable outside the allow-list and the ``trusted`` top-level packages."""
    for path, target in targets(config):
        if not isinstance(target, str):
            raise RequestError(f"{path}={target}: must be the name of a callable")
        group = path.split(".", 1)[0]
        allowed = REGISTRY[group].targets if group in REGISTRY else {}
        if target in allowed or target.split(".", 1)[0] in trusted:
            continue
        if target in _DONE_BY_CIFAR_EXP:
            raise RequestError(f"{path}={target}: remove it; images stay uint8 until cifar-exp normalizes each batch")
        of_augment = ["Albumentations' transforms with plain arguments", "torchvision's policies"]
        names = of_augment if group == "augment" else sorted(allowed)
        raise RequestError(
            f"{path}={target}: not an allowed target for group {group!r} (allowed: {', '.join(names) or 'none'}); "
            "add trust=[PACKAGE] to allow your own package"
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
    """Call a checked node's ``_target_`` with the node's other keys as keyword arguments.

    ``name`` and the keys in ``without`` are not passed; ``extra`` are arguments that are not in the configuration.

    Raises:
        RequestError: the callable does not exist, does not accept these arguments, or fails with them.
    """
    options = options_of(node)
    target = options["_target_"]
    options = {key: value for key, value in options.items() if key not in ("_target_", "name", *without)}
    try:
        function = get_object(target)
    except Exception as error:  # Hydra wraps errors of any type
        raise RequestError(
            f"_target_={target}: cannot be imported ({' '.join(str(error).split())}); "
            "your own package must be installed or on PYTHONPATH"
        ) from error
    if twice := sorted(options.keys() & extra.keys()):
        hint = "; for the learning rate, set max_lr" if "lr" in twice else ""
        raise RequestError(f"{target}: {', '.join(twice)} {'is' if len(twice) == 1 else 'are'} set by cifar-exp{hint}")
    name, package = target.rsplit(".", 1)[-1], target.partition(".")[0]
    advice = ""
    if extra and package not in ("cifar_exp", "torch", "albumentations"):
        advice = (
            f"; cifar-exp always passes {', '.join(extra)}: if {name} names them differently, use a function that "
            f"accepts these and calls {name} (docs/networks.md)"
        )
    try:
        # Check argument names first, so that a TypeError from inside the call is not mistaken for one.
        inspect.signature(function).bind(*arguments, **options, **extra)
    except TypeError as error:
        given = f" (cifar-exp itself passes {', '.join(extra)})" if extra else ""
        raise RequestError(f"{target}: {error}{given}{advice}") from error
    try:
        return function(*arguments, **options, **extra)
    except RequestError:
        raise
    except Exception as error:
        if package == "cifar_exp":  # a bug, not a wrong request
            raise
        passed = ", ".join(f"{key}={value!r}" for key, value in {**options, **extra}.items())[:300]
        raise RequestError(f"{target}: fails with the arguments {passed}: {in_a_line(error)}{advice}") from error
