"""Train, explain, reproduce and compare image classifiers on CIFAR-10, configured by Hydra."""

__version__ = "0.2.0"
