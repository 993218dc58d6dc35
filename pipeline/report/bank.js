// Draws the patches of a concept when its row comes near the window. The search filters the list and the rows. A click
// on a concept shows it alone. A served page asks its server for patches; a page in a file contains them.
(() => {
  const page = document.getElementById("bank");
  const most = Number(page.dataset.live);
  const rows = [...document.querySelectorAll(".concept")];
  const entries = new Map([...document.querySelectorAll("#list button")].map((made) => [made.dataset.concept, made]));
  const number = (row) => row.id.replace("concept-", "");

  async function ask(path, body, type = "application/json") {
    const answer = await fetch(path, body && { method: "POST", headers: { "Content-Type": type }, body }).catch(() => {
      throw new Error("No answer from the server. It may have stopped, or the request took too long.");
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
    const form = document.getElementById("ask");
    const input = document.getElementById("picture");
    const chosen = document.getElementById("chosen");
    const visit = performance.timeOrigin;
    const files = []; // The pictures of this visit, by their numbers in the browser's history.
    let picture = null; // Of what is asked now: its number.
    let searches = 0;

    function queryFigure(file) {
      const figure = patches.element("figure");
      figure.className = "query";
      const image = new Image();
      image.alt = file.name; // Browsers do not draw every picture that the server can read.
      image.addEventListener("load", () => URL.revokeObjectURL(image.src));
      image.src = URL.createObjectURL(file);
      const kept = "This answer has no link: neither the address nor the server keeps the picture.";
      const note = patches.element("figcaption", `${file.name}. ${kept}`);
      note.className = "source";
      figure.append(image, note);
      return figure;
    }

    async function found(question, file) {
      const k = Math.min(24, most);
      if (!file) return ask("api/search", JSON.stringify({ ...question, k }));
      const [size, limit] = [file.size, Number(input.dataset.most)].map((bytes) => (bytes / 2 ** 20).toFixed(1));
      if (file.size > Number(input.dataset.most)) {
        throw new Error(`The picture has ${size} MiB, more than the ${limit} that the server takes. Choose a smaller copy.`);
      }
      const asked = new URLSearchParams({ concept: question.concept || "", context: question.context.join(","), k });
      const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
      return ask(`api/search/picture?${asked}`, file, type);
    }

    async function look(title, question, file) {
      const search = searches += 1;
      const cards = patches.element("div");
      cards.className = "cards card-row";
      const parts = [patches.element("h2", title), ...(file ? [queryFigure(file)] : []), cards];
      if (file) {
        cards.append(patches.element("p", "The bank's detector looks at the picture …"));
        answer.replaceChildren(...parts);
      }
      let drawn;
      try {
        drawn = (await found(question, file)).map((patch) => {
          const card = patches.element("figure");
          card.className = "card";
          card.append(patches.draw(patch), patches.element("figcaption", patch.caption));
          return card;
        });
        if (!drawn.length) drawn = [patches.element("p", "The bank has no such patch.")];
      } catch (error) {
        drawn = [patches.element("p", error.message)];
      }
      if (search !== searches) return; // Something else was asked meanwhile.
      cards.replaceChildren(...drawn);
      answer.replaceChildren(...parts);
      answer.scrollIntoView({ block: "start", behavior: "smooth" });
    }

    // The address says what was asked for, so that an answer can be linked and the browser's "back" works. A picture
    // cannot be in it: the browser's history has its number, which is good for this visit.
    const answerAddress = () => {
      const asked = new URLSearchParams(location.search);
      const context = (asked.get("context") || "").split(",").map((word) => word.trim()).filter(Boolean);
      const concept = (asked.get("concept") || "").trim();
      const like = asked.get("like");
      const text = (asked.get("text") || "").trim();
      picture = history.state && history.state.visit === visit ? history.state.picture : null;
      const file = picture === null ? null : files[picture];
      if (chosen) {
        chosen.hidden = !file;
        chosen.firstElementChild.textContent = file ? file.name : "";
      }
      form.elements.concept.value = concept;
      form.elements.context.value = context.join(", ");
      if (form.elements.text) form.elements.text.value = text;
      filter();
      if (!concept && !like && !text && !context.length && !file) {
        searches += 1;
        const gone = patches.element("p", "The picture is no longer in this page. Choose it again.");
        return answer.replaceChildren(...(history.state ? [gone] : []));
      }
      const alike = (file || like) && `${concept ? "like" : "Like"} ${file ? "your picture" : like}`;
      const title = [concept, text && `“${text}”`, alike, ...context.map((word) => `with ${word}`)].filter(Boolean).join(", ");
      return look(title, { concept: concept || null, like: like || null, text: text || null, context }, file);
    };
    const go = (asked, number = null) => {
      const given = Object.entries(asked).filter(([, value]) => value);
      const query = new URLSearchParams(given).toString();
      const address = query ? `?${query}` : location.pathname;
      if ((query ? address : "") !== location.search || number !== picture) {
        history.pushState(number === null ? null : { visit, picture: number }, "", address);
      }
      answerAddress();
    };
    const typed = () => ({
      concept: form.elements.concept.value.trim(),
      context: form.elements.context.value.trim(),
      text: form.elements.text ? form.elements.text.value.trim() : "",
    });
    patches.actions.push(["More like this", (view) => go({ like: view.id })]);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      go(typed(), picture);
    });
    if (input) {
      input.addEventListener("change", () => {
        if (input.files.length) go(typed(), files.push(input.files[0]) - 1);
        input.value = ""; // So that the same file can be chosen again.
      });
      chosen.querySelector("button").addEventListener("click", () => go(typed()));
    }
    addEventListener("popstate", answerAddress);
    if (location.search || history.state) answerAddress();
  }
  // After a reload the browser may keep the text in the field.
  filter();
})();
