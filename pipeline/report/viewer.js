// Draws patches, and shows a patch in its image when it is clicked.
const patches = (() => {
  const viewer = document.createElement("dialog");
  viewer.id = "viewer";
  document.body.append(viewer);

  const element = (name, text) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const button = (text, act) => {
    const made = element("button", text);
    made.className = "back";
    made.addEventListener("click", act);
    return made;
  };

  // A patch is {picture, aspect, concept, facts, view: {id, image, width, height, box}}, as report/bank.py makes it.
  function draw(patch) {
    const made = element("span");
    made.className = "patch";
    made.tabIndex = 0;
    made.setAttribute("role", "button");
    made.dataset.facts = JSON.stringify(patch.facts);
    made.dataset.view = JSON.stringify(patch.view);
    const image = new Image();
    image.src = patch.picture;
    image.alt = patch.concept;
    image.style.aspectRatio = patch.aspect;
    made.append(image);
    return made;
  }

  function alone(picture, why) {
    const frame = element("div");
    frame.className = "alone";
    const image = new Image();
    image.src = picture;
    frame.append(image, element("p", why));
    return frame;
  }

  function whole(view, picture) {
    if (!view.image) return alone(picture, "Its image could not be read when this page was written.");
    const frame = element("div");
    frame.className = "whole";
    const image = new Image();
    image.addEventListener("error", () => frame.replaceWith(alone(picture, "Its image cannot be opened from this page.")));
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${view.width} ${view.height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const [left, top, right, bottom] = view.box;
    const place = { x: left, y: top, width: right - left, height: bottom - top, rx: 3 };
    for (const [name, value] of Object.entries(place)) rect.setAttribute(name, value);
    svg.append(rect);
    frame.append(image, svg);
    // "#…" refers to a picture that the page contains once for all patches of the image.
    image.src = view.image.startsWith("#") ? document.querySelector(view.image).src : view.image;
    return frame;
  }

  // Further actions for a patch, set by a page that has any.
  const actions = [];

  function open(patch) {
    const view = JSON.parse(patch.dataset.view);
    const facts = element("dl");
    for (const [name, value] of JSON.parse(patch.dataset.facts)) facts.append(element("dt", name), element("dd", value));
    const buttons = actions.map(([text, act]) => button(text, () => {
      viewer.close();
      act(view);
    }));
    viewer.replaceChildren(
      whole(view, patch.querySelector("img").src), facts, ...buttons, button("Close", () => viewer.close()),
    );
    viewer.showModal();
  }

  document.addEventListener("click", (event) => {
    const patch = event.target.closest("[data-view]");
    if (patch) open(patch);
    else if (event.target === viewer) viewer.close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !event.target.dataset.view) return;
    event.preventDefault(); // Otherwise the key would press the button that then has the focus.
    open(event.target);
  });
  return { draw, actions, element };
})();
