// Charts over time (uPlot), with a shared range and cursor. Failed attempts and lost observations
// are marked in each.

// What the pictures show. Those of the command are the same whatever endpoint is selected.
const PLOTS = [
  { id: "plot-bytes", name: "Throughput", unit: (value) => `${units.bytes(value)}/s`, per: 1e9, lines: [["Sent", 2, "sent"], ["Received", 3, "received"]] },
  { id: "plot-packets", name: "Packets", unit: (value) => `${units.short(value)}/s`, per: 1e9, lines: [["Packets sent", 4, "sent"], ["Packets received", 5, "received"]] },
  { id: "plot-flows", name: "Flows", unit: units.short, per: 0, lines: [["opened", 6, "in"], ["active", 7, "out"], ["connections open", 8, "received", true]] },
  { id: "plot-cpu", name: "CPU", isOfCommand: true, unit: units.cores, per: 1, least: 0.001, lines: [["CPU", 12, "sent"]] },
  { id: "plot-memory", name: "Memory", isOfCommand: true, unit: units.bytes, per: 0, lines: [["Memory", 13, "in", true]] },
];

// What is marked in each chart, by the number of its column.
const MARKS = [[9, "bad"], [11, "warn"]];

// Width of A4 landscape without margins, CSS pixels.
const PAPER_WIDTH = 980;

// 1, 2 and 5 times every power of ten from the least step of an axis on.
const increments = (least = 1) => Array.from({ length: 19 }, (_, power) => [1, 2, 5].map((digit) => Number((digit * least * 10 ** power).toPrecision(1)))).flat();

// Intervals as lines: a value holds until the end of its interval. Between intervals nothing
// happened: a level stays, and anything else is 0. Where nothing was measured, the line has a gap.
function stepped(intervals, column, per, isLevel) {
  const [starts, lengths] = [intervals.values[0], intervals.values[1]];
  const isMeasured = intervals.values[column].every((value) => value != null);
  const values = [];
  let [end, level] = [0, isMeasured ? 0 : null];
  for (let row = 0; row < intervals.length; row += 1) {
    if (starts[row] > end) values.push(isLevel ? level : 0);
    const value = intervals.values[column][row];
    values.push(value == null ? null : value * (per ? per / Math.max(1, lengths[row]) : 1));
    level = value;
    end = starts[row] + lengths[row];
  }
  return values.concat(isLevel ? level : 0);
}

// A line from top to bottom at each interval in which something failed or was lost.
function drawMarks(plot, intervals) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  for (const [column, name] of MARKS) {
    ctx.fillStyle = color(name);
    for (let row = 0; row < intervals.length; row += 1) {
      if (!intervals.values[column][row]) continue;
      const at = plot.valToPos(intervals.values[0][row] + intervals.values[1][row] / 2, "x", true);
      ctx.fillRect(Math.round(at), bbox.top, 1, bbox.height);
      ctx.fillRect(Math.round(at) - 2, bbox.top, 5, 5);
    }
  }
  ctx.restore();
}

// The intervals of an endpoint, out of those of all of them.
function intervalsOf(table, endpoint) {
  const columns = new Columns(table);
  const rows = [...Array(table.length).keys()].filter((row) => columns.value(table.columns.length - 1, row) === endpoint);
  return { ...table, length: rows.length, values: table.columns.map((_, column) => rows.map((row) => columns.value(column, row))) };
}

function edges(intervals) {
  const [starts, lengths] = [intervals.values[0], intervals.values[1]];
  const times = [];
  let end = 0;
  for (let row = 0; row < intervals.length; row += 1) {
    if (starts[row] > end) times.push(end);
    times.push(starts[row]);
    end = starts[row] + lengths[row];
  }
  return times.concat(end);
}

function axisStyle() {
  return { stroke: color("muted"), font: "12px system-ui, sans-serif", grid: { stroke: color("line"), width: 1 }, ticks: { show: false } };
}

