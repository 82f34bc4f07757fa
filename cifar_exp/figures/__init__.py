"""Every picture, made from records and arrays; nothing here trains or evaluates."""

from cifar_exp.figures.confusion import confusion
from cifar_exp.figures.curves import curves, learning_rate
from cifar_exp.figures.images import Judged, augmentations, gradcam, misclassified

__all__ = ["Judged", "augmentations", "confusion", "curves", "gradcam", "learning_rate", "misclassified"]
