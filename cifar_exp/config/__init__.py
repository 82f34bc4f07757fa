"""The configuration: schema, composition, saved configs and what a config may call."""
