"""Augmentation in batches on the compute device: what ``augment_backend=device`` does in Albumentations' place."""
