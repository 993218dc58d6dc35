// Hides the rows that do not match the search.
(() => {
  const rows = [...document.querySelectorAll(".concept")];
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
  // After a reload the browser may keep the text in the field.
  filter();
})();
