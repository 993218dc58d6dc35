// Shows only answers of the chosen verdict whose text has all the words that were typed.
(() => {
  const buttons = [...document.querySelectorAll("#verdicts button")];
  const search = document.getElementById("search");
  const rows = [...document.querySelectorAll(".asked")].map((row) => [row, row.lastElementChild.innerText.toLowerCase()]);
  let verdict = "";
  const show = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const [row, text] of rows) {
      row.hidden = (verdict && row.dataset.verdict !== verdict) || !words.every((word) => text.includes(word));
      left += !row.hidden;
    }
    document.getElementById("none").hidden = left > 0;
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      verdict = button.dataset.verdict;
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      show();
    });
  }
  search.addEventListener("input", show);
})();
