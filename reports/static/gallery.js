/* The gallery: what was asked once per set, and each run's results in the set's order. */

const SIGNS = {
  right: "M6.2 12.6 1.8 8.2l1.7-1.7 2.7 2.7 6.3-6.4 1.7 1.7Z",
  wrong: "m3.9 2.3 4.1 4.1 4.1-4.1 1.6 1.6L9.6 8l4.1 4.1-1.6 1.6L8 9.6l-4.1 4.1-1.6-1.6L6.4 8 2.3 3.9Z",
  part: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm0 2v9a4.5 4.5 0 0 1 0-9Z",
  none: "M2.5 7h11v2h-11Z",
};
const SHOWS = [
  ["all", "all samples", () => true],
  ["right", "every verdict right", (e) => e.done > 0 && e.good === e.done],
  ["any-wrong", "at least one wrong", (e) => e.good < e.done],
  ["wrong", "every verdict wrong", (e) => e.done > 0 && e.good === 0],
  ["failed", "failed or unfinished", (e) => Boolean(e.result.error)],
  ["differ", "the two runs differ", (e) => e.other !== null && differ(e.result, e.other)],
];
const SIZES = [12, 24, 48, 96];
const data = JSON.parse(document.getElementById("gallery-data").textContent);
const root = document.getElementById("gallery-root");
const state = { run: 0, beside: -1, task: "", show: "all", q: "", page: 1, size: 24, boxes: false, open: "" };
const controls = {};
const prepared = new Map();

function picturesOf(sample, result) {
  return sample.given ?? result.images;
}
function verdictsOf(result) {
  const all = result.images ? result.images.map((one) => one.verdict) : [result.verdict];
  return all.map((one) => (one && one.value !== null ? one.value : null));
}
function differ(a, b) {
  const [x, y] = [verdictsOf(a), verdictsOf(b)];
  return x.some((value, i) => value !== null && (y[i] ?? null) !== null && value !== y[i]);
}
/* A run's samples with what is searched in; made when the run is first looked at. */
function entriesOf(number) {
  if (!prepared.has(number)) {
    const run = data.runs[number];
    const found = [];
    data.sets[run.set].samples.forEach((sample, place) => {
      const result = run.results[place];
      if (!result) return;
      const verdicts = verdictsOf(result).filter((value) => value !== null);
      const reasons = (result.images ?? [result]).map((one) => one.verdict?.reason ?? "").join("\n");
      const haystack = `${sample.prompt}\n${result.answer ?? ""}\n${reasons}\n${result.error ?? ""}\n${sample.id}`.toLowerCase();
      found.push({ sample, result, place, haystack, other: null, done: verdicts.length, good: verdicts.filter((value) => value >= 1).length });
    });
    prepared.set(number, found);
  }
  return prepared.get(number);
}
function tasksOf(number) {
  return data.sets[data.runs[number].set].tasks;
}
function neighbours(number) {
  return data.runs.map((_, i) => i).filter((i) => i !== number && data.runs[i].set === data.runs[number].set);
}
function nameOf(number) {
  const run = data.runs[number];
  return run.mark ? `${run.name} (${run.mark})` : run.name;
}

function readAddress() {
  const text = location.hash.slice(1);
  if (!text.includes("=")) return false;
  const given = new URLSearchParams(text);
  const run = Number(given.get("run") ?? 1) - 1;
  state.run = Number.isInteger(run) && data.runs[run] ? run : 0;
  const beside = Number(given.get("beside") ?? 0) - 1;
  state.beside = neighbours(state.run).includes(beside) ? beside : -1;
  const task = given.get("task") ?? "";
  state.task = tasksOf(state.run).some(([key]) => key === task) ? task : "";
  const show = given.get("show") ?? "all";
  state.show = SHOWS.some(([key]) => key === show) && (show !== "differ" || state.beside >= 0) ? show : "all";
  state.q = (given.get("q") ?? "").slice(0, 200);
  state.page = Math.max(1, Math.floor(Number(given.get("page") ?? 1)) || 1);
  state.size = SIZES.includes(Number(given.get("size"))) ? Number(given.get("size")) : 24;
  state.boxes = given.get("boxes") === "1";
  state.open = given.get("open") ?? "";
  return true;
}
function writeAddress() {
  const parts = new URLSearchParams();
  if (state.run) parts.set("run", state.run + 1);
  if (state.beside >= 0) parts.set("beside", state.beside + 1);
  if (state.task) parts.set("task", state.task);
  if (state.show !== "all") parts.set("show", state.show);
  if (state.q) parts.set("q", state.q);
  if (state.page > 1) parts.set("page", state.page);
  if (state.size !== 24) parts.set("size", state.size);
  if (state.boxes) parts.set("boxes", "1");
  if (state.open) parts.set("open", state.open);
  const text = parts.toString();
  try {
    history.replaceState(null, "", text ? `#${text}` : "#gallery");
  } catch {
    /* Some embedding pages forbid it; the filters work all the same. */
  }
}

