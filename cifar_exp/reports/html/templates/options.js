// ECharts options from the data of a page's charts: one function for each kind of chart (`Chart.kind`).
"use strict";
page.options = (() => {
  const escaped = (text) => echarts.format.encodeHTML(String(text));
  const shown = (value, kind) => escaped(page.format(value, kind));
  const percentAxis = (value) => `${Number((100 * value).toPrecision(4))}%`;
  const axisFormat = (kind) => (kind === "percent" ? percentAxis : (value) => page.format(value, kind));
  // Colours are custom properties of base.css, which differ between the themes.
  const colour = (name) => page.colour(`--${name}`);
  const cut = { overflow: "truncate", ellipsis: "…", width: 90 };
  const middle = { nameLocation: "middle", nameGap: 26 };

  // Margins around the axes with their labels.
  const grid = (left, right, top, bottom) => ({ left, right, top, bottom, containLabel: true });

  function shades(dimension, values, first = 0) {
    const finite = values.filter((value) => value !== null);
    const low = finite.length ? Math.min(...finite) : 0, high = finite.length ? Math.max(...finite) : 1;
    const names = [0, 1, 2, 3, 4, 5].slice(first);
    return { show: false, dimension, min: low, max: high > low ? high : low + 1, inRange: { color: names.map((step) => colour(`shade-${step}`)) } };
  }

  function line({ name, points, colour: token, dash, symbol, width, faint }) {
    const color = colour(token);
    return {
      type: "line", name, data: points, symbol, connectNulls: true,
      showSymbol: points.length <= 40 && symbol !== "none", symbolSize: points.length === 1 ? 9 : 6,
      itemStyle: { color }, emphasis: { focus: "series" },
      lineStyle: { color, type: dash, width: faint ? 1 : width, opacity: faint ? 0.45 : 1 },
    };
  }

  // Lines by a whole number (epochs, steps), with zoom by wheel, pinch or the bar below.
  function lines({ lines: drawn, x_name, y_name, format, from_zero }) {
    const xs = drawn.flatMap(({ points }) => points.map(([x]) => x));
    const margin = new Set(xs).size === 1 ? 0.5 : 0; // on both sides of a single epoch
    const limits = xs.length ? { min: Math.min(...xs) - margin, max: Math.max(...xs) + margin } : {};
    return {
      grid: { ...grid(8, 20, 30, 48), outerBoundsMode: "same" },
      // A tooltip with many lines would cover the chart: then it shows only the one under the pointer.
      tooltip: { trigger: drawn.length > 12 ? "item" : "axis", order: drawn.length > 3 ? "valueDesc" : "seriesAsc", valueFormatter: (value) => page.format(value, format) },
      xAxis: {
        type: "value", name: x_name, ...middle, minInterval: 1, splitLine: { show: false },
        ...limits,
        axisLabel: { formatter: (value) => page.format(value, "whole"), showMinLabel: true, hideOverlap: true },
        axisPointer: { label: { formatter: ({ value }) => `${x_name} ${Math.round(value)}` }, snap: true },
      },
      yAxis: {
        type: "value", name: y_name, nameTextStyle: { align: "left" }, scale: !from_zero,
        axisLabel: { formatter: axisFormat(format) },
      },
      dataZoom: [
        { type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: true },
        { type: "slider", filterMode: "none", height: 14, bottom: 4, showDetail: false },
      ],
      series: drawn.map(line),
    };
  }

  // A matrix in shades, the first row on top. A cell without a value is left out.
  function heat_map({ values, rows, columns, row_name, column_name, value_name, format, labels, shade }) {
    const cells = [], basis = shade ?? values;
    values.forEach((row, r) => row.forEach((value, c) => {
      if (value === null) return;
      // ECharts draws nothing for a cell without a number, even one that takes no shade.
      const unshaded = { visualMap: false, itemStyle: { color: "transparent" }, label: { color: colour("quiet") } };
      cells.push({ value: [c, r, basis[r][c] ?? 0, value], name: labels?.[r][c], ...(basis[r][c] === null ? unshaded : {}) });
    }));
    const axis = { type: "category", splitArea: { show: false }, axisTick: { show: false }, nameLocation: "middle", nameGap: 12, nameMoveOverlap: true };
    const interval = (names) => (names.length <= 40 ? 0 : "auto");
    return {
      grid: grid(26, 10, 8, 30),
      tooltip: {
        formatter: ({ name, value: [column, row, , value] }) =>
          `${escaped(row_name)}: <b>${escaped(rows[row])}</b><br>${escaped(column_name)}: <b>${escaped(columns[column])}</b><br>` +
          `${escaped(value_name)}: <b>${shown(value, format)}</b>${name ? `<br>${escaped(name)}` : ""}`,
      },
      xAxis: { ...axis, name: column_name, data: columns, axisLabel: { ...cut, interval: interval(columns), rotate: 45 } },
      yAxis: { ...axis, name: row_name, data: rows, inverse: true, axisLabel: { ...cut, interval: interval(rows) } },
      visualMap: shades(2, cells.filter(({ visualMap }) => visualMap !== false).map(({ value }) => value[2])),
      series: [{
        type: "heatmap", name: value_name, data: cells,
        label: { show: Boolean(labels), formatter: "{b}", fontSize: 11, color: "inherit" },
        itemStyle: { borderWidth: cells.length <= 1600 ? 1 : 0, borderColor: colour("surface") },
        emphasis: { itemStyle: { borderColor: colour("text"), borderWidth: 2 } },
      }],
    };
  }

  // A line for each row through its value on each axis; dragging along an axis selects.
  function parallel({ axes, rows }) {
    const readable = { backgroundColor: colour("surface"), padding: [1, 3], borderRadius: 3 }; // labels lie over the lines
    const many = rows.length > 150;
    return {
      tooltip: { formatter: ({ name }) => escaped(name) },
      parallel: { left: 40, right: 60, top: 40, bottom: 24 },
      parallelAxis: axes.map(({ name, categories, format, logarithmic, inverse }, dim) => ({
        dim, name, nameGap: 14, z: 5, inverse, scale: true,
        type: categories ? "category" : logarithmic ? "log" : "value", data: categories ?? undefined,
        axisLabel: { ...readable, ...(categories?.some((one) => one.length > 14) ? cut : {}), ...(format ? { formatter: axisFormat(format) } : {}) },
      })),
      visualMap: shades(axes.length, rows.map(({ shade }) => shade), 2),
      series: [{
        type: "parallel", data: rows.map(({ name, values, shade }) => ({ name, value: [...values, shade] })),
        lineStyle: many ? { width: 1, opacity: 0.35 } : { width: 1.5, opacity: 0.6 },
        emphasis: { lineStyle: { width: 3, opacity: 1 } },
      }],
    };
  }

  // Differences with their intervals around a line at 0.
  function intervals({ intervals: drawn, x_name }) {
    const whiskers = (_, api) => {
      const [low, centre, high] = [0, 1, 2].map((end) => api.coord([api.value(end), api.value(3)]));
      const stroke = api.visual("color"), cap = 5;
      const bar = (x1, y1, x2, y2) => ({ type: "line", shape: { x1, y1, x2, y2 }, style: { stroke, lineWidth: 2 } });
      const dot = { type: "circle", shape: { cx: centre[0], cy: centre[1], r: 4.5 }, style: { fill: stroke } };
      return { type: "group", children: [bar(low[0], low[1], high[0], high[1]), ...[low, high].map(([x, y]) => bar(x, y - cap, x, y + cap)), dot] };
    };
    const described = ({ name, dataIndex }) => {
      const { value, low, high } = drawn[dataIndex], points = (one) => page.format(one, "points");
      const interval = low === null ? ", without an interval" : `, 95% interval ${points(low)} to ${points(high)}`;
      return `${escaped(name)}<br><b>${points(value)}</b> points${interval}`;
    };
    return {
      grid: grid(10, 24, 10, 34),
      tooltip: { trigger: "item", formatter: described },
      xAxis: { type: "value", name: x_name, ...middle, axisPointer: { show: false }, axisLabel: { formatter: axisFormat("points"), hideOverlap: true } },
      yAxis: {
        type: "category", data: drawn.map(({ name }) => name), inverse: true, axisTick: { show: false },
        axisLabel: { width: 140, overflow: "break", interval: 0, lineHeight: 13 },
      },
      series: [{
        type: "custom", name: "difference", renderItem: whiskers, encode: { x: [0, 1, 2], y: 3 },
        data: drawn.map(({ name, value, low, high, colour: token }, row) =>
          ({ name, value: [low ?? value, value, high ?? value, row], itemStyle: { color: colour(token) } })),
        markLine: { silent: true, symbol: "none", label: { show: false }, data: [{ xAxis: 0 }], lineStyle: { color: colour("quiet"), type: "solid", width: 1 } },
      }],
    };
  }

  // Accuracy by confidence with intervals, and the diagonal.
  function reliability({ points, start }) {
    const style = { type: "solid", width: 1.5, color: colour("test") };
    const ideal = [{ coord: [start, start], lineStyle: { type: "dashed", color: "#888888" } }, { coord: [1, 1] }];
    const axis = { type: "value", min: start, max: 1, ...middle, axisLabel: { formatter: percentAxis, hideOverlap: true } };
    return {
      grid: grid(30, 24, 14, 34),
      tooltip: {
        trigger: "item", valueFormatter: (value) => page.format(value, "percent"),
        formatter: ({ data: [confidence, accuracy, low, high, images] }) =>
          `${shown(images, "integer")} images<br>mean confidence <b>${shown(confidence, "percent")}</b><br>` +
          `accuracy <b>${shown(accuracy, "percent")}</b>, 95% interval ${shown(low, "percent")} to ${shown(high, "percent")}`,
      },
      xAxis: { ...axis, name: "confidence", splitLine: { show: false } },
      yAxis: { ...axis, name: "accuracy", nameGap: 44 },
      series: [{
        type: "line", name: "accuracy", data: points, symbol: "circle", symbolSize: 8, lineStyle: style, itemStyle: { color: colour("test") },
        markLine: {
          silent: true, symbol: "none", animation: false, label: { show: false }, lineStyle: style,
          data: [ideal, ...points.map(([x, , low, high]) => [{ coord: [x, low] }, { coord: [x, high] }])],
        },
      }],
    };
  }

  // Bars of counts or fractions by category.
  function bars({ bars: drawn, categories, x_name, y_name, format, stacked }) {
    return {
      grid: grid(8, 20, y_name ? 26 : 14, x_name ? 34 : 10),
      tooltip: { trigger: "axis", valueFormatter: (value) => page.format(value, format) },
      xAxis: {
        type: "category", name: x_name, ...middle, data: categories, axisTick: { show: false },
        axisLabel: { hideOverlap: true, showMaxLabel: true, ...(stacked ? { ...cut, rotate: 40 } : {}) },
      },
      yAxis: { type: "value", name: y_name, minInterval: format === "integer" ? 1 : undefined, axisLabel: { formatter: axisFormat(format) } },
      series: drawn.map(({ name, values, colour: token }) => ({
        type: "bar", name, data: values, stack: stacked ? "all" : undefined, barGap: "0%", barCategoryGap: "20%",
        itemStyle: { color: colour(token) }, lineStyle: { color: colour(token) }, // the latter for the button
      })),
    };
  }

  return { lines, heat_map, parallel, intervals, reliability, bars };
})();
