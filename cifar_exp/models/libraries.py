"""Classification networks of torchvision and timm, by the names in the libraries' registries."""

import difflib
import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from cifar_exp.errors import RequestError, in_a_line
from cifar_exp.models.resnet import use_cifar_stem

log = logging.getLogger(__name__)

_WITH_AUXILIARY = ("googlenet", "inception_v3")  # torchvision's networks with further heads for training


def torchvision_network(
    *, num_classes: int, in_channels: int, architecture: str, stem: str, image_size: int
) -> nn.Module:
    """A network of ``torchvision.models`` with random weights.

    ``in_channels`` is 1 or 3, ``stem`` is ``own`` or ``cifar`` (see ``use_cifar_stem``), and ``image_size`` the height
    and width of the input in pixels, for networks that are built for one size.

    Raises:
        RequestError: torchvision has no such network, or cannot build it for this size.
    """
    from torchvision import models  # not at the top: the other networks do not need it

    check_name("torchvision", architecture)
    options: dict[str, Any] = {"num_classes": num_classes}
    if architecture in _WITH_AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    if architecture.startswith("vit_"):
        options["image_size"] = image_size
    if architecture.startswith("maxvit_"):
        options["input_size"] = (image_size, image_size)
    network = _built(architecture, image_size, lambda: models.get_model(architecture, **options))
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    if in_channels != first.in_channels:
        first.in_channels = in_channels
        first.weight = nn.Parameter(first.weight[:, :in_channels].detach().clone())
    return use_cifar_stem(network, architecture, in_channels) if stem == "cifar" else network


def timm_network(*, num_classes: int, in_channels: int, architecture: str, stem: str, image_size: int) -> nn.Module:
    """A network of timm with random weights; see ``torchvision_network``."""
    check_name("timm", architecture)
    options = {"num_classes": num_classes, "in_chans": in_channels}
    network = _built(architecture, image_size, lambda: _create_by_timm(architecture, image_size, **options))
    return use_cifar_stem(network, architecture, in_channels) if stem == "cifar" else network


def _create_by_timm(architecture: str, image_size: int, **options: Any) -> nn.Module:
    import timm

    default = timm.get_pretrained_cfg(architecture)
    if default is not None and default.fixed_input_size:
        options["img_size"] = image_size
    network: nn.Module = timm.create_model(architecture, **options)
    return network


def _built(architecture: str, image_size: int, build: Callable[[], nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own deprecations
        try:
            return build()
        except NotImplementedError:  # it computes with values, which the meta device does not have
            raise
        except Exception as error:
            raise RequestError(
                f"model.architecture={architecture}: cannot be built for images of {image_size}x{image_size} "
                f"(data.image_size): {in_a_line(error)}"
            ) from error


def names(library: str) -> Sequence[str]:
    """The names of a library's classification networks; in timm also with a tag of pretrained weights.

    Raises:
        RequestError: the library is not installed.
    """
    if find_spec(library) is None:
        raise RequestError(f"model={library}: requires an optional dependency: pip install 'cifar-exp[{library}]'")
    if library == "torchvision":
        from torchvision import models

        return list(models.list_models(module=models))
    import timm

    return [*timm.list_models(), *timm.list_pretrained()]


def check_name(library: str, name: str) -> None:
    """Refuse a name that is not in the library's registry."""
    known = names(library)
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    other = {"torchvision": "timm", "timm": "torchvision"}[library]
    elsewhere = f"; model={other} has it" if find_spec(other) is not None and name in names(other) else ""
    listing = "timm.list_models()" if library == "timm" else "torchvision.models.list_models(torchvision.models)"
    raise RequestError(
        f"model.architecture={name}: {library} has no such classification network{elsewhere}; "
        f"the nearest: {', '.join(near) or 'none'}; all: {listing}"
    )


def pretrained_state(library: str, architecture: str, in_channels: int, image_size: int) -> dict[str, Tensor]:
    """The weights that the library publishes for a network, with their own classes; downloaded at the first use.

    Raises:
        RequestError: there are none, or they cannot be downloaded.
    """
    log.info("Pretrained weights of %s, from %s (downloaded at the first use)", architecture, library)
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs each of its many attempts
    try:
        with redirect_stderr(io.StringIO()):
            if library == "timm":
                return _create_by_timm(architecture, image_size, pretrained=True, in_chans=in_channels).state_dict()
            from torchvision import models

            weights = models.get_model_weights(architecture).DEFAULT
            state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # whatever a download raises
        raise RequestError(
            f"model.pretrained=true: {library} cannot provide the weights of {architecture}: {in_a_line(error)[:200]}; "
            "model.weights=FILE uses a file that you have"
        ) from error
    # DenseNets were published with older names; the auxiliary heads are not built.
    current = {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)", r"\1\2", key): state[key] for key in state}
    return {key: value for key, value in current.items() if not key.startswith(("aux1.", "aux2.", "AuxLogits."))}
