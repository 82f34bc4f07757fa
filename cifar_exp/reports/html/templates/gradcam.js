// The Grad-CAM maps of one image: of every layer, for both classes, blended over the image by a slider.
"use strict";
page.gradcam = (() => {
  const data = page.data("explained"), place = document.getElementById("gradcam");
  if (!data || !place) return null;
  const { element } = page, share = (value) => (page.missing(value) ? "" : ` with ${Math.round(100 * value)}%`);
  const drop = (value) => (page.missing(value) ? "–" : value.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−"));

  const strip = element("div", { class: "strip", role: "group", "aria-label": "Explained images" },
    ...data.images.map((one) => element("button", { type: "button", "data-index": one.index, "aria-pressed": "false", onclick: () => show(one.index) },
      element("img", { src: one.image, class: "pixels", alt: `Image ${one.index}: ${one.label}, predicted as ${one.prediction}` }))));
  const title = element("h3", { class: "explained-title", role: "status" });
  const slider = element("input", { type: "range", min: 0, max: 100, value: 50, id: "blend", "aria-label": "From image to map" });
  const maps = element("div", { class: "maps" });
  const blend = () => maps.style.setProperty("--blend", slider.value / 100);
  slider.addEventListener("input", blend);
  place.append(strip, title, element("div", { class: "blend" }, element("span", { "aria-hidden": "true" }, "Image"), slider, element("span", { "aria-hidden": "true" }, "Map")), maps);

  function figure(one, map, layer, name) {
    const stack = element("div", { class: "stack" },
      element("img", { src: one.image, class: "pixels", alt: `Image ${one.index}` }),
      map.image ? element("img", { src: map.image, class: "heat", alt: `Grad-CAM map of ${layer} for ${name}` }) : null);
    const size = page.missing(map.height) ? "" : ` (${map.height}×${map.width})`;
    return element("figure", { class: "map" }, stack, element("figcaption", {},
      element("b", {}, layer), size, layer === data.headline ? element("span", { class: "quiet-text" }, " read first") : null,
      map.image
        ? element("span", { class: "numbers" },
          element("span", {}, `drop ${drop(map.attended)}`), element("span", {}, `control ${drop(map.control)}`))
        : element("span", { class: "numbers" }, "no positive evidence")));
  }

  function show(index, scroll = false) {
    const one = data.images.find((image) => image.index === index);
    if (!one) return;
    for (const button of strip.children) button.setAttribute("aria-pressed", String(Number(button.dataset.index) === index));
    const right = one.label === one.prediction;
    title.textContent = right ? `${one.label}, predicted correctly${share(one.confidence)}` : `${one.label}, predicted as ${one.prediction}${share(one.confidence)}`;
    const row = (target, name, label) => element("div", {}, element("h4", {}, label, element("b", {}, name)),
      element("div", { class: "layers" }, ...data.layers.map((layer, number) => figure(one, one.maps[target][number], layer, name))));
    maps.replaceChildren(...(right
      ? [row("predicted", one.prediction, "For the predicted and true class: ")]
      : [row("predicted", one.prediction, "For the predicted class: "), row("true", one.label, "For the true class: ")]));
    blend();
    if (scroll) {
      const heading = document.getElementById("attention-title");
      heading.scrollIntoView({ block: "start" });
      heading.focus({ preventScroll: true });
    }
  }
  show(data.images[0].index);
  return { show };
})();
