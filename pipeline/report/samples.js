// Shows only samples with all selected concepts.
(() => {
  const chips = [...document.querySelectorAll("#chips button")];
  const rows = [...document.querySelectorAll("[data-concepts]")].map((row) => [row, JSON.parse(row.dataset.concepts)]);
  const chosen = new Set();
  for (const chip of chips) {
    chip.addEventListener("click", () => {
      const { concept } = chip.dataset;
      if (!chosen.delete(concept)) chosen.add(concept);
      chip.setAttribute("aria-pressed", chosen.has(concept));
      for (const [row, concepts] of rows) row.hidden = ![...chosen].every((name) => concepts.includes(name));
    });
  }
})();
