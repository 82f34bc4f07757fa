// The table leads: curves follow the rows that it shows; axes and heat maps select rows in it.
"use strict";
(() => {
  const runs = page.tables.get("runs"), curves = page.data("curves");
  const table = page.embedded.tables.runs;
  const value = (cell) => (cell !== null && typeof cell === "object" ? cell.value : cell);

  // --- selection ---------------------------------------------------------------------------------------
  const told = document.getElementById("selection");
  let release = null; // what lets go of the present selection in its chart
  function select(rows, words, letGo) {
    if (release && release !== letGo) release();
    release = rows ? letGo : null;
    const wanted = rows && new Set(rows);
    runs.only(wanted && ((_, row) => wanted.has(row)));
    told.hidden = !rows;
    if (rows) {
      told.replaceChildren(`Only ${words}.`, page.element("button", { type: "button", class: "quiet", onclick: () => select(null) }, "Show all runs"));
    }
  }

  // --- curves ------------------------------------------------------------------------------------------
  const count = document.getElementById("curve-count");
  const drawn = ["accuracy", "loss"].filter((name) => page.embedded.charts[name]);
  if (count && drawn.length) {
    const place = new Map(curves.rows.map((row, position) => [row, position]));
    const most = [5, 10, 20, 50].filter((one, position) => position === 0 || one < 2 * curves.rows.length);
    count.append(...most.map((one) => page.element("option", { value: one, selected: one === curves.first }, String(one))));
    const template = Object.fromEntries(drawn.map((name) => [name, page.embedded.charts[name].option.series[0]]));
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
        const kept = positions.filter((position) => curves[name][position].length);
        const series = kept.map((position) => {
          const look = looks.get(curves.groups[position]), color = `var(--series-${look % 7})`;
          const few = curves[name][position].length <= 40;
          return { ...template[name], name: curves.names[position], data: curves[name][position], itemStyle: { color },
            showSymbol: few, symbolSize: curves[name][position].length === 1 ? 9 : 6,
            lineStyle: { ...template[name].lineStyle, color, type: dashes[Math.floor(look / 7) % 3] } };
        });
        const epochs = kept.flatMap((position) => curves[name][position].map(([epoch]) => epoch));
        const option = page.embedded.charts[name].option;
        const low = Math.min(...epochs), high = Math.max(...epochs), room = low === high ? 0.5 : 0;
        page.charts.change(name, {
          series,
          xAxis: epochs.length ? { ...option.xAxis, min: low - room, max: high + room } : option.xAxis,
          // A list of many runs would cover the chart: then only the line pointed at is told.
          tooltip: { ...option.tooltip, trigger: series.length > 12 ? "item" : "axis", order: "valueDesc" },
        });
      }
    };
    runs.element.addEventListener("rows", (event) => follow(event.detail));
    count.addEventListener("change", () => follow(runs.rows()));
    follow(runs.rows());

    // Pointing at a row brings its curve out.
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
    const letGo = () => page.charts.redraw("settings");
    page.charts.on("settings", "axisareaselected", () => {
      const model = page.charts.get("settings").getModel();
      const bounded = model.getComponent("parallel") && model.queryComponents({ mainType: "parallelAxis" }).some((axis) => axis.activeIntervals.length);
      if (!bounded) return select(null);
      const kept = model.getSeriesByIndex(0).getRawIndicesByActiveState("active").map((position) => rows[position]);
      select(kept, `the ${page.format(kept.length, "integer")} runs selected on the axes`, letGo);
    });
  }
  page.data("maps").forEach((map, number) => {
    const none = () => {};
    page.charts.on(`map_${number}`, "click", ({ value: cell }) => {
      const [column, row] = cell, wanted = [map.values[0][row], map.values[1][column]];
      const kept = table.rows.map((_, position) => position)
        .filter((position) => map.columns.every((key, which) => value(table.rows[position][key]) === wanted[which]));
      select(kept, `the ${page.format(kept.length, "integer")} runs with ${map.names[0]} ${wanted[0]} and ${map.names[1]} ${wanted[1]}`, none);
      document.getElementById("runs-title").scrollIntoView();
    });
  });
})();
