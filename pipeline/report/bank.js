// Draws the patches of a concept when its row comes near the window. The search filters the list and the rows. A click
// on a concept shows it alone. A served page asks its server for patches; a page in a file contains them.
(() => {
  const page = document.getElementById("bank");
  const most = Number(page.dataset.live);
  const rows = [...document.querySelectorAll(".concept")];
  const entries = new Map([...document.querySelectorAll("#list button")].map((made) => [made.dataset.concept, made]));
  const number = (row) => row.id.replace("concept-", "");

  async function ask(path, question) {
    const answer = await fetch(path, question && {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question),
    });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content.patches;
  }

  async function fill(row, count) {
    if (Number(row.dataset.drawn) >= count) return;
    row.dataset.drawn = count;
    const cards = row.querySelector(".cards");
    try {
      const found = most ? await ask(`api/concepts/${number(row)}?k=${Math.min(count, most)}`)
        : JSON.parse(row.querySelector("script").textContent);
      cards.replaceChildren(...found.map(patches.draw));
    } catch (error) {
      cards.replaceChildren(patches.element("p", error.message));
    }
  }

  const watcher = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (isIntersecting) {
        watcher.unobserve(target);
        fill(target, most ? 12 : Infinity);
      }
    }
  }, { rootMargin: "800px" });
  rows.forEach((row) => watcher.observe(row));

  const search = document.getElementById("search");
  const found = document.getElementById("found");
  const back = document.getElementById("back");
  let opened = null;

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const named = row.dataset.words.includes(wanted);
      const entry = entries.get(number(row)).parentElement;
      entry.hidden = !named;
      // Matches of the name come before matches of a synonym.
      const order = row.dataset.words.split("\n", 1)[0].includes(wanted) ? "0" : "1";
      if (row.style.order !== order) row.style.order = entry.style.order = order;
      row.hidden = opened ? row !== opened : !named;
      shown += named;
    }
    found.textContent = wanted ? `${shown} of ${rows.length} concepts` : "";
  }

  function show(row) {
    if (opened) {
      opened.classList.remove("opened");
      entries.get(number(opened)).removeAttribute("aria-current");
    }
    opened = row;
    back.hidden = !row;
    if (row) {
      row.classList.add("opened");
      entries.get(number(row)).setAttribute("aria-current", "true");
      fill(row, most || Infinity);
    }
    filter();
    if (row) back.scrollIntoView({ block: "start" });
  }

  search.addEventListener("input", () => {
    if (opened) show(null);
    else filter();
  });
  back.addEventListener("click", () => show(null));
  for (const [id, entry] of entries) {
    entry.addEventListener("click", () => show(document.getElementById(`concept-${id}`)));
  }
  for (const row of rows) row.querySelector("h2 button").addEventListener("click", () => show(row));

  if (most) {
    const answer = document.getElementById("answer");
    const look = async (title, question) => {
      const cards = patches.element("div");
      cards.className = "cards card-row";
      try {
        const found = await ask("api/search", { ...question, k: Math.min(24, most) });
        if (found.length) cards.append(...found.map((patch) => {
          const card = patches.element("figure");
          card.className = "card";
          card.append(patches.draw(patch), patches.element("figcaption", patch.caption));
          return card;
        }));
        else cards.append(patches.element("p", "The bank has no such patch."));
      } catch (error) {
        cards.append(patches.element("p", error.message));
      }
      answer.replaceChildren(patches.element("h2", title), cards);
      answer.scrollIntoView({ block: "start", behavior: "smooth" });
    };
    // The address says what was asked for, so that an answer can be linked and the browser's "back" works.
    const form = document.getElementById("ask");
    const answerAddress = () => {
      const asked = new URLSearchParams(location.search);
      const context = (asked.get("context") || "").split(",").map((word) => word.trim()).filter(Boolean);
      const concept = (asked.get("concept") || "").trim();
      const like = asked.get("like");
      form.elements.concept.value = concept;
      form.elements.context.value = context.join(", ");
      filter();
      if (!concept && !like && !context.length) return answer.replaceChildren();
      const named = [concept, like && `Like ${like}`, ...context.map((word) => `with ${word}`)].filter(Boolean);
      return look(named.join(", "), { concept: concept || null, like: like || null, context });
    };
    const go = (asked) => {
      const given = Object.entries(asked).filter(([, value]) => value);
      const query = new URLSearchParams(given).toString();
      if (`?${query}` !== location.search) history.pushState(null, "", query ? `?${query}` : location.pathname);
      answerAddress();
    };
    patches.actions.push(["More like this", (view) => go({ like: view.id })]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const asked = new FormData(form);
      go({ concept: asked.get("concept").trim(), context: asked.get("context").trim() });
    });
    addEventListener("popstate", answerAddress);
    if (location.search) answerAddress();
  }
  // After a reload the browser may keep the text in the field.
  filter();
})();
