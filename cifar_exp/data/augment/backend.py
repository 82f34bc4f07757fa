"""Who augments: Albumentations, image by image on the CPU, or the compute device, a batch at a time."""

from dataclasses import dataclass

import torch

from cifar_exp.data.augment.device_pipeline import DeviceAugmentation
from cifar_exp.data.augment.from_albumentations import NotBatchedError, translate
from cifar_exp.data.augment.policy import Augmentation

# Of a GPU's memory: what the training images may take of it when nobody asked for them to lie there.
_MOST_OF_MEMORY = 0.25


@dataclass(frozen=True)
class Backend:
    """What ``augment_backend`` comes to.

    Attributes:
        name: ``albumentations`` or ``device``.
        on_device: the transforms of the latter.
        reason: why ``auto`` left a GPU unused; empty otherwise.
    """

    name: str
    on_device: DeviceAugmentation | None = None
    reason: str = ""


def choose(wanted: str, augmentation: Augmentation, device: torch.device, image_bytes: int) -> Backend:
    """Decide on the backend.

    ``auto`` takes the device where it is a GPU that CUDA drives, where every transform has a batched equivalent and the
    images are small beside its memory. Elsewhere Albumentations goes on making the numbers that it always made.

    Args:
        wanted: auto | albumentations | device.
        augmentation: what is to be done.
        device: that trains.
        image_bytes: of the training images, before any are held out.

    Raises:
        NotBatchedError: ``device`` is wanted, and something in ``augmentation`` has no batched equivalent.
    """
    if wanted == "albumentations" or (wanted == "auto" and device.type != "cuda"):
        return Backend("albumentations")
    try:
        transforms = translate(augmentation.transforms, augmentation.shape)
    except NotBatchedError as error:
        if wanted == "device":
            raise
        return Backend("albumentations", reason=str(error))
    if wanted == "auto" and image_bytes > _MOST_OF_MEMORY * memory_bytes(device):
        return Backend(
            "albumentations",
            reason=f"the training images take {image_bytes / 1e9:,.1f} GB, more than a quarter of the GPU's memory",
        )
    return Backend("device", DeviceAugmentation(transforms, augmentation.shape[:2]))


def memory_bytes(device: torch.device) -> int:
    """All memory of a GPU, in use or not: the choice must not depend on what else is going on."""
    return int(torch.cuda.get_device_properties(device).total_memory)
