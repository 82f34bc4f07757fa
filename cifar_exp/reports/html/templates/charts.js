// The charts of a page: drawn by ECharts in the page's theme, with buttons for their series and a table of their numbers.
"use strict";
page.charts = (() => {
  const drawn = new Map();
  const wanted = page.embedded.charts;
  const option = ({ kind, data, description }) => ({
    animation: false, legend: { show: false }, aria: { enabled: true, label: { description } }, ...page.options[kind](data),
  });

  function theme() {
    const text = page.colour("--text"), quiet = page.colour("--quiet"), line = page.colour("--line");
    const axis = {
      axisLine: { lineStyle: { color: line } },
      axisTick: { lineStyle: { color: line } },
      axisLabel: { color: quiet, fontSize: 11 },
      nameTextStyle: { color: quiet, fontSize: 11 },
      splitLine: { lineStyle: { color: page.colour("--faint-line") } },
    };
    return {
      textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: text },
      backgroundColor: "transparent",
      categoryAxis: axis, valueAxis: axis, logAxis: axis,
      parallelAxis: axis, parallel: { parallelAxisDefault: axis },
      tooltip: {
        confine: true,
        backgroundColor: page.colour("--raised"), borderColor: line, textStyle: { color: text, fontSize: 12 },
        axisPointer: { lineStyle: { color: quiet }, crossStyle: { color: quiet } },
      },
      dataZoom: {
        borderColor: line, backgroundColor: "transparent", fillerColor: page.colour("--tint"),
        handleStyle: { color: page.colour("--raised"), borderColor: quiet },
        moveHandleStyle: { color: line }, emphasis: { moveHandleStyle: { color: quiet } },
        dataBackground: { lineStyle: { color: line }, areaStyle: { color: line, opacity: 0.3 } },
        selectedDataBackground: { lineStyle: { color: quiet }, areaStyle: { color: line, opacity: 0.5 } },
        brushStyle: { color: page.colour("--tint") },
      },
    };
  }

  function draw(figure) {
    const name = figure.dataset.chart, chart = wanted[name];
    const before = drawn.get(name);
    const kept = before ? before.getOption() : null;
    if (before) before.dispose();
    const instance = echarts.init(figure.querySelector(".canvas"), theme(), { renderer: "svg" });
    instance.setOption(option(chart));
    if (kept) {
      // The other theme keeps the reader's switches and zoom.
      const again = {};
      if (kept.legend?.[0]) again.legend = { selected: kept.legend[0].selected };
      if (kept.dataZoom?.length) again.dataZoom = kept.dataZoom.map(({ start, end }) => ({ start, end }));
      instance.setOption(again);
    }
    if (page.printing() && chart.kind === "lines") instance.setOption({ dataZoom: [{}, { show: false }] });
    drawn.set(name, instance);
    for (const [event, handler] of handlers.get(name) ?? []) instance.on(event, handler);
    return instance;
  }

  function buttons(figure, name) {
    const box = figure.querySelector(".toggles"), chart = wanted[name];
    for (const old of box.querySelectorAll(".toggle")) old.remove();
    const made = [];
    const series = chart.data.lines ?? chart.data.bars ?? [];
    for (const { name: label, colour, dash, faint } of series) {
      const swatch = page.element("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.borderTop = `3px ${dash && dash !== "solid" ? "dashed" : "solid"} var(--${colour})`;
      swatch.style.opacity = faint ? 0.45 : 1;
      const button = page.element("button", { type: "button", class: "toggle", "aria-pressed": "true" }, swatch, label);
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(on));
        get(name).dispatchAction({ type: on ? "legendSelect" : "legendUnSelect", name: label });
      });
      made.push(button);
    }
    box.prepend(...made);
    box.hidden = box.children.length === 0;
  }

  // Replace the lines of a chart, and with them its buttons and its table.
  function setLines(name, lines) {
    const figure = figures.find((one) => one.dataset.chart === name), place = figure.querySelector("details.data .scroll");
    wanted[name].data.lines = lines;
    if (drawn.has(name)) {
      drawn.get(name).setOption(option(wanted[name]), { replaceMerge: ["series"] });
      drawn.get(name).dispatchAction({ type: "legendAllSelect" });
    }
    buttons(figure, name);
    place.replaceChildren();
    if (figure.querySelector("details.data").open) place.append(asTable(wanted[name]));
  }

  function outfit(figure, name) {
    const box = figure.querySelector(".toggles"), chart = wanted[name];
    if (chart.kind === "lines") {
      const reset = page.element("button", { type: "button", class: "quiet reset", hidden: true }, "Whole range");
      const zoomed = () => {
        const [zoom] = drawn.get(name).getOption().dataZoom;
        reset.hidden = zoom.start < 0.01 && zoom.end > 99.99;
      };
      reset.addEventListener("click", () => drawn.get(name).dispatchAction({ type: "dataZoom", start: 0, end: 100 }));
      on(name, "datazoom", zoomed);
      box.append(reset);
    }
    buttons(figure, name);
    const details = figure.querySelector("details.data");
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (details.open && !place.firstChild) place.append(asTable(chart));
    });
  }

  // The numbers of a chart: headings, and rows of texts.
  function numbers({ kind, data }) {
    if (kind === "heat_map") {
      return [["", ...data.columns], data.values.map((row, r) => [data.rows[r], ...row.map((value) => page.format(value, data.format))])];
    }
    if (kind === "parallel") {
      return [["", ...data.axes.map(({ name }) => name)], data.rows.map(({ name, values }) => [name, ...values.map((one) => page.format(one, "number"))])];
    }
    if (kind === "reliability") {
      return [["confidence", "accuracy"], data.points.map((point) => point.slice(0, 2).map((value) => page.format(value, "percent")))];
    }
    if (kind === "bars") {
      return [[data.x_name, ...data.bars.map(({ name }) => name)],
        data.categories.map((label, c) => [label, ...data.bars.map(({ values }) => page.format(values[c], data.format))])];
    }
    const byX = new Map();
    (data.lines ?? []).forEach(({ points }, number) => points.forEach(([x, y]) => byX.set(x, Object.assign(byX.get(x) ?? data.lines.map(() => null), { [number]: y }))));
    const rows = [...byX].sort(([a], [b]) => a - b);
    return [[data.x_name, ...(data.lines ?? []).map(({ name }) => name)],
      rows.map(([x, values]) => [page.format(x, "integer"), ...values.map((value) => page.format(value, data.format))])];
  }

  // For readers who cannot see the chart or want to copy the numbers.
  function asTable(chart) {
    const [head, rows] = numbers(chart), cell = (text) => page.element("td", {}, text);
    const most = 500;
    const table = page.element("table", {},
      page.element("thead", {}, page.element("tr", {}, ...head.map((text) => page.element("th", { scope: "col" }, text)))),
      page.element("tbody", {}, ...rows.slice(0, most).map(([label, ...values]) =>
        page.element("tr", {}, page.element("th", { scope: "row" }, label), ...values.map(cell)))));
    if (rows.length > most) table.append(page.element("caption", {}, `The first ${most} of ${rows.length} rows; all are in the CSV.`));
    return table;
  }

  const handlers = new Map();
  function on(name, event, handler) {
    handlers.set(name, [...(handlers.get(name) ?? []), [event, handler]]);
    drawn.get(name)?.on(event, handler);
  }

  const figures = [...document.querySelectorAll("[data-chart]")];
  const get = (name) => drawn.get(name) ?? draw(figures.find((figure) => figure.dataset.chart === name));
  figures.forEach((figure) => outfit(figure, figure.dataset.chart));
  // A chart is drawn when it comes near the screen, so that a long page opens at once.
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting && !drawn.has(target.dataset.chart)) draw(target);
    }
  }, { rootMargin: "400px" });
  figures.forEach((figure) => seen.observe(figure));
  const sized = new ResizeObserver((entries) => {
    if (page.printing()) return;
    for (const { target } of entries) drawn.get(target.closest("[data-chart]").dataset.chart)?.resize();
  });
  figures.forEach((figure) => sized.observe(figure.querySelector(".canvas")));

  const again = () => figures.filter((figure) => drawn.has(figure.dataset.chart)).forEach(draw);
  page.onTheme(again);
  // Print all charts, on white.
  let before = null;
  page.onPrint(() => {
    before = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    figures.forEach(draw);
    // With a view box, a chart scales with the paper.
    for (const svg of document.querySelectorAll(".canvas svg")) {
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
    }
  }, () => {
    if (before === undefined) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = before;
    again();
  });

  const redraw = (name) => draw(figures.find((figure) => figure.dataset.chart === name));
  return { get, on, setLines, redraw, drawn: (name) => drawn.get(name) };
})();
