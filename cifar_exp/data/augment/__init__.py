"""Augmentation: image by image with Albumentations, or in batches on the compute device."""
