"""The typed configs of the config groups, each registered in its group."""
