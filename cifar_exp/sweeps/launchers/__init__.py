"""More than one job of a sweep at a time, on one machine or many, by engines that others keep.

``options`` knows what can be chosen; ``jobs`` is what every engine is given; ``local``, ``ray_cluster`` and ``slurm``
are one engine each; ``search`` lets Optuna choose the jobs. Hydra finds their classes in
``hydra_plugins.cifar_exp_plugins``, the only place where it looks for plugins.
"""
