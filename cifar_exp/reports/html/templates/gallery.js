// The gallery: images with their predictions, filtered by class and confidence, sorted, and one by one in a dialog.
"use strict";
page.gallery = (() => {
  const data = page.data("gallery"), place = document.getElementById("gallery-images");
  if (!data || !place) return null;
  const { element } = page, classes = page.data("classes");
  const state = { label: -1, prediction: -1, low: 0, high: 1, kind: "wrong", sort: "confident", limit: 60 };
  const isRight = (one) => one.label === one.prediction;
  const share = (value) => `${Math.round(100 * value)}%`;
  const small = (value) => (value < 0.005 ? "<1%" : share(value));

  const choice = (name, options, onchange) => {
    const select = element("select", { id: `gallery-${name}` }, ...options.map(([value, text]) => element("option", { value }, text)));
    select.addEventListener("change", () => onchange(select.value));
    return select;
  };
  const field = (label, control) => element("label", { class: "field" }, label, control);
  const names = [[-1, "any class"], ...classes.map((name, position) => [position, name])];
  const set = (changes) => { Object.assign(state, changes, { limit: 60 }); update(); };

  const controls = {
    kind: choice("kind", [["wrong", "mistakes"], ["right", "right, least confident"], ["all", "both"]], (value) => set({ kind: value })),
    label: choice("label", names, (value) => set({ label: Number(value) })),
    prediction: choice("prediction", names, (value) => set({ prediction: Number(value) })),
    sort: choice("sort", [["confident", "most confident first"], ["unconfident", "least confident first"], ["label", "by true class"],
      ["prediction", "by predicted class"], ["index", "by number"]], (value) => set({ sort: value })),
  };
  const slider = (name, start) => {
    const shown = element("output", {}, share(start));
    const input = element("input", { type: "range", min: 0, max: 1, step: 0.01, value: start, id: `gallery-${name}`,
      "aria-label": name === "low" ? "Lowest confidence" : "Highest confidence" });
    input.addEventListener("input", () => {
      shown.textContent = share(Number(input.value));
      set({ [name]: Number(input.value) });
    });
    return { input, shown };
  };
  const low = slider("low", 0), high = slider("high", 1);
  const reset = element("button", { type: "button", class: "quiet", id: "gallery-reset" }, "Clear filters");
  reset.addEventListener("click", () => select(-1, -1, "wrong"));
  const count = element("p", { class: "quiet-text count", id: "gallery-count", role: "status" });
  document.getElementById("gallery-tools").append(
    field("Show", controls.kind), field("True class", controls.label), field("Predicted class", controls.prediction),
    element("div", { class: "field" }, "Confidence",
      element("span", { class: "confidence" }, low.input, low.shown, "to", high.input, high.shown)),
    field("Order", controls.sort), reset, count);

  const orders = {
    confident: (a, b) => b.confidence - a.confidence,
    unconfident: (a, b) => a.confidence - b.confidence,
    label: (a, b) => a.label - b.label || b.confidence - a.confidence,
    prediction: (a, b) => a.prediction - b.prediction || b.confidence - a.confidence,
    index: (a, b) => a.index - b.index,
  };
  const kept = () => data.images.filter((one) =>
    (state.kind === "all" || isRight(one) === (state.kind === "right")) &&
    (state.label < 0 || one.label === state.label) && (state.prediction < 0 || one.prediction === state.prediction) &&
    // The sliders have steps of 0.01; both ends are included.
    one.confidence >= state.low - 0.005 && one.confidence <= state.high + 0.005).sort(orders[state.sort]);

  const words = (one) => `Image ${one.index}: predicted as ${classes[one.prediction]} with ${share(one.confidence)} confidence, label ${classes[one.label]}`;
  // Name and probability of the classes after the first, then the true class.
  function runnersUp(one) {
    return (one.top ?? []).slice(1, 3).map(([label, probability]) =>
      element("span", { class: "next" }, element("span", {}, classes[label]), element("span", {}, small(probability))));
  }
  function card(one, within) {
    const bar = element("span", { class: "share", "aria-hidden": "true" });
    bar.style.setProperty("--share", one.confidence);
    return element("div", { role: "listitem" },
      element("button", { type: "button", class: `card${isRight(one) ? " right" : ""}`, "data-index": one.index, onclick: () => open(one, within) },
        element("img", { src: one.image, alt: words(one), class: "pixels", loading: "lazy", width: data.width, height: data.height }), bar,
        element("span", { class: "prediction" }, element("span", {}, classes[one.prediction]), element("span", {}, share(one.confidence))),
        ...runnersUp(one),
        element("span", { class: "label" }, isRight(one) ? "right" : `label ${classes[one.label]}`)));
  }

  const more = document.getElementById("gallery-more");
  more.addEventListener("click", () => { state.limit += 120; update(); });
  function update() {
    const images = kept();
    place.replaceChildren(...images.slice(0, state.limit).map((one) => card(one)));
    more.hidden = images.length <= state.limit;
    more.textContent = `Show more (${images.length - state.limit} left)`;
    count.textContent = images.length === 1 ? "1 image" : `${page.format(images.length, "integer")} images`;
    if (state.label >= 0 && state.prediction >= 0 && state.low === 0 && state.high === 1 && page.embedded.charts.confusion) {
      const inCell = page.embedded.charts.confusion.data.values[state.label][state.prediction];
      if (inCell > images.length) count.textContent += ` on this page of the ${page.format(inCell, "integer")} in this cell`;
    }
    if (!images.length) place.append(element("p", { class: "quiet-text" }, "No image on this page matches the filters."));
  }

  const dialog = document.getElementById("image-dialog");
  // Bars of the most probable classes; the true one is marked.
  function bars(one) {
    if (!one.top) return null;
    return element("dl", { class: "top" }, ...one.top.flatMap(([label, probability]) => {
      const bar = element("dd", { class: label === one.label ? "right" : label === one.prediction ? "wrong" : null },
        page.format(probability, "percent"));
      bar.style.setProperty("--share", probability);
      return [element("dt", {}, classes[label], label === one.label ? element("b", {}, " (label)") : null), bar];
    }));
  }
  function open(one, within) {
    const images = within ?? kept(), position = images.indexOf(one);
    const step = (by) => element("button", { type: "button", class: "quiet", disabled: !images[position + by],
      onclick: () => open(images[position + by], within) }, by < 0 ? "← Previous" : "Next →");
    const show = one.explained && page.gradcam ? element("button", { type: "button", class: "quiet", onclick: () => { dialog.close(); page.gradcam.show(one.index, true); } }, "Show Grad-CAM maps") : null;
    dialog.replaceChildren(
      element("h3", { id: "image-dialog-title" }, isRight(one) ? `${classes[one.label]}, predicted correctly` : `${classes[one.label]}, predicted as ${classes[one.prediction]}`),
      element("img", { src: one.image, alt: words(one), class: "pixels" }),
      element("p", { class: "quiet-text" }, `Confidence ${page.format(one.confidence, "percent")}. Row ${one.index} of predictions.csv, from `, element("code", {}, one.source), "."),
      bars(one),
      element("div", { class: "buttons" }, step(-1), step(1), show,
        element("button", { type: "button", class: "quiet", autofocus: true, onclick: () => dialog.close() }, "Close")));
    if (!dialog.open) dialog.showModal();
  }
  dialog.addEventListener("keydown", (event) => {
    const button = { ArrowLeft: 0, ArrowRight: 1 }[event.key];
    if (button !== undefined) dialog.querySelectorAll(".buttons button")[button].click();
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });

  // The images of a cell of the confusion matrix; -1 for any class.
  function select(label, prediction, kind = "all") {
    Object.assign(state, { label, prediction, kind, low: 0, high: 1, limit: 60 });
    for (const [name, control] of Object.entries(controls)) control.value = String(state[name]);
    for (const [one, end] of [[low, 0], [high, 1]]) { one.input.value = end; one.shown.textContent = share(end); }
    update();
  }
  update();
  const suspects = (page.data("suspects") ?? []).map((index) => data.images.find((one) => one.index === index)).filter(Boolean);
  document.getElementById("suspect-images")?.replaceChildren(...suspects.map((one) => card(one, suspects)));
  return { select, open, kept };
})();
