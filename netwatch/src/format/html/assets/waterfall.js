// The bars of connections: from the first packet to the last, with the TCP handshake.

const FLOW = {
  remote: "Remote", service: "Service", direction: "Direction", start: "Start", duration: "Duration", failed: "Failed", handshake: "Handshake", address: "Address",
};

// Replaces the titles by the indices of the columns.
function findFlowColumns(columns) {
  for (const [name, title] of Object.entries(FLOW)) FLOW[name] = columns.find(title);
}

class Waterfall {
  constructor(columns, range) { Object.assign(this, { columns, range }); }

  percent(ns) { return ((ns - this.range.from) / (this.range.to - this.range.from)) * 100; }

  // The axis of time.
  head(cell) {
    const { step, marks } = timeMarks(this.range.from, this.range.to, 4);
    const labels = marks.map((mark) => {
      const label = element("span", {}, timeLabel(mark, step));
      label.style.left = `${Math.min(90, this.percent(mark))}%`;
      return label;
    });
    cell.replaceChildren(element("span", { class: "sr" }, "Timeline"), element("span", { class: "axis", "aria-hidden": "true" }, ...labels));
  }

  cell(row) {
    const of = (column) => this.columns.value(column, row);
    const [start, duration, handshake] = [of(FLOW.start), of(FLOW.duration), of(FLOW.handshake) ?? 0];
    const hasFailed = of(FLOW.failed) != null;
    const kind = hasFailed ? "failed" : of(FLOW.direction) === "in" ? "in" : "out";
    const name = `${units.at(start)}, for ${units.duration(duration)}${handshake ? `, handshake ${units.duration(handshake)}` : ""}${hasFailed ? ", failed" : ""}`;
    const bars = [this.bar(kind, start, start + duration)];
    if (handshake && !hasFailed) bars.push(this.bar("wait", start, start + Math.min(handshake, duration)));
    return element("span", { class: "waterfall", role: "img", "aria-label": name, title: name }, ...bars);
  }

  bar(kind, from, to) {
    const left = Math.min(Math.max(0, this.percent(from)), 99.5);
    const made = element("span", { class: kind });
    made.style.left = `${left}%`;
    made.style.width = `${Math.max(0, Math.min(100, this.percent(to)) - left)}%`;
    return made;
  }
}
