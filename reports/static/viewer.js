/* One picture large, with what the judge saw: boxes over it, or the tree of questions and their answers. */

const dialog = make("dialog", { "aria-label": "One picture" });
let viewing = null;

function overlay(picture, pixels) {
  const unit = Math.max(picture.w, picture.h) / pixels;
  const layer = draw("svg", { class: "overlay", viewBox: `0 0 ${picture.w} ${picture.h}`, "aria-hidden": "true" });
  const taken = [];
  for (const [x0, y0, x1, y1, score, words] of picture.boxes) {
    const place = { x: x0, y: y0, width: Math.max(x1 - x0, 0), height: Math.max(y1 - y0, 0) };
    layer.append(draw("rect", { ...place, class: "halo" }), draw("rect", { ...place, class: "edge" }));
    const size = (pixels > 200 ? 14 : 9.5) * unit;
    const text = pixels > 200 ? `${words} ${score.toFixed(2)}` : words;
    const spot = freeSpot([x0, y0, x1, y1], text.length * size * 0.62, size, picture, taken);
    taken.push(spot);
    layer.append(draw("text", { x: spot.x, y: spot.y + size * 0.82, "font-size": size, "stroke-width": size * 0.22 }, text));
  }
  return layer;
}
/* Labels of near objects must not cover each other: of a few places around the box, take the one with least overlap. */
function freeSpot([x0, y0, x1, y1], width, height, picture, taken) {
  const clamp = (v, most) => Math.min(Math.max(v, 0), Math.max(most, 0));
  const tries = [];
  for (const y of [y0 - height * 1.12, y1 + height * 0.12, (y0 + y1 - height) / 2]) {
    for (const x of [x0, x1 - width, (x0 + x1 - width) / 2]) {
      tries.push({ x: clamp(x, picture.w - width), y: clamp(y, picture.h - height), w: width, h: height });
    }
  }
  const side = (a, b, c, d) => Math.max(0, Math.min(b, d) - Math.max(a, c));
  const cost = (s) => taken.reduce((sum, t) => sum + side(s.x, s.x + s.w, t.x, t.x + t.w) * side(s.y, s.y + s.h, t.y, t.y + t.h), 0);
  return tries.reduce((best, one) => (cost(one) < cost(best) ? one : best));
}

/* Each question stands under its first parent; one whose parents were not all confirmed does not count. */
function questionTree(questions, answers) {
  const place = new Map(questions.map(([id], i) => [id, i]));
  const known = questions.map(([, , , parents]) => parents.filter((id) => place.has(id)).map((id) => place.get(id)));
  const children = questions.map(() => []);
  const tops = [];
  known.forEach((above, i) => (above.length && above[0] !== i ? children[above[0]] : tops).push(i));
  const seen = new Set();
  const branch = (i) => {
    seen.add(i);
    const [, text, category] = questions[i];
    const moot = known[i].some((above) => answers[above] !== 1);
    const kind = answers[i] === 1 ? "right" : "wrong";
    const sign = draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("path", { d: SIGNS[kind] }));
    const word = answers[i] === 1 ? "yes" : answers[i] === 0 ? "no" : String(answers[i]);
    const line = make("p", { class: moot ? "question moot" : "question" }, make("span", { class: `verdict ${kind}` }, sign, word), " ", isolated(text));
    if (category) line.append(" ", make("span", { class: "category" }, isolated(category)));
    if (moot) line.append(" ", make("span", { class: "category" }, "not counted: what it rests on was not confirmed"));
    const below = children[i].filter((one) => !seen.has(one));
    return make("li", {}, line, ...(below.length ? [make("ul", {}, ...below.map(branch))] : []));
  };
  const items = tops.map(branch);
  questions.forEach((_, i) => seen.has(i) || items.push(branch(i))); /* a circle has no top */
  return make("ul", { class: "tree" }, ...items);
}

