"""The configuration: schema, composition, saved configs, allowed targets."""
