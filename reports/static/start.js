boards();
if (data.runs.some((run) => run.results.length)) {
  const linked = readAddress();
  buildViewer();
  buildToolbar();
  render();
  if (linked) document.getElementById("gallery").scrollIntoView({ behavior: "instant" });
  openLinked();
  window.addEventListener("hashchange", () => {
    if (!readAddress()) return;
    render();
    openLinked();
  });
} else {
  root.append(make("p", { class: "empty" }, "No sample is stored yet."));
}
