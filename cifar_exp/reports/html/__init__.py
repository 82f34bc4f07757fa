"""Self-contained HTML pages: one file that opens from disk without a network, can be mailed and printed.

A page of one's own is a template in ``templates/`` that extends ``base.html``, and one call::

    from cifar_exp.reports.html import charts, page
    from cifar_exp.reports.html.table import Column, Table

    html = page.render(
        "mine.html",  # {% extends "base.html" %}, {% import "parts.html" as parts with context %}
        title="Twelve runs",
        charts={"curves": charts.lines(...)},  # {{ parts.chart("curves", "Title", "a note") }}
        tables={"runs": Table(columns, rows)}, # {{ parts.table("runs", "Caption") }}
        data={"anything": [1, 2]},             # in a script: page.data("anything")
        scripts=("mine.js",),                  # templates/mine.js, after base.js, charts.js and table.js
        styles=("mine.css",),                  # templates/mine.css, after base.css
        runs=12,                               # every other keyword is a variable of the template
    )
    atomic_files.write_text(out_dir / "mine.html", html)

What comes for free: light and dark theme, print style, phone layout, keyboard access, a table of the data under each
chart, escaping (Jinja's for text, ``embed.json_text`` for data), and a content security policy under which a page can
load nothing and run no script but its own. Styles are the classes of ``base.css``; colours are its custom properties
(``--train``, ``--validation``, ``--test``, ``--right``, ``--wrong``, ``--series-0`` to ``--series-6``), which a chart's
option names as ``"var(--train)"``. A page's script finds ``page.data(name)``, ``page.charts.get(name)`` (the ECharts
instance, drawn at that moment if need be), ``page.tables.get(name)`` (``filter(text)``, ``rows()``) and
``page.onTheme(callback)``.

Nothing here imports torch.
"""
