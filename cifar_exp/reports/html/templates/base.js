// Shared by all pages: data, formats of numbers, theme, copying.
"use strict";
const page = (() => {
  const embedded = JSON.parse(document.getElementById("embedded").textContent);
  const EMPTY = "–";
  const missing = (value) => value === null || value === undefined || value === "" || Number.isNaN(value);
  const grouped = (value, decimals) =>
    value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  const minus = (text) => text.replace("-", "−");
  const short = (value) =>
    Math.abs(value) >= 1000 ? grouped(value, 0) : String(Number(value.toPrecision(4)));

  // The same as formats.py.
  const formats = {
    text: (value) => String(value),
    whole: (value) => (Number.isInteger(value) ? grouped(value, 0) : ""),
    integer: (value) => grouped(value, 0),
    number: (value) => minus(short(value)),
    loss: (value) => value.toFixed(4),
    rate: (value) => String(Number(value.toPrecision(4))),
    percent: (value) => `${(100 * value).toFixed(2)}%`,
    points: (value) => minus(`${value < -0.00005 ? "" : "+"}${Math.abs(value) < 0.00005 ? "0.00" : (100 * value).toFixed(2)}`),
    seconds: (value) => {
      const units = [["d", 86400, 48 * 3600], ["h", 3600, 5400], ["min", 60, 90], ["s", 1, 0]];
      const [unit, length] = units.find((one) => value >= one[2]);
      return `${Number((value / length).toPrecision(3))}\u00a0${unit}`;
    },
  };
  const format = (value, kind) =>
    missing(value) ? EMPTY : typeof value === "number" ? formats[kind](value) : String(value);

  // Text goes into the page by textContent only; there is no way from a string to markup here.
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  const listeners = [];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const themes = ["auto", "light", "dark"];
  const names = { auto: "◐ Auto", light: "☀ Light", dark: "☾ Dark" };
  const store = {
    // Some browsers refuse storage to files.
    get: () => { try { return localStorage.getItem("cifar-exp-theme"); } catch { return null; } },
    set: (theme) => { try { localStorage.setItem("cifar-exp-theme", theme); } catch { /* then it lasts for this visit only */ } },
  };
  function setTheme(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    button.textContent = names[theme];
    button.setAttribute("aria-label", `Theme: ${theme}`);
    for (const listener of listeners) listener();
  }
  let theme = themes.includes(store.get()) ? store.get() : "auto";
  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    store.set(theme);
    setTheme(theme);
  });
  dark.addEventListener("change", () => setTheme(theme));
  setTheme(theme);
  document.documentElement.classList.add("scripted");

  for (const copy of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    copy.hidden = false;
    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(copy.dataset.copy);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed here";
      }
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    });
  }

  // Browsers may announce the same printing twice.
  const root = document.documentElement, printing = () => root.classList.contains("printing");
  function onPrint(before, after = () => {}) {
    window.addEventListener("beforeprint", () => { if (!started.has(before)) { started.add(before); root.classList.add("printing"); before(); } });
    window.addEventListener("afterprint", () => { if (started.delete(before)) { root.classList.remove("printing"); after(); } });
  }
  const started = new Set();

  return {
    embedded,
    data: (name) => embedded.data[name],
    format,
    formats,
    missing,
    element,
    colour: (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim(),
    printing,
    onPrint,
    onTheme: (listener) => listeners.push(listener),
  };
})();