function stage(number, entry, index, pixels) {
  const node = make("div", { class: "stage boxed" }, ...pictureParts(entry, index, pixels));
  const picture = picturesOf(entry.sample, entry.result)[index];
  const parts = [node];
  if (state.beside >= 0) parts.unshift(make("p", { class: "side-name" }, isolated(nameOf(number))));
  const base = data.runs[number].files;
  if (base && picture.file) parts.push(make("p", { class: "full" }, make("a", { href: `${base}/${picture.file}`, target: "_blank", rel: "noreferrer" }, "Full picture")));
  return make("div", { class: "stage-part" }, ...parts);
}

/* What one run did with one sample, beside its picture. */
function findings(number, entry, index) {
  const picture = picturesOf(entry.sample, entry.result)[index];
  const parts = [];
  if (entry.result.answer !== undefined) parts.push(make("p", { class: "answer", dir: "auto" }, entry.result.answer || "(empty answer)"));
  const given = picture.verdict ?? entry.result.verdict;
  if (given) parts.push(make("div", {}, ...verdict(given)));
  if (picture.boxes) {
    const rows = picture.boxes.map((box) => make("li", {}, isolated(box[5]), make("span", {}, box[4].toFixed(2))));
    parts.push(make("div", {}, make("p", { class: "small-head" }, rows.length ? "What the judge saw" : "The judge saw nothing"), make("ul", { class: "seen" }, ...rows)));
  }
  if (picture.answers) {
    parts.push(make("div", {}, make("p", { class: "small-head" }, "Questions and the judge's answers"), questionTree(entry.sample.questions, picture.answers)));
  }
  if (state.beside >= 0 && parts.length) parts.unshift(make("p", { class: "side-name" }, isolated(nameOf(number))));
  return make("div", { class: "finding" }, ...parts);
}

function open(number, entry, index) {
  viewing = { number, entry, index };
  const { sample } = entry;
  state.open = `${sample.id}.${index + 1}`;
  writeAddress();
  const count = picturesOf(sample, entry.result).length;
  const sides = [[number, entry]];
  if (state.beside >= 0 && entry.other && number === state.run && picturesOf(sample, entry.other)?.[index]) sides.push([state.beside, { ...entry, result: entry.other }]);
  const text = make("div", { class: "viewer-text" }, make("p", { class: "prompt", dir: "auto" }, sample.prompt));
  text.append(make("p", { class: "sample-meta" }, isolated(tasksOf(number)[sample.task][1]), ` · picture ${index + 1} of ${count} · sample `, isolated(sample.id)));
  text.append(make("div", { class: "findings" }, ...sides.map(([run, one]) => findings(run, one, index))));
  text.append(make("div", {}, make("p", { class: "small-head" }, "What was asked, as data"), make("p", { class: "asked" }, sample.asked)));
  const shown = sample.given ? sides.slice(0, 1) : sides;
  const stages = make("div", { class: "stages" }, ...shown.map(([run, one]) => stage(run, one, index, shown.length > 1 ? 400 : 540)));
  const button = (words, act) => make("button", { type: "button", class: "button", onclick: act }, words);
  const foot = make("div", { class: "viewer-foot" });
  if (count > 1) foot.append(button("Previous picture", () => step(-1)), button("Next picture", () => step(1)));
  if (stages.querySelector(".overlay")) foot.append(button("Boxes on or off", () => stages.querySelectorAll(".stage").forEach((one) => one.classList.toggle("boxed"))));
  foot.append(button("Close", () => dialog.close()));
  dialog.replaceChildren(make("div", { class: shown.length > 1 ? "viewer pair" : "viewer" }, stages, make("div", { class: "viewer-side" }, text, foot)));
  if (!dialog.open) dialog.showModal();
  foot.lastChild.focus();
}
function openLinked() {
  const cut = state.open.lastIndexOf(".");
  const entry = entriesOf(state.run).find((one) => one.sample.id === state.open.slice(0, cut));
  const index = Number(state.open.slice(cut + 1)) - 1;
  if (entry && picturesOf(entry.sample, entry.result)?.[index]) open(state.run, entry, index);
}
function step(by) {
  const { number, entry, index } = viewing;
  const count = picturesOf(entry.sample, entry.result).length;
  open(number, entry, (index + by + count) % count);
}
function buildViewer() {
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  dialog.addEventListener("close", () => {
    state.open = "";
    writeAddress();
  });
}
