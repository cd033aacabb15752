"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const SIGNS = {
    right: "M6.2 12.6 1.8 8.2l1.7-1.7 2.7 2.7 6.3-6.4 1.7 1.7Z",
    wrong: "m3.9 2.3 4.1 4.1 4.1-4.1 1.6 1.6L9.6 8l4.1 4.1-1.6 1.6L8 9.6l-4.1 4.1-1.6-1.6L6.4 8 2.3 3.9Z",
    none: "M2.5 7h11v2h-11Z",
  };
  const SHOWS = [
    ["all", "all samples", () => true],
    ["right", "every picture right", (s) => s.done > 0 && s.good === s.done],
    ["any-wrong", "at least one wrong", (s) => s.good < s.done],
    ["wrong", "every picture wrong", (s) => s.done > 0 && s.good === 0],
    ["failed", "failed or unfinished", (s) => s.error !== ""],
  ];
  const SIZES = [12, 24, 48, 96];

  /* Texts only ever become text nodes or attribute values: nothing in this file parses markup. */
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

  function sortTables() {
    for (const table of document.querySelectorAll("table.sortable")) {
      const heads = [...table.tHead.rows[0].cells];
      heads.forEach((head, column) => head.querySelector(".sort").addEventListener("click", () => {
        const falling = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", falling ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return falling ? -order : order;
        });
        table.tBodies[0].append(...rows);
      }));
    }
  }

  const data = JSON.parse(document.getElementById("gallery-data").textContent);
  const root = document.getElementById("gallery-root");
  for (const run of data.runs) {
    for (const sample of run.samples) {
      const verdicts = ("verdict" in sample ? [sample.verdict] : sample.images.map((i) => i.verdict)).filter((v) => v && v.value !== null);
      sample.done = verdicts.length;
      sample.good = verdicts.filter((v) => v.value >= 1).length;
      const reasons = verdicts.map((v) => v.reason).join("\n");
      sample.haystack = `${sample.prompt}\n${sample.answer ?? ""}\n${reasons}\n${sample.id}`.toLowerCase();
    }
  }

  const state = { run: 0, task: "", show: "all", q: "", page: 1, size: 24, boxes: false, open: "" };
  const controls = {};

  function readAddress() {
    const text = location.hash.slice(1);
    if (!text.includes("=")) return false;
    const given = new URLSearchParams(text);
    const run = Number(given.get("run") ?? 1) - 1;
    state.run = Number.isInteger(run) && data.runs[run] ? run : 0;
    const task = given.get("task") ?? "";
    state.task = data.runs[state.run].tasks.some(([key]) => key === task) ? task : "";
    const show = given.get("show") ?? "all";
    state.show = SHOWS.some(([key]) => key === show) ? show : "all";
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

  function matching(overrides = {}) {
    const wish = { ...state, ...overrides };
    const run = data.runs[wish.run];
    const words = wish.q.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = SHOWS.find(([key]) => key === wish.show)[2];
    return run.samples.filter((sample) =>
      (!wish.task || run.tasks[sample.task][0] === wish.task) && fits(sample) && words.every((word) => sample.haystack.includes(word)));
  }

  function change(more, keepPage = false) {
    Object.assign(state, more, { open: "" });
    if (!keepPage) state.page = 1;
    writeAddress();
    render();
  }

  function field(text, control, extra = "") {
    return make("label", { class: `field ${extra}` }, text, control);
  }
  function options(select, entries, chosen) {
    select.replaceChildren(...entries.map(([value, text]) => make("option", { value, selected: String(value) === String(chosen) }, text)));
    select.value = chosen;
  }

  function buildToolbar() {
    const on = (name, cast = String) => ({ onchange: (event) => change({ [name]: cast(event.target.value) }) });
    controls.run = make("select", { id: "gallery-run", onchange: (e) => change({ run: Number(e.target.value), task: "" }) });
    controls.task = make("select", { id: "gallery-task", ...on("task") });
    controls.show = make("select", { id: "gallery-show", ...on("show") });
    controls.size = make("select", { id: "gallery-size", ...on("size", Number) });
    controls.q = make("input", { type: "search", id: "gallery-search", maxlength: 200, placeholder: "prompt, reason or id" });
    let waiting = 0;
    controls.q.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => change({ q: controls.q.value }), 120);
    });
    controls.boxes = make("input", { type: "checkbox", id: "gallery-boxes", onchange: (e) => change({ boxes: e.target.checked }, true) });
    controls.found = make("p", { class: "found-count", role: "status" });
    controls.cards = make("div", { class: "cards" });
    const toolbar = make("div", { class: "toolbar", role: "search" });
    if (data.runs.length > 1) toolbar.append(field("Run", controls.run));
    toolbar.append(field("Task", controls.task), field("Show", controls.show), field("Search", controls.q, "grow"), field("Per page", controls.size));
    toolbar.append(make("label", { class: "check" }, controls.boxes, "Boxes on every picture"));
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
    const run = data.runs[state.run];
    const taskWish = (task) => matching({ task }).length;
    options(controls.run, data.runs.map((r, i) => [i, r.mark ? `${r.name} (${r.mark})` : r.name]), state.run);
    options(controls.task, [["", `all tasks (${taskWish("")})`], ...run.tasks.map(([key, text]) => [key, `${text} (${taskWish(key)})`])], state.task);
    options(controls.show, SHOWS.map(([key, text]) => [key, `${text} (${matching({ show: key }).length})`]), state.show);
    options(controls.size, SIZES.map((n) => [n, String(n)]), state.size);
    if (controls.q.value !== state.q) controls.q.value = state.q;
    controls.boxes.checked = state.boxes;
    const found = matching();
    const pages = Math.max(1, Math.ceil(found.length / state.size));
    state.page = Math.min(Math.max(state.page, 1), pages);
    const shown = found.slice((state.page - 1) * state.size, state.page * state.size);
    controls.found.textContent = `${found.length} of ${run.samples.length} samples`;
    for (const { back, next, where, node } of [controls.top, controls.bottom]) {
      where.textContent = `page ${state.page} of ${pages}`;
      back.disabled = state.page <= 1;
      next.disabled = state.page >= pages;
      node.hidden = pages === 1;
    }
    controls.cards.classList.toggle("show-boxes", state.boxes);
    controls.cards.replaceChildren(...shown.map((sample) => card(run, sample)));
    if (!shown.length) controls.cards.append(make("p", { class: "empty" }, "No sample fits these filters."));
  }

  function card(run, sample) {
    const node = make("article", { class: "card sample", "data-task": run.tasks[sample.task][0], "data-good": sample.good, "data-done": sample.done });
    const tally = sample.done ? `${sample.good} of ${sample.done} right` : "no verdict";
    const meta = make("span", { class: "sample-meta" }, isolated(run.tasks[sample.task][1]), ` · ${tally}`);
    node.append(make("div", { class: "sample-head" }, make("h3", { class: "prompt", dir: "auto" }, sample.prompt), meta));
    if (sample.error) node.append(make("p", { class: "failure" }, `No result: ${sample.error}`));
    if (sample.images.length) node.append(make("div", { class: "shots" }, ...sample.images.map((_, index) => shot(run, sample, index))));
    if (sample.answer !== undefined && !sample.error) node.append(make("p", { class: "answer", dir: "auto" }, sample.answer || "(empty answer)"));
    if (sample.verdict) node.append(...verdict(sample.verdict));
    return node;
  }

  function description(sample, index) {
    const picture = sample.images[index];
    const state = picture.verdict ? `, ${kindOf(picture.verdict)}` : "";
    return `Picture ${index + 1} of ${sample.images.length} for: ${sample.prompt}${state}`;
  }

  function shot(run, sample, index) {
    const picture = sample.images[index];
    const missed = picture.verdict && picture.verdict.value !== null && picture.verdict.value < 1;
    const frame = make("button", { type: "button", class: missed ? "frame wrong" : "frame", "aria-label": `Enlarge. ${description(sample, index)}`, onclick: () => open(run, sample, index) });
    frame.append(...pictureParts(sample, index, 128));
    return make("div", { class: "shot" }, frame, ...(picture.verdict ? verdict(picture.verdict) : []));
  }

  function pictureParts(sample, index, pixels) {
    const picture = sample.images[index];
    const source = data.images[picture.src];
    if (!source) return ["picture not in this file"];
    const image = make("img", { alt: description(sample, index), src: source, decoding: "async" });
    image.addEventListener("load", () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) <= 160));
    return picture.boxes && picture.boxes.length ? [image, overlay(picture, pixels)] : [image];
  }

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

  function kindOf(given) {
    if (given.value === null) return "no verdict";
    if (given.value >= 1) return "right";
    return given.value <= 0 ? "wrong" : `${given.value.toFixed(2)} of 1`;
  }
  function verdict(given) {
    const word = kindOf(given);
    const kind = word === "right" ? "right" : word === "no verdict" ? "none" : "wrong";
    const sign = draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("path", { d: SIGNS[kind] }));
    const nodes = [make("p", { class: `verdict ${kind}` }, sign, word)];
    const reason = [given.reason, ...given.notes].filter(Boolean).join("\n");
    if (reason) nodes.push(make("p", { class: "reason", dir: "auto" }, reason));
    return nodes;
  }

  const dialog = make("dialog", { "aria-label": "One picture" });
  let viewing = null;
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
  function openLinked() {
    const cut = state.open.lastIndexOf(".");
    const run = data.runs[state.run];
    const sample = run.samples.find((one) => one.id === state.open.slice(0, cut));
    const index = Number(state.open.slice(cut + 1)) - 1;
    if (sample && sample.images[index]) open(run, sample, index);
  }
  function step(by) {
    const { run, sample, index } = viewing;
    const count = sample.images.length;
    open(run, sample, (index + by + count) % count);
  }

  function open(run, sample, index) {
    viewing = { run, sample, index };
    state.open = `${sample.id}.${index + 1}`;
    writeAddress();
    const picture = sample.images[index];
    const stage = make("div", { class: "stage boxed" }, ...pictureParts(sample, index, 540));
    const text = make("div", { class: "viewer-text" }, make("p", { class: "prompt", dir: "auto" }, sample.prompt));
    text.append(make("p", { class: "sample-meta" }, isolated(run.tasks[sample.task][1]), ` · picture ${index + 1} of ${sample.images.length} · sample `, isolated(sample.id)));
    const given = picture.verdict ?? sample.verdict;
    if (given) text.append(make("div", {}, ...verdict(given)));
    if (picture.boxes) {
      const rows = picture.boxes.map((box) => make("li", {}, isolated(box[5]), make("span", {}, box[4].toFixed(2))));
      text.append(make("div", {}, make("p", { class: "small-head" }, rows.length ? "What the judge saw" : "The judge saw nothing"), make("ul", { class: "seen" }, ...rows)));
    }
    text.append(make("div", {}, make("p", { class: "small-head" }, "What was asked, as data"), make("p", { class: "asked" }, sample.asked)));
    const button = (words, act) => make("button", { type: "button", class: "button", onclick: act }, words);
    const foot = make("div", { class: "viewer-foot" });
    if (sample.images.length > 1) foot.append(button("Previous picture", () => step(-1)), button("Next picture", () => step(1)));
    if (picture.boxes && picture.boxes.length) foot.append(button("Boxes on or off", () => stage.classList.toggle("boxed")));
    foot.append(button("Close", () => dialog.close()));
    text.append(foot);
    dialog.replaceChildren(make("div", { class: "viewer" }, stage, text));
    if (!dialog.open) dialog.showModal();
    foot.lastChild.focus();
  }

  sortTables();
  if (!data.runs.some((run) => run.samples.length)) {
    root.append(make("p", { class: "empty" }, "No sample is stored yet."));
    return;
  }
  const linked = readAddress();
  buildToolbar();
  render();
  if (linked) document.getElementById("gallery").scrollIntoView({ behavior: "instant" });
  openLinked();
  window.addEventListener("hashchange", () => {
    if (!readAddress()) return;
    render();
    openLinked();
  });
})();
