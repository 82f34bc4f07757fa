// Hands the page's options to ECharts: colours from the style sheet, formats by name, series on and off by buttons.
"use strict";
page.charts = (() => {
  const drawn = new Map();
  const wanted = page.embedded.charts;
  // Colours are custom properties, which differ between the themes. Only keys that hold colours are looked at.
  const COLOURS = new Set(["color", "borderColor", "backgroundColor"]);
  function revived(value, key, chart) {
    if (typeof value === "string") {
      if (COLOURS.has(key)) return value.startsWith("var(") ? page.colour(value.slice(4, -1)) : value;
      if (key === "valueFormatter") return (number) => page.format(number, value);
      if (key === "formatter") return formatter(value, chart);
      if (key === "renderItem") return whiskers;
      return value;
    }
    if (Array.isArray(value)) return value.map((one) => revived(one, key, chart));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, name === "data" && !one.some?.((item) => item?.itemStyle) ? one : revived(one, name, chart)]));
  }

  // A point with whiskers for [low, middle, high, row].
  function whiskers(_, api) {
    const [low, middle, high] = [0, 1, 2].map((end) => api.coord([api.value(end), api.value(3)]));
    const stroke = api.visual("color"), cap = 5;
    const line = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke, lineWidth: 2 } });
    return {
      type: "group",
      children: [
        line(low[0], low[1], high[0], high[1]),
        ...[low, high].map(([x, y]) => line(x, y - cap, x, y + cap)),
        { type: "circle", shape: { cx: middle[0], cy: middle[1], r: 4.5 }, style: { fill: stroke } },
      ],
    };
  }

  const escaped = (text) => echarts.format.encodeHTML(String(text));
  function formatter(name, chart) {
    const option = chart.option;
    if (name === "cell") {
      return (cell) => {
        const [column, row, , value] = cell.value;
        const series = option.series[0];
        return `${escaped(option.yAxis.name)}: <b>${escaped(option.yAxis.data[row])}</b><br>` +
          `${escaped(option.xAxis.name)}: <b>${escaped(option.xAxis.data[column])}</b><br>` +
          `${escaped(series.name)}: <b>${escaped(page.format(value, series.format))}</b>` +
          (cell.name ? `<br>${escaped(cell.name)}` : "");
      };
    }
    if (name === "interval") {
      return ({ name: label, data }) => {
        const [low, middle, high] = data.value.map((value) => page.format(value, "points"));
        if (low === high) return `${escaped(label)}<br><b>${middle}</b> points, without an interval`;
        return `${escaped(label)}<br><b>${middle}</b> points, 95% interval ${low} to ${high}`;
      };
    }
    if (name === "reliability") {
      return ({ data: [confidence, accuracy, low, high, images] }) => {
        const [x, y, from, to] = [confidence, accuracy, low, high].map((value) => page.format(value, "percent"));
        return `${escaped(page.format(images, "integer"))} images<br>mean confidence <b>${x}</b><br>` +
          `accuracy <b>${y}</b>, 95% interval ${from} to ${to}`;
      };
    }
    if (name === "named") return (item) => escaped(item.name);
    if (name === "percentAxis") return (value) => `${Number((100 * value).toPrecision(4))}%`;
    if (name.endsWith("Axis")) return (value) => page.format(value, name.slice(0, -4));
    if (name in page.formats) return (value) => page.format(typeof value === "object" ? value.value : value, name);
    return name;
  }

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
    instance.setOption(revived(chart.option, "", chart));
    if (kept) {
      // What the reader had switched off and zoomed into stays so in the other theme.
      const again = {};
      if (kept.legend?.[0]) again.legend = { selected: kept.legend[0].selected };
      if (kept.dataZoom?.length) again.dataZoom = kept.dataZoom.map(({ start, end }) => ({ start, end }));
      instance.setOption(again);
    }
    if (page.printing() && chart.zoom) {
      instance.setOption({ dataZoom: chart.option.dataZoom.map(({ type }) => (type === "slider" ? { show: false } : {})) });
    }
    drawn.set(name, instance);
    for (const [event, handler] of handlers.get(name) ?? []) instance.on(event, handler);
    return instance;
  }

  function buttons(figure, name) {
    const box = figure.querySelector(".toggles"), chart = wanted[name];
    for (const old of box.querySelectorAll(".toggle")) old.remove();
    const made = [];
    if (chart.toggles) {
      for (const series of chart.option.series) {
        const look = series.lineStyle ?? {};
        const swatch = page.element("span", { class: "swatch", "aria-hidden": "true" });
        const dashed = look.type && look.type !== "solid";
        swatch.style.borderTop = `3px ${dashed ? "dashed" : "solid"} ${(look.color ?? "").startsWith("var(") ? look.color : "currentColor"}`;
        swatch.style.opacity = look.opacity ?? 1;
        const button = page.element("button", { type: "button", class: "toggle", "aria-pressed": "true" }, swatch, series.name);
        button.addEventListener("click", () => {
          const on = button.getAttribute("aria-pressed") !== "true";
          button.setAttribute("aria-pressed", String(on));
          get(name).dispatchAction({ type: on ? "legendSelect" : "legendUnSelect", name: series.name });
        });
        made.push(button);
      }
    }
    box.prepend(...made);
    box.hidden = box.children.length === 0;
  }

  // Other series (and whatever else of the option) in a chart that is there: its buttons and its table follow.
  function change(name, changes) {
    const figure = figures.find((one) => one.dataset.chart === name), place = figure.querySelector("details.data .scroll");
    Object.assign(wanted[name].option, changes);
    if (drawn.has(name)) {
      drawn.get(name).setOption(revived({ ...changes }, "", wanted[name]), { replaceMerge: ["series"] });
      drawn.get(name).dispatchAction({ type: "legendAllSelect" });
    }
    buttons(figure, name);
    place.replaceChildren();
    if (figure.querySelector("details.data").open) place.append(asTable(wanted[name]));
  }

  function outfit(figure, name) {
    const box = figure.querySelector(".toggles"), chart = wanted[name];
    if (chart.zoom) {
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

  // The numbers behind a chart, for whoever cannot see it or wants to copy them.
  function asTable(chart) {
    const { option } = chart, cell = (text) => page.element("td", {}, text);
    const [first] = option.series;
    let head, rows;
    if (first.type === "heatmap") {
      head = ["", ...option.xAxis.data];
      const values = new Map(first.data.map(({ value }) => [`${value[1]} ${value[0]}`, value[3]]));
      rows = option.yAxis.data.map((label, row) =>
        [label, ...option.xAxis.data.map((_, column) => page.format(values.get(`${row} ${column}`), first.format))]);
    } else if (first.type === "parallel") {
      head = ["", ...option.parallelAxis.map((axis) => axis.name)];
      rows = first.data.map(({ name, value }) => [name, ...value.slice(0, -1).map((one) => page.format(one, "number"))]);
    } else {
      const shown = option.tooltip.valueFormatter ?? "number";
      head = [option.xAxis.name ?? "", ...option.series.map((series) => series.name)];
      const byX = new Map();
      option.series.forEach((series, number) => {
        series.data.forEach((point, position) => {
          const [x, y] = Array.isArray(point) ? point : [option.xAxis.data[position], point];
          if (!byX.has(x)) byX.set(x, option.series.map(() => null));
          byX.get(x)[number] = y;
        });
      });
      rows = [...byX].sort(([a], [b]) => (typeof a === "number" ? a - b : 0)).map(([x, values]) =>
        [page.format(x, option.xAxis.valueFormat ?? "integer"), ...values.map((value) => page.format(value, shown))]);
    }
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
  // A chart is drawn when it comes near the screen, so that a long page is there at once.
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
  // Paper is white, and shows what was not scrolled to as well.
  let before = null;
  page.onPrint(() => {
    before = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    figures.forEach(draw);
    // With a view box, a chart shrinks and grows with the paper.
    for (const svg of document.querySelectorAll(".canvas svg")) {
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
    }
  }, () => {
    if (before === undefined) delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = before;
    again();
  });

  const redraw = (name) => draw(figures.find((figure) => figure.dataset.chart === name));
  return { get, on, change, redraw, drawn: (name) => drawn.get(name) };
})();
