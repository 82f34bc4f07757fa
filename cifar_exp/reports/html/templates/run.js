// What ties the parts of a run's page together.
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
    // A total is of any class.
    const classOf = (position) => (position < page.data("classes").length ? position : -1);
    // Links into the list of mistakes, so that it does not take a pointer.
    const follow = () => {
      const cell = /^#cell-(\d+)-(\d+)$/.exec(location.hash);
      if (cell) show(Number(cell[1]), Number(cell[2]));
    };
    window.addEventListener("hashchange", follow);
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.('a[href^="#cell-"]');
      // The same link once more changes no hash.
      if (link && link.getAttribute("href") === location.hash) follow();
    });
    follow();
  }

  const written = document.getElementById("written");
  if (written) {
    const tell = () => {
      const seconds = Math.max(0, (Date.now() - Date.parse(written.dateTime)) / 1000);
      written.textContent = `${page.format(Math.floor(seconds), "seconds").replace(".00", "").replace(".0", "")} ago`;
    };
    tell();
    setInterval(tell, 1000);
  }

  // Say where on the page the reader is.
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
