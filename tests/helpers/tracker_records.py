"""What a tracker must hold of a run, read from the run's CSVs."""

import pandas as pd
from composing import TINY

from cifar_exp.run_dir import tables

SHORT = (*TINY, "explain.images=0")


def expected_scalars(out_dir):
    """{name: [(step, value), ...]} of every cell of metrics.csv and steps.csv that is not empty."""
    scalars = {}
    for name, prefix, skipped in (("metrics.csv", "", []), ("steps.csv", "steps/", ["epoch"])):
        table = pd.read_csv(out_dir / name)
        for column in table.columns.drop(["step", *skipped]):
            cells = table[["step", column]].dropna()
            if len(cells):
                scalars[prefix + column] = list(cells.itertuples(index=False, name=None))
    return scalars


def expected_summary(out_dir):
    """Numbers and texts that summary.csv measured."""
    row = tables.read_table(out_dir / "summary.csv").iloc[0].dropna()
    row = row[[column for column in row.index if not column.startswith("config.")]]
    texts = {name: value for name, value in row.items() if isinstance(value, str)}
    return {name: value for name, value in row.items() if name not in texts}, texts
