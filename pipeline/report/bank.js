// Draws the patches of a concept when its row comes near the window, and hides the rows that a search does not name.
(() => {
  const rows = [...document.querySelectorAll(".concept")];

  function draw(row) {
    const cards = row.querySelector(".cards");
    for (const { picture, aspect, facts } of JSON.parse(row.querySelector("script").textContent)) {
      const patch = document.createElement("span");
      patch.className = "patch";
      patch.tabIndex = 0;
      patch.dataset.facts = JSON.stringify(facts);
      const image = new Image();
      image.src = picture;
      image.alt = row.querySelector("h2").textContent;
      image.style.aspectRatio = aspect;
      patch.append(image);
      cards.append(patch);
    }
  }

  const watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) {
        watcher.unobserve(target);
        draw(target);
      }
    }
  }, { rootMargin: "800px" });
  rows.forEach((row) => watcher.observe(row));

  const search = document.getElementById("search");
  const found = document.getElementById("found");
  function filter() {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.dataset.words.includes(wanted);
      shown += !row.hidden;
    }
    found.textContent = wanted ? `${shown} of ${rows.length} concepts` : "";
  }
  search.addEventListener("input", filter);
  // A browser that reloads the page may keep what was typed.
  filter();
})();
