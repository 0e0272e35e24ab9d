// Panels over the same image, zoomed and moved together. All text is set as text, never as markup.
const SVG = "http://www.w3.org/2000/svg";

function made(kind, attributes, parent) {
  const element = document.createElementNS(SVG, kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (parent) parent.appendChild(element);
  return element;
}

// What is seen stands in the address, as left, top and size in shares of the image, so that a link shows the same.
function fromAddress(width, height) {
  const given = (new URLSearchParams(window.location.search).get("zoom") || "").split(",").map(Number);
  if (given.length !== 3 || !given.every((number) => Number.isFinite(number) && number >= 0 && number <= 1)) return {};
  return { x: given[0] * width, y: given[1] * height, size: given[2] };
}

// Written some time after it was seen: by then another page may be open, whose address is none of ours.
function toAddress(page, view, width, height) {
  if (window.location.pathname !== page) return;
  const address = new URL(window.location.href);
  const text = [view.x / width, view.y / height, view.size].map((number) => Number(number.toFixed(4))).join(",");
  if (view.size < 1) address.searchParams.set("zoom", text);
  else address.searchParams.delete("zoom");
  if (address.href !== window.location.href) window.history.replaceState(window.history.state, "", address);
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".viewer");
  root.replaceChildren();
  const { width, height, image, panels } = data;
  const whole = { of: data.name, x: 0, y: 0, size: 1 };
  if (!root.view) root.view = { ...whole, ...fromAddress(width, height) };
  else if (root.view.of !== data.name) root.view = whole;
  const drawings = [];

  const show = () => {
    const view = root.view;
    view.size = Math.min(1, Math.max(1 / 64, view.size));
    view.x = Math.min(width * (1 - view.size), Math.max(0, view.x));
    view.y = Math.min(height * (1 - view.size), Math.max(0, view.y));
    const box = [view.x, view.y, width * view.size, height * view.size].map((at) => Number(at.toFixed(2))).join(" ");
    for (const drawing of drawings) drawing.setAttribute("viewBox", box);
    clearTimeout(root.writing);
    root.writing = setTimeout(toAddress, 250, window.location.pathname, view, width, height);
  };
  const zoom = (factor, atX, atY) => {
    const view = root.view;
    const before = view.size;
    view.size = Math.min(1, Math.max(1 / 64, before * factor));
    view.x += atX * width * (before - view.size);
    view.y += atY * height * (before - view.size);
    show();
  };

  for (const panel of panels) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = panel.title;
    const counts = document.createElement("small");
    counts.textContent = panel.counts;
    caption.appendChild(counts);
    figure.appendChild(caption);
    const drawing = made("svg", { role: "img", tabindex: "0", "aria-label": `${panel.title}: ${panel.counts}` });
    drawing.style.aspectRatio = `${width} / ${height}`;
    made("image", { href: image, width, height, style: "image-rendering: pixelated" }, drawing);
    const outlines = made("g", { class: "outlines" }, drawing);
    for (const layer of panel.layers) {
      const group = made(
        "g",
        { stroke: layer.colour, "stroke-width": layer.stroke, "stroke-dasharray": layer.dashes, fill: layer.colour },
        outlines
      );
      for (const [path, label] of layer.paths) {
        const outline = made("path", { d: path, "vector-effect": "non-scaling-stroke" }, group);
        made("title", {}, outline).textContent = label;
      }
    }
    drawings.push(drawing);
    figure.appendChild(drawing);
    root.appendChild(figure);

    drawing.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey && root.view.size === 1 && event.deltaY > 0) return; // let the page scroll
      event.preventDefault();
      const box = drawing.getBoundingClientRect();
      zoom(Math.exp(event.deltaY / 400), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }, { passive: false });
    let from = null;
    drawing.addEventListener("pointerdown", (event) => {
      from = [event.clientX, event.clientY];
      drawing.setPointerCapture(event.pointerId);
    });
    drawing.addEventListener("pointermove", (event) => {
      if (!from) return;
      const box = drawing.getBoundingClientRect();
      root.view.x -= ((event.clientX - from[0]) / box.width) * width * root.view.size;
      root.view.y -= ((event.clientY - from[1]) / box.height) * height * root.view.size;
      from = [event.clientX, event.clientY];
      show();
    });
    drawing.addEventListener("pointerup", () => { from = null; });
    drawing.addEventListener("dblclick", () => { Object.assign(root.view, { x: 0, y: 0, size: 1 }); show(); });
    drawing.addEventListener("keydown", (event) => {
      const step = 0.15 * root.view.size;
      const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      if (event.key in moves) {
        root.view.x += moves[event.key][0] * step * width;
        root.view.y += moves[event.key][1] * step * height;
        show();
      } else if (event.key === "+" || event.key === "=") zoom(0.7, 0.5, 0.5);
      else if (event.key === "-") zoom(1 / 0.7, 0.5, 0.5);
      else if (event.key === "0") { Object.assign(root.view, { x: 0, y: 0, size: 1 }); show(); }
      else if (event.key === "o") root.classList.toggle("bare");
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }
  show();
}
