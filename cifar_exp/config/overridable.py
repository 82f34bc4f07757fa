"""What may differ from a run when it is evaluated again: where and how it is measured, not what was trained."""

OVERRIDABLE = ("data", "device", "precision", "memory_format", "threads", "evaluation", "explain", "figures", "name")
