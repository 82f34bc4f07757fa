"""The typed configs of the config groups, each entered in its group's registry."""
