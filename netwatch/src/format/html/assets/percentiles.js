// Percentiles of times over time, as bands: of each interval, or of the flows if there are none.

const PERCENTILES = [["p50", 50, "out"], ["p90", 90, "in"], ["p99", 99, "received"]];
const BUCKETS = 48;

// The smallest value that so many percent do not exceed (nearest rank).
const percentile = (sorted, percent) => sorted[Math.max(1, Math.ceil((sorted.length * percent) / 100)) - 1];

// Middles of buckets of a range of time, and the percentiles of each; null for empty ones.
function percentilesOver(columns, measure, { from, to }) {
  const start = columns.find("Start");
  const buckets = Array.from({ length: BUCKETS }, () => []);
  const width = (to - from) / BUCKETS;
  for (let row = 0; row < columns.data.length; row += 1) {
    const [at, value] = [columns.value(start, row), columns.value(measure, row)];
    if (value > 0 && at >= from && at <= to) buckets[Math.min(BUCKETS - 1, Math.floor((at - from) / width))].push(value);
  }
  buckets.forEach((bucket) => bucket.sort((a, b) => a - b));
  const times = buckets.map((_, at) => from + (at + 0.5) * width);
  return [times, ...PERCENTILES.map(([, percent]) => buckets.map((bucket) => (bucket.length > 0 ? percentile(bucket, percent) : null)))];
}

// The same for the intervals with measurements.
function percentilesOfIntervals(intervals, measure) {
  const columns = PERCENTILES.map(([name]) => intervals.find(`${measure} ${name}`));
  const rows = [...Array(intervals.data.length).keys()].filter((row) => intervals.value(columns[0], row) != null);
  const times = rows.map((row) => intervals.value(0, row) + intervals.value(1, row) / 2);
  return [times, ...columns.map((column) => rows.map((row) => intervals.value(column, row)))];
}

class LatencyPlot {
  // One of both may be missing.
  constructor(flows, intervals, range) {
    Object.assign(this, { flows, intervals, range });
    this.figure = document.getElementById("plot-latency");
    this.nothing = document.getElementById("no-latency");
    this.select = document.getElementById("measure");
    this.select.addEventListener("change", () => this.build());
    this.redraw = eachFrame(() => this.build());
    range.onChange(this.redraw);
    addEventListener("resize", this.redraw);
  }

  // Of the intervals of an endpoint, or of the whole run.
  show(intervals) {
    this.intervals = new Columns(intervals);
    this.build();
  }

  print(isPrinting) {
    this.isPrinting = isPrinting;
    this.build();
  }

  data(measure) {
    if (this.intervals) return percentilesOfIntervals(this.intervals, measure);
    const column = this.flows.find(measure);
    return column < 0 ? [[]] : percentilesOver(this.flows, column, this.range);
  }

  build() {
    this.plot?.destroy();
    const data = this.data(this.select.value);
    const values = data.slice(1).flat().filter((value) => value != null);
    this.figure.hidden = values.length === 0;
    this.nothing.hidden = values.length > 0;
    if (values.length === 0) return;
    const [least, most] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, 0]);
    this.plot = new uPlot(this.options(least, most), data, this.figure);
    const canvas = this.plot.root.querySelector("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Percentiles over time, from ${units.duration(least)} to ${units.duration(most)}. The distribution is in the table below.`);
  }

  options(least, most) {
    const unit = (value) => units.duration(value).replace(/\.0+(?=\D|$)/, "");
    const bounds = [10 ** Math.floor(Math.log10(least)), 10 ** Math.ceil(Math.log10(most) + 1e-9)];
    const decades = [];
    for (let value = bounds[0]; value <= bounds[1] * 1.001; value *= 10) decades.push(value);
    return {
      ...chartSize(this.figure, this.isPrinting),
      scales: { x: { time: false, range: () => [this.range.from, this.range.to] }, y: { distr: 3, range: () => bounds } },
      axes: [timeAxis(this.range), { ...axisStyle(), size: 74, splits: () => decades, values: (_plot, splits) => splits.map(unit) }],
      series: [
        { label: "Time", value: (_plot, at) => (at == null ? "–" : units.at(at)) },
        ...PERCENTILES.map(([label, , name]) => ({
          label, stroke: color(name), width: 1.5, spanGaps: true, points: { show: true, size: 5, fill: color(name) }, value: (_plot, value) => (value == null ? "–" : units.duration(value)),
        })),
      ],
      bands: [{ series: [2, 1], fill: color("in-soft") }, { series: [3, 2], fill: color("received-soft") }],
      legend: { live: true },
      cursor: { drag: { setScale: false, x: true, y: false }, bind: { dblclick: () => () => { this.range.whole(); return null; } } },
      hooks: { setSelect: [(plot) => selectRange(plot, this.range)] },
    };
  }
}
