"""The page put together: tables, charts, sentences and images into one text."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cifar_exp.compare.more_seeds import advice
from cifar_exp.compare.naming import heading, one_line
from cifar_exp.compare.ordering import TEST
from cifar_exp.compare.page.charts import (
    MOST_AXES,
    HeatMap,
    by_class,
    heat_maps,
    parallel_coordinates,
    run_differences,
    setting_differences,
)
from cifar_exp.compare.page.curves import curve_charts, read_curves
from cifar_exp.compare.page.settings import settings_table, settings_tiles
from cifar_exp.compare.page.table import MOST_ROWS, finite, link, runs_table, written
from cifar_exp.compare.page.words import in_words, statements, test_accuracy_of
from cifar_exp.compare.pairs import Pair
from cifar_exp.compare.render import NETWORKS, from_here, groups_legend, headline, legend
from cifar_exp.compare.tables import Comparison
from cifar_exp.reports.figures.fixed_and_broken import Change, Changed
from cifar_exp.reports.html import page
from cifar_exp.reports.html.charts import Chart
from cifar_exp.reports.html.embed import image_uri
from cifar_exp.reports.html.table import Column, Table

MOST_IMAGES = 24  # of each kind
_LARGEST_IMAGE = 96  # pixels a side; larger ones are shown smaller


def comparison_page(
    comparison: Comparison,
    pairs: Sequence[Pair],
    change: Change | None,
    remarks: Sequence[str],
    files: Sequence[str],
    command: str,
    out: Path,
) -> str:
    """The text of ``comparison.html``.

    Args:
        comparison: of the runs.
        pairs: the baseline against the others, best first.
        change: the baseline against one of them, image by image.
        remarks: what is to be said about the comparison.
        files: that lie beside the page, relative to it.
        command: that made it.
        out: the folder that it will lie in.
    """
    curves = read_curves(comparison, MOST_ROWS)
    drawn: dict[str, Chart] = curve_charts(curves)
    lines, line_rows, left_out = parallel_coordinates(comparison, MOST_ROWS)
    maps = heat_maps(comparison)
    drawn |= {"settings": lines} if lines else {}
    drawn |= {f"map_{number}": one.chart for number, one in enumerate(maps)}
    for name, differences in (
        ("setting_differences", setting_differences(comparison)),
        ("differences", run_differences(comparison, pairs)),
    ):
        drawn |= {name: differences} if differences else {}
    drawn |= {"by_class": by_class(change)} if change else {}
    table = runs_table(comparison, pairs, out)
    tables = {"runs": table}
    if settings := settings_table(comparison):
        tables["groups"] = settings
    if any(pair.counts for pair in pairs):
        tables["pairs"] = _pairs_table(comparison, pairs, out)
    hidden = len(comparison.runs) - len(table.rows)
    return page.render(
        "comparison.html",
        title=f"{len(comparison.runs):,} run{'' if len(comparison.runs) == 1 else 's'} compared",
        charts=drawn,
        tables=tables,
        data={
            "curves": curves.as_data(),
            "lines": line_rows,
            "maps": [_cells(one, table) for one in maps],
        },
        scripts=("comparison.js",),
        styles=("comparison.css",),
        folder=one_line(from_here(comparison.shared)),
        headline=headline(comparison, "★"),
        metric=comparison.metric,
        tiles=_tiles(comparison, pairs),
        statements=statements(comparison, pairs),
        remarks=[one_line(remark) for remark in remarks],
        baseline=None if comparison.baseline is None else one_line(comparison.runs["name"].iloc[comparison.baseline]),
        repetition=comparison.repetition,
        groups_legend=groups_legend(comparison),
        advice=advice(comparison),
        legend=legend(comparison, pairs),
        curves=curves,
        maps=maps,
        left_out=left_out,
        most_axes=MOST_AXES,
        hidden=hidden,
        verdicts=[in_words(comparison, pair) for pair in pairs],
        change=change,
        fixed=_cards(change.fixed, "A") if change else [],
        broken=_cards(change.broken, "B") if change else [],
        files=files,
        command=command,
    )


def _tiles(comparison: Comparison, pairs: Sequence[Pair]) -> list[tuple[str, str, str]]:
    """Label, value and note of the page's headline figures."""
    runs, metric = comparison.runs, comparison.metric
    states = runs["state"].value_counts()
    tiles = settings_tiles(comparison)
    if runs["usable"].iloc[0]:
        best = written(metric, float(runs["value"].iloc[0]))
        beside = test_accuracy_of(comparison, runs.iloc[0])
        note = one_line(runs["name"].iloc[0]) + (f", {TEST} {beside}" if beside else "")
        tiles.append((f"Best {metric}", best, note))
    tiles.append(
        ("Runs", f"{len(runs):,}", ", ".join(f"{count:,} {one_line(state)}" for state, count in states.items()))
    )
    tested = [pair.verdict.split()[0] for pair in pairs if pair.counts is not None]
    if tested:
        told = [f"{tested.count(word)} {shown}" for word, shown in _VERDICTS.items() if word in tested]
        tiles.append(("Networks against the baseline", str(len(tested)), ", ".join(told)))
    return tiles


_VERDICTS = {"better": "better", "within": "within noise", "worse": "worse"}


def _pairs_table(comparison: Comparison, pairs: Sequence[Pair], out: Path) -> Table:
    columns = [
        Column("run"),
        Column(NETWORKS),
        Column("difference", "points", note="test accuracy less the baseline's, in percentage points"),
        Column("low", "points", note="lower end of its 95% interval"),
        Column("high", "points", note="upper end of it"),
        Column("only baseline right", "integer", note="test images"),
        Column("only this right", "integer", note="test images"),
        Column("p", "number", note="McNemar's exact test"),
        Column("p corrected", "number", note="corrected for several comparisons (Holm)"),
    ]
    rows: list[list[Any]] = []
    here = os.path.abspath(out)
    for pair in pairs:
        run, counts = comparison.runs.iloc[pair.position], pair.counts
        rows.append(
            [
                link(run["name"], run["path"], here),
                pair.verdict,
                counts.accuracy_difference if counts else None,
                *(finite(end) for end in pair.interval),
                counts.only_a if counts else None,
                counts.only_b if counts else None,
                finite(pair.p_value),
                finite(pair.p_value_corrected),
            ]
        )
    return Table(columns, rows, find=len(rows) > 10, shown=30)


def _cells(one: HeatMap, table: Table) -> dict[str, Any]:
    """Which columns and values of the runs' table the cells of a heat map stand for."""
    notes = [column.note for column in table.columns]
    return {
        "columns": [notes.index(key) for key in one.keys],
        "values": one.levels,
        "names": [heading(key) for key in one.keys],
    }


def _cards(images: Sequence[Changed], mistaken: str) -> list[dict[str, str]]:
    return [
        {
            "image": "" if one.image is None else image_uri(_small(one.image)),
            "is": one_line(one.label),
            "said": one_line(one.mistaken_for),
            "confidence": f"{100 * one.confidence:.0f}%",
            "by": mistaken,
        }
        for one in images
    ]


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if max(image.shape[:2]) <= _LARGEST_IMAGE:
        return image
    drawn = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    drawn.thumbnail((_LARGEST_IMAGE, _LARGEST_IMAGE))
    return np.asarray(drawn)