// The axis of time of a chart that shows a range.
function timeAxis(range) {
  const marks = (plot) => timeMarks(range.from, range.to, Math.max(2, plot.width / 110));
  return {
    ...axisStyle(), size: 26, gap: 6, space: 90, splits: (plot) => marks(plot).marks,
    values: (plot, splits) => splits.map((split) => timeLabel(split, marks(plot).step)),
  };
}

// On paper, what fits on it: the window's width is not the paper's.
function chartSize(figure, isPrinting) {
  return isPrinting ? { width: PAPER_WIDTH, height: 120 } : { width: Math.max(200, figure.clientWidth), height: 170 };
}

// A range that was dragged over a chart.
function selectRange(plot, range) {
  const { left, width } = plot.select;
  if (width < 4) return;
  const [from, to] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  range.set(from, to);
}

class Plots {
  constructor(whole, range) {
    this.range = range;
    this.whole = whole;
    this.intervals = whole;
    this.drawn = [];
    this.build();
    range.onChange(() => this.follow());
    addEventListener("resize", eachFrame(() => this.drawn.forEach((plot) => plot.setSize(chartSize(plot.root.parentElement)))));
  }

  // Of an endpoint, or of the whole run.
  show(intervals) {
    this.intervals = intervals;
    this.build();
  }

  print(isPrinting) {
    this.isPrinting = isPrinting;
    this.build();
  }

  // Anew, since colors are of the theme.
  build() {
    this.drawn.forEach((plot) => plot.destroy());
    this.drawn = PLOTS.filter(({ id }) => document.getElementById(id)).map((plot) => this.plot(plot, plot.isOfCommand ? this.whole : this.intervals));
    this.follow();
  }

  plot({ id, name, unit, per, least, lines }, intervals) {
    const figure = document.getElementById(id);
    const shown = lines.filter(([, column]) => intervals === this.whole || intervals.values[column].some((value) => value != null));
    const data = [edges(intervals), ...shown.map(([, column, , isLevel]) => stepped(intervals, column, per, isLevel))];
    const most = shown.map(([line], at) => `${line} at most ${unit(data[at + 1].reduce((a, b) => Math.max(a, b), 0))}`);
    const made = new uPlot(this.options(figure, { unit, least, lines: shown, intervals }), data, figure);
    made.root.querySelector("canvas").setAttribute("role", "img");
    made.root.querySelector("canvas").setAttribute("aria-label", `${name} over time. ${most.join(", ")}. The numbers are in the table below the pictures.`);
    return made;
  }

  options(figure, { unit, least, lines, intervals }) {
    return {
      ...chartSize(figure, this.isPrinting),
      scales: { x: { time: false, range: () => [this.range.from, this.range.to] }, y: { range: (_plot, _least, most) => [0, (most || 1) * 1.08] } },
      axes: [
        timeAxis(this.range),
        { ...axisStyle(), size: 74, space: 32, incrs: increments(least), values: (_plot, splits) => splits.map((split) => unit(split).replace(/\.0+(?=\D|$)/, "").replace(/(\.\d)0(?=\D|$)/, "$1")) },
      ],
      series: [
        { label: "Time", value: (_plot, at) => (at == null ? "–" : units.at(at)) },
        ...lines.map(([label, , name]) => ({
          label, stroke: color(name), fill: color(`${name}-soft`), width: 1.5, points: { show: false },
          paths: uPlot.paths.stepped({ align: 1 }), value: (_plot, value) => (value == null ? "–" : unit(value)),
        })),
      ],
      legend: { live: true },
      cursor: { sync: { key: "netwatch" }, drag: { setScale: false, x: true, y: false }, bind: { dblclick: () => () => { this.range.whole(); return null; } } },
      hooks: { setSelect: [(plot) => selectRange(plot, this.range)], draw: [(plot) => drawMarks(plot, intervals)] },
    };
  }

  follow() { this.drawn.forEach((plot) => plot.setScale("x", { min: this.range.from, max: this.range.to })); }
}
