"""The configuration files, shipped inside the installed package as ``cifar_exp.conf``."""
