"""Several jobs of a sweep at a time, on one machine or many: one module per launcher.

``options`` lists the launchers and checks their settings; ``hydra_job`` is the job that each launcher gets. Hydra finds
the launchers' classes in ``hydra_plugins.cifar_exp_plugins``.
"""
