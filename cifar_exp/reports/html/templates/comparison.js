// The curves show the rows of the table; axes and heat maps select rows in it.
"use strict";
(() => {
  const runs = page.tables.get("runs"), curves = page.data("curves");
  const table = page.embedded.tables.runs;
  const value = (cell) => (cell !== null && typeof cell === "object" ? cell.value : cell);

  // --- selection ---------------------------------------------------------------------------------------
  const message = document.getElementById("selection");
  let release = null; // removes the current selection from its chart
  function select(rows, words, clear) {
    if (release && release !== clear) release();
    release = rows ? clear : null;
    const wanted = rows && new Set(rows);
    runs.only(wanted && ((_, row) => wanted.has(row)));
    message.hidden = !rows;
    if (rows) {
      message.replaceChildren(`Only ${words}.`, page.element("button", { type: "button", class: "quiet", onclick: () => select(null) }, "Show all runs"));
    }
  }

  // --- curves ------------------------------------------------------------------------------------------
  const count = document.getElementById("curve-count");
  const drawn = ["accuracy", "loss"].filter((name) => page.embedded.charts[name]);
  if (count && drawn.length) {
    const place = new Map(curves.rows.map((row, position) => [row, position]));
    const most = [5, 10, 20, 50].filter((one, position) => position === 0 || one < 2 * curves.rows.length);
    count.append(...most.map((one) => page.element("option", { value: one, selected: one === curves.first }, String(one))));
    const dashes = ["solid", [6, 3], [2, 2]];
    let shown = "";

    const follow = (rows) => {
      const positions = rows.filter((row) => place.has(row)).slice(0, Number(count.value)).map((row) => place.get(row));
      document.getElementById("curve-note").textContent = positions.length
        ? `The first ${positions.length} of ${page.format(rows.length, "integer")} runs in the table.`
        : "None of the runs in the table has curves here.";
      if (positions.join() === shown) return; // only the look of the table changed
      shown = positions.join();
      const looks = new Map();
      for (const position of positions) if (!looks.has(curves.groups[position])) looks.set(curves.groups[position], looks.size);
      for (const name of drawn) {
        page.charts.setLines(name, positions.filter((position) => curves[name][position].length).map((position) => {
          const look = looks.get(curves.groups[position]);
          return { name: curves.names[position], points: curves[name][position], colour: `series-${look % 7}`,
            dash: dashes[Math.floor(look / 7) % 3], symbol: "circle", width: 2 };
        }));
      }
    };
    runs.element.addEventListener("rows", (event) => follow(event.detail));
    count.addEventListener("change", () => follow(runs.rows()));
    follow(runs.rows());

    // Hovering over a row highlights its curve.
    const highlight = (type) => (event) => {
      const row = event.target.closest("tr[data-row]");
      if (!row || !place.has(Number(row.dataset.row))) return;
      const seriesName = curves.names[place.get(Number(row.dataset.row))];
      for (const name of drawn) page.charts.drawn(name)?.dispatchAction({ type, seriesName });
    };
    runs.element.addEventListener("mouseover", highlight("highlight"));
    runs.element.addEventListener("mouseout", highlight("downplay"));
  }

  // --- settings ----------------------------------------------------------------------------------------
  if (page.embedded.charts.settings) {
    const rows = page.data("lines");
    const clear = () => page.charts.redraw("settings");
    page.charts.on("settings", "axisareaselected", () => {
      const model = page.charts.get("settings").getModel();
      const bounded = model.getComponent("parallel") && model.queryComponents({ mainType: "parallelAxis" }).some((axis) => axis.activeIntervals.length);
      if (!bounded) return select(null);
      const kept = model.getSeriesByIndex(0).getRawIndicesByActiveState("active").map((position) => rows[position]);
      select(kept, `the ${page.format(kept.length, "integer")} runs selected on the axes`, clear);
    });
  }
  for (const name of Object.keys(page.embedded.charts).filter((one) => one.startsWith("map_"))) {
    const { keys, levels, row_name, column_name } = page.embedded.charts[name].data;
    const places = keys.map((key) => table.columns.findIndex((column) => column.note === key));
    page.charts.on(name, "click", ({ value: [column, row] }) => {
      const wanted = [levels[0][row], levels[1][column]];
      const kept = table.rows.map((_, position) => position)
        .filter((position) => places.every((place, which) => value(table.rows[position][place]) === wanted[which]));
      select(kept, `the ${page.format(kept.length, "integer")} runs with ${row_name} ${wanted[0]} and ${column_name} ${wanted[1]}`, () => {});
      document.getElementById("runs-title").scrollIntoView();
    });
  }
})();