/* One pass over the run's samples: those that fit, and how many would fit under every other task or kind. */
function matching() {
  const tasks = tasksOf(state.run);
  const words = wordsOf(state.q);
  const fits = SHOWS.find(([key]) => key === state.show)[2];
  const others = state.beside < 0 ? null : data.runs[state.beside].results;
  const found = { all: [], tasks: new Map(), shows: new Map(), anyTask: 0 };
  for (const entry of entriesOf(state.run)) {
    entry.other = others ? others[entry.place] : null;
    if (!words.every((word) => entry.haystack.includes(word))) continue;
    const task = tasks[entry.sample.task][0];
    const right = !state.task || task === state.task;
    if (right) for (const [key, , test] of SHOWS) if (test(entry)) found.shows.set(key, (found.shows.get(key) ?? 0) + 1);
    if (!fits(entry)) continue;
    found.anyTask += 1;
    found.tasks.set(task, (found.tasks.get(task) ?? 0) + 1);
    if (right) found.all.push(entry);
  }
  return found;
}

function change(more, keepPage = false) {
  Object.assign(state, more, { open: "" });
  if (!keepPage) state.page = 1;
  writeAddress();
  render();
}

function chooseRun(number) {
  const same = data.runs[number].set === data.runs[state.run].set;
  const beside = same && state.beside === number ? state.run : state.beside;
  const kept = same && beside >= 0 && beside !== number ? beside : -1;
  change({ run: number, task: same ? state.task : "", beside: kept, show: kept < 0 && state.show === "differ" ? "all" : state.show });
}

function buildToolbar() {
  const on = (name, cast = String) => ({ onchange: (event) => change({ [name]: cast(event.target.value) }) });
  controls.run = make("select", { id: "gallery-run", onchange: (e) => chooseRun(Number(e.target.value)) });
  controls.beside = make("select", { id: "gallery-beside", onchange: (e) => {
    const beside = Number(e.target.value);
    change({ beside, show: beside < 0 && state.show === "differ" ? "all" : state.show });
  } });
  controls.task = make("select", { id: "gallery-task", ...on("task") });
  controls.show = make("select", { id: "gallery-show", ...on("show") });
  controls.size = make("select", { id: "gallery-size", ...on("size", Number) });
  controls.q = search(make("input", { type: "search", id: "gallery-search", maxlength: 200, placeholder: "prompt, reason or id" }), (q) => change({ q }));
  controls.boxes = make("input", { type: "checkbox", id: "gallery-boxes", onchange: (e) => change({ boxes: e.target.checked }, true) });
  controls.found = make("p", { class: "found-count", role: "status" });
  controls.cards = make("div", { class: "cards" });
  controls.besideField = field("Beside it", controls.beside);
  controls.boxesField = make("label", { class: "check" }, controls.boxes, "Boxes on every picture");
  const toolbar = make("div", { class: "toolbar", role: "search", "aria-label": "Gallery" });
  if (data.runs.length > 1) toolbar.append(field("Run", controls.run), controls.besideField);
  toolbar.append(field("Task", controls.task), field("Show", controls.show), field("Search", controls.q, "grow"), field("Per page", controls.size), controls.boxesField);
  controls.top = pager();
  controls.bottom = pager();
  root.append(toolbar, make("div", { class: "found" }, controls.found, controls.top.node), controls.cards, make("div", { class: "found" }, make("span"), controls.bottom.node));
}

function pager() {
  const back = make("button", { type: "button", class: "button", onclick: () => turn(-1) }, "Previous");
  const next = make("button", { type: "button", class: "button", onclick: () => turn(1) }, "Next");
  const where = make("span");
  return { node: make("div", { class: "pager" }, back, where, next), back, next, where };
}
function turn(step) {
  change({ page: state.page + step }, true);
  root.scrollIntoView({ block: "start" });
}

