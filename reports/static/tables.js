/* Leaderboards: sorted by any column, filtered by words, with the columns that the reader chooses. */

function headsOf(table) {
  return [...table.tHead.rows[table.tHead.rows.length - 1].cells];
}

function sortable(table) {
  const heads = headsOf(table);
  heads.forEach((head, column) => head.querySelector(".sort").addEventListener("click", () => {
    const numbers = !head.classList.contains("text");
    const before = head.getAttribute("aria-sort");
    const falling = numbers ? before !== "descending" : before === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const key = (row) => (numbers ? row.cells[column].dataset.value : row.cells[column].querySelector("bdi").textContent);
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); /* what is missing stands last */
      const order = numbers ? x - y : x.localeCompare(y);
      return falling ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}

function choosable(table) {
  const heads = headsOf(table);
  const groups = table.tHead.rows.length > 1 ? [...table.tHead.rows[0].cells] : [];
  const show = (column, wanted) => {
    heads[column].hidden = !wanted;
    for (const row of table.tBodies[0].rows) row.cells[column].hidden = !wanted;
    let from = 0;
    for (const group of groups) {
      const span = Number(group.dataset.span ??= group.colSpan);
      const shown = heads.slice(from, from + span).filter((head) => !head.hidden).length;
      group.hidden = shown === 0;
      group.colSpan = Math.max(shown, 1);
      from += span;
    }
  };
  const boxes = heads.slice(1).map((head, i) => {
    const box = make("input", { type: "checkbox", checked: true, onchange: () => show(i + 1, box.checked) });
    return { box, line: make("label", { class: "check" }, box, head.textContent.trim()) };
  });
  const all = (wanted) => boxes.forEach(({ box }, i) => {
    box.checked = wanted || i === 0;
    show(i + 1, box.checked);
  });
  const button = (words, act) => make("button", { type: "button", class: "button", onclick: act }, words);
  const chooser = make("details", { class: "chooser" },
    make("summary", { class: "button" }, "Columns"),
    make("div", { class: "chooser-body" }, make("div", { class: "chooser-all" }, button("All", () => all(true)), button("First only", () => all(false))), ...boxes.map(({ line }) => line)));
  chooser.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !chooser.open) return;
    chooser.open = false;
    chooser.querySelector("summary").focus();
  });
  table.closest(".table-card").prepend(chooser);
}

function filterable(tables) {
  const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
  const root = document.getElementById("board-tools");
  if (rows.length < 2) return;
  const box = make("input", { type: "search", id: "board-filter", maxlength: 200, placeholder: "model, seed or setting" });
  const count = make("p", { class: "board-count", role: "status" });
  const apply = (text) => {
    const words = wordsOf(text);
    let shown = 0;
    for (const row of rows) {
      const found = row.cells[0].textContent.toLowerCase();
      row.hidden = !words.every((word) => found.includes(word));
      shown += !row.hidden;
    }
    for (const table of tables) table.closest(".table-card").classList.toggle("nothing", [...table.tBodies[0].rows].every((row) => row.hidden));
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  };
  search(box, apply);
  root.append(count, field("Filter rows", box));
}

function boards() {
  const tables = [...document.querySelectorAll("table.board")];
  for (const table of tables) {
    if (table.classList.contains("sortable")) sortable(table);
    if (headsOf(table).length > 2) choosable(table);
  }
  filterable(tables);
}
