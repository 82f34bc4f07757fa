// Tables with sorting, filters and a choice of columns.
"use strict";
page.tables = (() => {
  const made = new Map();
  const value = (cell) => (cell !== null && typeof cell === "object" ? cell.value : cell);
  const { element } = page;

  function build(place, data) {
    const numeric = data.columns.map((column) => column.kind !== "text");
    const shown = data.columns.map((column) => !column.hidden);
    const text = (cell, kind) => page.format(value(cell), kind) +
      (cell?.interval ? ` [${cell.interval.map((end) => page.format(end, kind)).join(", ")}]` : "");
    const texts = data.rows.map((row) => row.map((cell, c) => text(cell, data.columns[c].kind)));
    const searched = texts.map((row) => row.join("\u0000").toLowerCase());
    const ranges = data.columns.map((column, c) => {
      if (!column.bar) return null;
      if (column.kind === "percent") return [0, 1];
      const numbers = data.rows.map((row) => value(row[c])).filter((one) => typeof one === "number");
      return [column.from_zero ? 0 : Math.min(...numbers), Math.max(...numbers)];
    });
    const state = { sort: data.sort, find: "", limit: data.shown, same: !data.differing_first, test: null };

    const status = element("p", { class: "quiet-text count", role: "status" });
    const head = element("thead"), body = element("tbody");
    const table = element("table", {}, element("caption", { class: "hidden-text" }, place.dataset.caption), head, body);
    const more = element("button", { type: "button", class: "quiet", hidden: true, onclick: () => { state.limit += data.shown * 5; update(); } });
    const tools = element("div", { class: "tools" });

    if (data.find) {
      const input = element("input", { type: "search", placeholder: "Filter rows", "aria-label": `Filter ${place.dataset.caption}` });
      input.addEventListener("input", () => { state.find = input.value; update(); });
      tools.append(input);
    }
    if (data.choose) {
      if (data.columns.some((column) => column.constant)) {
        const only = element("input", { type: "checkbox" });
        only.checked = data.differing_first;
        only.addEventListener("change", () => { state.same = !only.checked; heads(); update(); });
        tools.append(element("label", { class: "check" }, only, "Only differences"));
      }
      const boxes = data.columns.map((column, c) => {
        const box = element("input", { type: "checkbox" });
        box.checked = shown[c];
        box.addEventListener("change", () => { shown[c] = box.checked; heads(); update(); });
        return element("label", { class: "check" }, box, column.label);
      });
      tools.append(element("details", { class: "menu" }, element("summary", {}, "Columns"), element("div", { class: "choices" }, ...boxes)));
    }
    tools.append(status);
    if (!data.find && !data.choose) tools.hidden = true;

    const narrow = matchMedia("(max-width: 560px)");
    narrow.addEventListener("change", () => { heads(); update(); });

    function visible() {
      const all = data.columns.map((_, c) => c).filter((c) => shown[c] && (state.same || !data.columns[c].constant));
      if (!narrow.matches) return all;
      const rank = (c) => (c === all[0] ? 0 : data.columns[c].key ? 1 : 2);
      return all.sort((a, b) => rank(a) - rank(b) || a - b);
    }

    function heads() {
      head.replaceChildren(element("tr", {}, ...visible().map((c) => {
        const column = data.columns[c];
        const sorted = state.sort && state.sort[0] === c ? (state.sort[1] ? "descending" : "ascending") : "none";
        const button = element("button", { type: "button", title: column.note || null }, column.label,
          element("span", { class: "arrow", "aria-hidden": "true" }, { none: "↕", ascending: "↑", descending: "↓" }[sorted]));
        button.addEventListener("click", () => {
          // Numbers start with the largest, names with A.
          state.sort = [c, sorted === "none" ? numeric[c] : sorted === "ascending"];
          heads();
          update();
          head.querySelectorAll("th")[visible().indexOf(c)].querySelector("button").focus();
        });
        return element("th", { scope: "col", "aria-sort": sorted, class: numeric[c] ? "number" : null }, button);
      })));
    }

    function order() {
      const words = state.find.toLowerCase().split(/\s+/).filter(Boolean);
      const kept = data.rows.map((_, r) => r)
        .filter((r) => words.every((word) => searched[r].includes(word)) && (!state.test || state.test(data.rows[r], r)));
      if (!state.sort) return kept;
      const [c, falling] = state.sort, sign = falling ? -1 : 1;
      // Empty cells come last either way; equals keep their order.
      return kept.sort((a, b) => {
        const x = value(data.rows[a][c]), y = value(data.rows[b][c]);
        if (page.missing(x) || page.missing(y)) return page.missing(x) - page.missing(y);
        if (typeof x === "number" && typeof y === "number") return sign * (x - y);
        return sign * String(x).localeCompare(String(y), "en", { numeric: true });
      });
    }

    function cellOf(r, c) {
      const cell = data.rows[r][c], text = texts[r][c];
      const made = element("td", { class: numeric[c] ? "number" : null });
      if (cell !== null && typeof cell === "object" && cell.href) made.append(element("a", { href: cell.href }, text));
      else made.append(text);
      if (ranges[c] && typeof value(cell) === "number") {
        const [low, high] = ranges[c];
        made.classList.add("with-bar");
        made.style.setProperty("--share", high > low ? (value(cell) - low) / (high - low) : 1);
      }
      return made;
    }

    function update() {
      const rows = order(), columns = visible();
      body.replaceChildren(...rows.slice(0, state.limit).map((r) =>
        element("tr", { class: data.marks[r] ?? null, "data-row": r }, ...columns.map((c) => cellOf(r, c)))));
      more.hidden = rows.length <= state.limit;
      more.textContent = `Show more (${page.format(rows.length - state.limit, "integer")} left)`;
      const all = page.format(data.rows.length, "integer");
      status.textContent = rows.length === data.rows.length ? `${all} rows` : `${page.format(rows.length, "integer")} of ${all} rows`;
      place.dispatchEvent(new CustomEvent("rows", { detail: rows }));
    }

    heads();
    update();
    place.replaceChildren(tools,
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": place.dataset.caption }, table), more);
    return {
      filter: (text) => { state.find = text; update(); },
      // Keep only the rows for which test(row, position) is true; null keeps all.
      only: (test) => { state.test = test; update(); },
      rows: order,
      element: place,
    };
  }

  // Paper cannot scroll: a table that is too wide gets smaller letters, and then breaks words.
  const SMALLEST = 0.55;
  page.onPrint(() => {
    for (const table of document.querySelectorAll(".table table")) {
      const room = table.parentElement.clientWidth;
      table.classList.remove("tight");
      table.style.setProperty("--fit", 1);
      const fit = Math.min(1, room / table.offsetWidth);
      table.style.setProperty("--fit", Math.max(SMALLEST, fit));
      table.classList.toggle("tight", table.offsetWidth > room);
    }
  });

  for (const place of document.querySelectorAll("[data-table]")) {
    made.set(place.dataset.table, build(place, page.embedded.tables[place.dataset.table]));
  }
  return { get: (name) => made.get(name) };
})();
