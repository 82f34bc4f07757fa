"""``report.html`` of a run, made from its directory alone. Nothing but ``live`` knows of training."""

FILE = "report.html"
REFRESH_SECONDS = 30
