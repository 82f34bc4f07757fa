"""Self-contained HTML pages: one file that opens from disk without a network, can be mailed and printed.

A page consists of a template ``templates/NAME.html`` that extends ``base.html``, a style sheet ``NAME.css`` beside it,
and a call of ``page.render(NAME, ...)`` with charts, tables, data for its scripts, and the template's variables.
``parts.html`` has macros that place charts, tables and findings. Each page has a light and a dark theme, print style,
phone layout, keyboard access, a table of the data under each chart, escaping, and a content security policy: it loads
nothing, and runs no script but its own. A page's script uses ``page.data(name)``, ``page.charts``, ``page.tables`` and
``page.onTheme``.

Nothing here imports torch.
"""
