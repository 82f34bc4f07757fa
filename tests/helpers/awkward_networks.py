"""Networks as users write them, each awkward in one way, for tests of what a run does with them."""

from collections import namedtuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

Outputs = namedtuple("Outputs", "logits aux")


class Base(nn.Module):
    """Not awkward: two convolutional layers and a linear one."""

    def __init__(self, num_classes, in_channels, width=8):
        super().__init__()
        self.layer1 = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.layer2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, num_classes)

    def features(self, x):
        return self.layer2(self.layer1(x))

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class View(Base):
    def __init__(self, num_classes, in_channels, width=8, size=32):
        super().__init__(num_classes, in_channels, width)
        self.flat = width * (size // 2) ** 2
        self.head = nn.Linear(self.flat, num_classes)

    def forward(self, x):
        return self.head(self.features(x).view(-1, self.flat))


class Tuple(Base):
    def forward(self, x):
        return super().forward(x), x


class AuxInTraining(Base):
    def forward(self, x):
        y = super().forward(x)
        return Outputs(y, y) if self.training else y


class Dict(Base):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Nothing(Base):
    def forward(self, x):
        super().forward(x)


class WrongClasses(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(7, in_channels)


class Spatial(Base):
    def forward(self, x):
        return super().forward(x)[:, :, None, None]


class Detached(Base):
    def forward(self, x):
        return super().forward(x).detach()


class Raises(Base):
    def forward(self, x):
        raise KeyError("of its own")


class Frozen(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.requires_grad_(False)


class FrozenBackbone(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.layer1.requires_grad_(False)
        self.layer2.requires_grad_(False)


class Lazy(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.head = nn.LazyLinear(num_classes)


class _Pair(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x), None


class TupleLayer(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.layer1 = _Pair(self.layer1)

    def features(self, x):
        return self.layer2(self.layer1(x)[0])


class UncalledLayer(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.layer3 = nn.Conv2d(8, 8, 1)


class _Permuted(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).permute(0, 2, 3, 1)


class ChannelsLastFeatures(Base):
    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels, 24)
        self.layer2 = _Permuted(self.layer2)

    def forward(self, x):
        return self.head(self.features(x).mean((1, 2)))


class InPlaceInput(Base):
    def forward(self, x):
        return super().forward(x.mul_(0.5))


class CopiedInput(Base):
    def forward(self, x):
        return super().forward(x * 0.5)


class Reentrant(Base):
    def features(self, x):
        return self.layer2(checkpoint(self.layer1, x.requires_grad_(self.training), use_reentrant=True))


class NoLayerNames(nn.Module):
    def __init__(self, num_classes, in_channels, stride=2):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 8, 3, stride, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()
        )
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class OldWeightNorm(Base):
    """Cannot be copied: its weight is computed when it is made."""

    def __init__(self, num_classes, in_channels):
        super().__init__(num_classes, in_channels)
        self.scaled = self.head.weight * 2


class NoParameters(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, x):
        return torch.zeros(len(x), self.num_classes)


class InitializeOfItsOwn(Base):
    def initialize(self):
        nn.init.zeros_(self.head.weight)


class InitializeThatFails(Base):
    def initialize(self, images):
        raise KeyError("of its own")


def create_model(name="base", **options):
    """As timm's: takes whatever it is given and fails inside."""
    return _made(**options)


def _made(num_classes, in_chans=3):
    return Base(num_classes, in_chans)


def no_module(num_classes, in_channels):
    return None
