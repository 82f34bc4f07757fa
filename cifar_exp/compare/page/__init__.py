"""``comparison.html``: everything that a comparison found, in one page that can be sorted, filtered and pointed at."""
