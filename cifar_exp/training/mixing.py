"""Mixup (Zhang et al. 2018, arXiv 1710.09412) and CutMix (Yun et al. 2019, arXiv 1905.04899) of training batches."""

import torch
from torch import Tensor

from cifar_exp.compute.seeding import derived_seed


class Mixing:
    """Mixes each image of a batch with the one before it, by ``torchvision.transforms.v2``.

    The alphas are the parameters of the beta distributions; None for no mixup, or no CutMix. With both, each batch gets
    one of them. ``probability`` is that of a batch to be mixed.

    The draws depend on the seed, the step and the rank alone. So worker processes and a resume change nothing.
    """

    def __init__(
        self, mixup_alpha: float | None, cutmix_alpha: float | None, probability: float, classes: int, seed: int
    ) -> None:
        from torchvision.transforms import v2  # not at the top: runs without mixing do not need it

        kinds = ((v2.MixUp, mixup_alpha), (v2.CutMix, cutmix_alpha))
        transforms = [kind(alpha=alpha, num_classes=classes) for kind, alpha in kinds if alpha is not None]
        self._transform = v2.RandomApply([v2.RandomChoice(transforms)], p=probability)
        self._seed = seed

    def __call__(self, inputs: Tensor, labels: Tensor, *draw: int) -> tuple[Tensor, Tensor]:
        """Mix a batch, which ``draw`` identifies in the run.

        Returns:
            (N, C, H, W), and (N, classes) probabilities; the arguments if the batch is not mixed.
        """
        with torch.random.fork_rng(devices=[]):  # of the CPU's generator, which the transforms draw from
            torch.default_generator.manual_seed(derived_seed(self._seed, "mixing", *draw))
            mixed: tuple[Tensor, Tensor] = self._transform(inputs, labels)
        return mixed
