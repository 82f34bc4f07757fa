// Links between the parts of a run's page.
"use strict";
(() => {
  const matrix = page.embedded.charts.confusion;
  function show(label, prediction) {
    if (!page.gallery) return;
    page.gallery.select(label, prediction);
    const heading = document.getElementById("gallery-title");
    heading.scrollIntoView({ block: "start" });
    heading.focus({ preventScroll: true });
  }
  if (matrix) {
    page.charts.on("confusion", "click", ({ value }) => { if (value) show(classOf(value[1]), classOf(value[0])); });
    // The last row and column are totals of all classes.
    const classOf = (position) => (position < page.data("classes").length ? position : -1);
    // Links in the list of mistakes, for use without a pointer.
    const follow = () => {
      const cell = /^#cell-(\d+)-(\d+)$/.exec(location.hash);
      if (cell) show(Number(cell[1]), Number(cell[2]));
    };
    window.addEventListener("hashchange", follow);
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.('a[href^="#cell-"]');
      // A second click on the same link does not change the hash.
      if (link && link.getAttribute("href") === location.hash) follow();
    });
    follow();
  }

  const written = document.getElementById("written");
  if (written) {
    const update = () => {
      const seconds = Math.max(0, (Date.now() - Date.parse(written.dateTime)) / 1000);
      written.textContent = `${page.format(Math.floor(seconds), "seconds").replace(".00", "").replace(".0", "")} ago`;
    };
    update();
    setInterval(update, 1000);
  }

  // Mark the section that the reader sees.
  const links = new Map([...document.querySelectorAll("header.top nav a")].map((link) => [link.getAttribute("href").slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      for (const [id, link] of links) {
        if (id === target.id) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const id of links.keys()) seen.observe(document.getElementById(id));
})();
