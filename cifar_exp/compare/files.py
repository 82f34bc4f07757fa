"""Names of the files of a comparison."""

TABLES = ("comparison.csv", "groups.csv", "group_pairs.csv", "pairs.csv")
CURVES, LINE, HEAT_MAP, MAX_LR, FIXED_AND_BROKEN = FIGURES = (
    "curves.png",
    "line.png",
    "heat_map.png",
    "max_lr.png",
    "fixed_and_broken.png",
)
PAGE = "comparison.html"
MARK = "comparison.json"  # marks the folder as a comparison's, and has the request
