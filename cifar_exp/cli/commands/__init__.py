"""The commands beside a run. Each module parses its arguments, and only then imports what does the work.

So ``--help`` and a mistyped argument are answered at once. What does the work is in the module named by the import.
"""
