"use strict";
// Shows the facts of the patch under the mouse or with the focus, and its picture enlarged.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);

  const element = (name, text) => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  let shown = null;

  function show(patch) {
    const facts = document.createElement("dl");
    for (const [name, value] of JSON.parse(patch.dataset.facts)) {
      facts.append(element("dt", name), element("dd", value));
    }
    tip.replaceChildren(facts);
    const picture = patch.querySelector("img");
    if (picture) {
      const large = new Image();
      large.src = picture.src;
      tip.prepend(large);
    }
    shown = patch;
    tip.hidden = false;
    place();
  }

  // Below the patch, or above it if there is no room.
  function place() {
    const at = shown.getBoundingClientRect();
    const left = Math.min(at.left, window.innerWidth - tip.offsetWidth - 8);
    const below = at.bottom + 8;
    const fits = below + tip.offsetHeight < window.innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${fits ? below : Math.max(8, at.top - tip.offsetHeight - 8)}px`;
  }

  function hide() {
    shown = null;
    tip.hidden = true;
  }

  for (const begins of ["mouseover", "focusin"]) {
    document.addEventListener(begins, (event) => {
      const patch = event.target.closest("[data-facts]");
      if (patch) show(patch);
    });
  }
  document.addEventListener("mouseout", hide);
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  // The page scrolls when the focus moves to a patch outside the window.
  document.addEventListener("scroll", () => {
    if (shown && shown === document.activeElement) place();
    else hide();
  }, { passive: true });
})();
