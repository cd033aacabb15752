const SVG = "http://www.w3.org/2000/svg";

/* Texts only ever become text nodes or attribute values: nothing in these files parses markup. */
function make(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}
function draw(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}
function isolated(text) {
  return make("bdi", {}, text);
}
function field(text, control, extra = "") {
  return make("label", { class: `field ${extra}` }, text, control);
}
function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => make("option", { value, selected: String(value) === String(chosen) }, text)));
  select.value = chosen;
}
/* Calls back when typing has paused. */
function search(control, then) {
  let waiting = 0;
  control.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => then(control.value), 120);
  });
  return control;
}
function wordsOf(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean);
}