function render() {
  const found = matching();
  const beside = neighbours(state.run);
  const shows = SHOWS.filter(([key]) => key !== "differ" || state.beside >= 0);
  options(controls.run, data.runs.map((run, i) => [i, `${data.sets[run.set].name}: ${nameOf(i)}`]), state.run);
  options(controls.beside, [[-1, "no other run"], ...beside.map((i) => [i, nameOf(i)])], state.beside);
  options(controls.task, [["", `all tasks (${found.anyTask})`], ...tasksOf(state.run).map(([key, text]) => [key, `${text} (${found.tasks.get(key) ?? 0})`])], state.task);
  options(controls.show, shows.map(([key, text]) => [key, `${text} (${found.shows.get(key) ?? 0})`]), state.show);
  options(controls.size, SIZES.map((n) => [n, String(n)]), state.size);
  if (controls.q.value !== state.q) controls.q.value = state.q;
  controls.boxes.checked = state.boxes;
  controls.besideField.hidden = !beside.length;
  controls.boxesField.hidden = !entriesOf(state.run).some(({ result }) => result.images?.some((one) => one.boxes));
  const pages = Math.max(1, Math.ceil(found.all.length / state.size));
  state.page = Math.min(Math.max(state.page, 1), pages);
  const shown = found.all.slice((state.page - 1) * state.size, state.page * state.size);
  controls.found.textContent = `${found.all.length} of ${entriesOf(state.run).length} samples`;
  for (const { back, next, where, node } of [controls.top, controls.bottom]) {
    where.textContent = `page ${state.page} of ${pages}`;
    back.disabled = state.page <= 1;
    next.disabled = state.page >= pages;
    node.hidden = pages === 1;
  }
  controls.cards.classList.toggle("show-boxes", state.boxes);
  controls.cards.replaceChildren(...shown.map(card));
  if (!shown.length) controls.cards.append(make("p", { class: "empty" }, "No sample fits these filters."));
}

function card(entry) {
  const { sample, result, other } = entry;
  const [task, words] = tasksOf(state.run)[sample.task];
  const node = make("article", { class: "card sample", "data-task": task, "data-good": entry.good, "data-done": entry.done });
  const tally = entry.done === 0 ? "no verdict" : entry.done === 1 && !result.images ? "" : `${entry.good} of ${entry.done} right`;
  const meta = make("span", { class: "sample-meta" }, isolated(words), tally && ` · ${tally}`);
  node.append(make("div", { class: "sample-head" }, make("h4", { class: "prompt", dir: "auto" }, sample.prompt), meta));
  if (sample.given?.length) node.append(make("div", { class: "shots" }, ...sample.given.map((_, index) => shot(state.run, entry, index))));
  if (state.beside < 0) return node.append(...outcome(state.run, entry)), node;
  const side = (number, one) => make("div", { class: "side", "data-run": number + 1 }, make("p", { class: "side-name" }, isolated(nameOf(number))), ...outcome(number, one));
  node.append(side(state.run, entry), other ? side(state.beside, { ...entry, result: other }) : make("p", { class: "failure" }, "The other run was not asked this."));
  return node;
}

/* What one run answered to one sample. */
function outcome(number, entry) {
  const { result } = entry;
  const nodes = result.error ? [make("p", { class: "failure" }, `No result: ${result.error}`)] : [];
  if (result.images?.length) nodes.push(make("div", { class: "shots" }, ...result.images.map((_, index) => shot(number, entry, index))));
  if (result.answer !== undefined && !result.error) nodes.push(make("p", { class: "answer", dir: "auto" }, result.answer || "(empty answer)"));
  if (result.verdict) nodes.push(...verdict(result.verdict));
  return nodes;
}

function description({ sample, result }, index) {
  const pictures = picturesOf(sample, result);
  const said = pictures[index].verdict ? `, ${kindOf(pictures[index].verdict)}` : "";
  return `Picture ${index + 1} of ${pictures.length} for: ${sample.prompt}${said}`;
}

function shot(number, entry, index) {
  const picture = picturesOf(entry.sample, entry.result)[index];
  const missed = picture.verdict && picture.verdict.value !== null && picture.verdict.value < 1;
  const frame = make("button", { type: "button", class: missed ? "frame wrong" : "frame", "aria-label": `Enlarge. ${description(entry, index)}`, onclick: () => open(number, entry, index) });
  frame.append(...pictureParts(entry, index, 128));
  return make("div", { class: "shot" }, frame, ...(picture.verdict ? verdict(picture.verdict) : []));
}

function pictureParts(entry, index, pixels) {
  const picture = picturesOf(entry.sample, entry.result)[index];
  const source = data.images[picture.src];
  if (!source) return [make("span", { class: "absent" }, "picture not in this file")];
  const image = make("img", { alt: description(entry, index), src: source, loading: "lazy", decoding: "async", width: pixels, height: pixels });
  image.addEventListener("load", () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 160));
  return picture.boxes && picture.boxes.length ? [image, overlay(picture, pixels)] : [image];
}

function kindOf(given) {
  if (given.value === null) return "no verdict";
  if (given.value >= 1) return "right";
  return given.value <= 0 ? "wrong" : `${given.value.toFixed(2)} of 1`;
}
function verdict(given) {
  const word = kindOf(given);
  const kind = { right: "right", wrong: "wrong", "no verdict": "none" }[word] ?? "part";
  const sign = draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("path", { d: SIGNS[kind] }));
  const nodes = [make("p", { class: `verdict ${kind}` }, sign, word)];
  const reason = [given.reason, ...(given.notes ?? [])].filter(Boolean).join("\n");
  if (reason) nodes.push(make("p", { class: "reason", dir: "auto" }, reason));
  return nodes;
}
