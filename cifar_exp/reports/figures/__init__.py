"""Every picture, made from records and arrays; nothing here trains or evaluates."""
