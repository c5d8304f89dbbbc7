// Sets up the page: tables replace their static HTML, and charts are drawn.

const data = JSON.parse(document.getElementById("data").textContent);
const range = new Range(data.length_ns);
units.isShort = data.length_ns < 1e9;
const tables = {};
const dataOf = (id) => data.tables.find((named) => named.id === id);

for (const { id, caption, table } of data.tables) {
  const root = document.getElementById(id);
  if (root) tables[id] = new DataTable(root, table, caption);
}

document.querySelectorAll(".needs-script").forEach((note) => { note.hidden = true; });
document.querySelectorAll(".with-script").forEach((part) => { part.hidden = false; });

const drawn = [];
const intervals = dataOf("intervals")?.table;
if (intervals?.length > 0) {
  const plots = new Plots(intervals, range);
  drawn.push(plots);
}

if (tables.flows) {
  const flows = tables.flows;
  findFlowColumns(flows.data.columns);
  const choose = (row) => {
    const chosen = new Set(row.flows);
    flows.filter("row", (flow) => chosen.has(flow), row.name);
    document.getElementById("all-flows").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    flows.search.focus({ preventScroll: true });
  };
  const timeline = new Timeline(document.getElementById("timeline"), flows, range, choose);
  document.getElementById("group").addEventListener("change", (event) => timeline.group(event.target.value));
  drawn.push(timeline);
  flows.onDrop = (name) => { if (name === "range") range.whole(); };
  range.onChange(eachFrame(() => {
    const { from, to } = range;
    const isIn = (flow) => flows.value(FLOW.start, flow) <= to && flows.value(FLOW.start, flow) + flows.value(FLOW.duration, flow) >= from;
    flows.filter("range", range.isWhole ? null : isIn, `${units.at(from)} to ${units.at(to)}`);
  }));
}

// The range of time.
const rangeLabel = document.getElementById("range");
const showRange = () => { rangeLabel.textContent = `${units.at(range.from)} to ${units.at(range.to)}`; };
range.onChange(showRange);
showRange();
const moves = { earlier: () => range.move(-0.25), later: () => range.move(0.25), in: () => range.zoom(0.5), out: () => range.zoom(2), whole: () => range.whole() };
document.querySelectorAll("[data-range]").forEach((button) => button.addEventListener("click", () => moves[button.dataset.range]()));

// The theme of the system, until the button is used. Storage may be denied to a page from a file.
const memory = {
  get() { try { return localStorage.getItem("netwatch-theme"); } catch { return null; } },
  set(theme) { try { localStorage.setItem("netwatch-theme", theme); } catch { /* not stored */ } },
};
const system = matchMedia("(prefers-color-scheme: dark)");
const themeButton = document.getElementById("theme");
let theme = memory.get();
function show(shown, isPrinting = false) {
  document.documentElement.dataset.theme = shown;
  themeButton.textContent = shown === "dark" ? "Light" : "Dark";
  themeButton.setAttribute("aria-label", `Switch to the ${shown === "dark" ? "light" : "dark"} theme`);
  drawn.forEach((chart) => chart.print(isPrinting));
}
const wanted = () => theme ?? (system.matches ? "dark" : "light");
themeButton.hidden = false;
themeButton.addEventListener("click", () => { theme = wanted() === "dark" ? "light" : "dark"; memory.set(theme); show(theme); });
system.addEventListener("change", () => show(wanted()));
show(wanted());

// Printed pages are light.
addEventListener("beforeprint", () => show("light", true));
addEventListener("afterprint", () => show(wanted()));

// The menu highlights the current section.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) links.forEach((link, id) => link.toggleAttribute("aria-current", id === target.id));
  }
}, { rootMargin: "-20% 0px -70% 0px" });
links.forEach((_, id) => { const section = document.getElementById(id); if (section) watcher.observe(section); });
