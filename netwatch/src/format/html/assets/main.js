// Sets up the page: tables replace their static HTML, and charts are drawn.

const data = JSON.parse(document.getElementById("data").textContent);
const range = new Range(data.length_ns);
units.isShort = data.length_ns < 1e9;
const tables = {};
const dataOf = (id) => data.tables.find((named) => named.id === id);

// The bars of the connections follow the range of time.
function tableOf(id, table, caption) {
  if (id !== "flows") return new DataTable(document.getElementById(id), table, caption);
  const columns = new Columns(table);
  findFlowColumns(columns);
  return new DataTable(document.getElementById(id), table, caption, new Waterfall(columns, range));
}

for (const { id, caption, table } of data.tables) {
  if (document.getElementById(id)) tables[id] = tableOf(id, table, caption);
}

document.querySelectorAll(".needs-script").forEach((note) => { note.hidden = true; });
document.querySelectorAll(".with-script").forEach((part) => { part.hidden = false; });
document.querySelectorAll(".tabs").forEach((root) => new Tabs(root));

const drawn = [];
const intervals = dataOf("intervals")?.table;
if (intervals?.length > 0) drawn.push(new Plots(intervals, range));

if (tables.flows) {
  const { flows } = tables;
  flows.onDrop = (name) => { if (name === "range") range.whole(); };
  range.onChange(eachFrame(() => {
    const { from, to } = range;
    const isIn = (flow) => flows.value(FLOW.start, flow) <= to && flows.value(FLOW.start, flow) + flows.value(FLOW.duration, flow) >= from;
    flows.filter("range", range.isWhole ? null : isIn, `${units.at(from)} to ${units.at(to)}`);
  }));
  const show = (test, name) => {
    flows.filter("row", test, name);
    document.getElementById("connections").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    flows.search.focus({ preventScroll: true });
  };
  const of = (column, flow) => flows.value(FLOW[column], flow);
  // A host is a name, or addresses without one.
  const { "hosts-table": hosts, "services-table": services } = tables;
  if (hosts) hosts.onShow = (row) => {
    const name = hosts.value(0, row);
    const addresses = new Set(hosts.parts.of(row).map((part) => hosts.parts.columns.value(0, part)));
    const isOf = (flow) => of("remote", flow) === name || (addresses.has(of("address", flow)) && of("remote", flow) === of("address", flow));
    show((flow) => of("direction", flow) === "out" && isOf(flow), name);
  };
  if (services) services.onShow = (row) => {
    const name = services.value(0, row);
    show((flow) => of("direction", flow) === "in" && of("service", flow) === name, name);
  };
}

if (tables.flows || intervals?.length > 0) {
  drawn.push(new LatencyPlot(tables.flows?.columns, intervals?.length > 0 && new Columns(intervals), range));
} else {
  document.getElementById("latency").querySelector(".with-script").hidden = true;
}

// The charts of an endpoint, or of the whole run.
const chartsOf = document.getElementById("charts-of");
chartsOf?.addEventListener("change", () => {
  const shown = chartsOf.value ? intervalsOf(dataOf("endpoint-intervals").table, chartsOf.value) : intervals;
  drawn.forEach((chart) => chart.show(shown));
});

// The range of time.
const rangeLabel = document.getElementById("range");
const showRange = () => { rangeLabel.textContent = `${units.at(range.from)} to ${units.at(range.to)}`; };
range.onChange(showRange);
showRange();
const moves = { earlier: () => range.move(-0.25), later: () => range.move(0.25), in: () => range.zoom(0.5), out: () => range.zoom(2), whole: () => range.whole() };
document.querySelectorAll("[data-range]").forEach((button) => button.addEventListener("click", () => moves[button.dataset.range]()));

addEventListener("keydown", (event) => { if (event.key === "Escape" && !range.isWhole) range.whole(); });

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

// A link to the diagnostics opens them.
function openTarget() {
  const folded = location.hash === "#diagnostics" && document.querySelector("#diagnostics details.folded");
  if (folded) folded.open = true;
}
addEventListener("hashchange", openTarget);
openTarget();
