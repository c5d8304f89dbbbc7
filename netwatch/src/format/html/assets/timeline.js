// Connections over time: a row per endpoint (or program, or service), a bar per flow.

const AXIS_HEIGHT = 26;

class Timeline {
  constructor(root, table, range, choose) {
    Object.assign(this, { root, table, range, choose, by: "endpoint" });
    this.labels = element("div", { class: "labels" });
    this.canvas = element("canvas", { role: "img", tabindex: "0" });
    this.tip = element("div", { class: "tip", hidden: true });
    this.stage = element("div", { class: "stage" }, this.canvas, this.tip);
    root.replaceChildren(this.labels, this.stage);
    this.redraw = eachFrame(() => this.draw());
    this.listen();
    this.group("endpoint");
    range.onChange(this.redraw);
    new ResizeObserver(this.redraw).observe(this.stage);
  }

  group(by) {
    this.by = by;
    this.rows = timelineRows(this.table, by);
    let top = AXIS_HEIGHT;
    for (const row of this.rows) { row.top = top; top += row.height; }
    this.height = top;
    this.labels.replaceChildren(...this.rows.map((row) => this.label(row)));
    this.canvas.setAttribute("aria-label", `${units.count(this.table.data.length)} flows over time in ${this.rows.length} rows by ${by}. Arrow keys move, plus and minus zoom, Escape shows the whole run. The table of flows has the same data.`);
    this.redraw();
  }

  label(row) {
    const note = `${units.count(row.flows.length)} ${row.flows.length === 1 ? "flow" : "flows"}, ${units.bytes(row.bytes)}`;
    const button = element("button", { type: "button", title: `${row.name}: ${note}`, onclick: () => this.choose(row) },
      element("span", { class: "name" }, row.name), element("span", { class: "note" }, note));
    button.style.height = `${row.height}px`;
    return button;
  }

  // Draws immediately, because printing does not wait for a frame.
  print(isPrinting) {
    this.isPrinting = isPrinting;
    this.draw();
  }

  x(ns) { return ((ns - this.range.from) / (this.range.to - this.range.from)) * this.width; }

  ns(x) { return this.range.from + (x / this.width) * (this.range.to - this.range.from); }

  draw() {
    const ratio = Math.min(2, devicePixelRatio || 1);
    this.width = this.isPrinting ? PAPER_WIDTH - 320 : Math.max(100, this.stage.clientWidth);
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    this.canvas.style.height = `${this.height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    this.colors = { out: color("out"), in: color("in"), failed: color("bad"), line: color("line"), muted: color("muted"), stripe: color("stripe"), chosen: color("out-soft") };
    this.drawGrid(pen);
    this.rows.forEach((row) => this.drawRow(pen, row));
    if (this.drag) this.drawDrag(pen);
  }

  drawGrid(pen) {
    this.rows.forEach((row, at) => {
      pen.fillStyle = this.colors.stripe;
      if (at % 2 === 0) pen.fillRect(0, row.top, this.width, row.height);
    });
    const { step, marks } = timeMarks(this.range.from, this.range.to, Math.max(2, this.width / 110));
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const mark of marks) {
      const x = Math.round(this.x(mark)) + 0.5;
      pen.strokeStyle = this.colors.line;
      pen.beginPath();
      pen.moveTo(x, AXIS_HEIGHT - 6);
      pen.lineTo(x, this.height);
      pen.stroke();
      pen.fillStyle = this.colors.muted;
      const label = timeLabel(mark, step);
      const width = pen.measureText(label).width;
      pen.fillText(label, Math.min(Math.max(0, x - width / 2), this.width - width), 10);
    }
  }

  // Position of the bar of a flow; null if it is out of range.
  place(row, at) {
    const flow = row.flows[at];
    const start = this.table.value(FLOW.start, flow);
    const end = start + this.table.value(FLOW.duration, flow);
    if (end < this.range.from || start > this.range.to) return null;
    const [left, right] = [Math.max(-2, this.x(start)), Math.min(this.width + 2, this.x(end))];
    return { flow, left, width: Math.max(2.5, right - left), top: row.top + 5 + row.lanes[at] * row.laneHeight, height: row.laneHeight - 1.5 };
  }

  drawRow(pen, row) {
    for (let at = 0; at < row.flows.length; at += 1) {
      const place = this.place(row, at);
      if (!place) continue;
      const { flow, left, width, top, height } = place;
      if (this.table.value(FLOW.failed, flow) != null) {
        // Hollow, so that color is not the only distinction.
        pen.strokeStyle = this.colors.failed;
        pen.lineWidth = 1.25;
        pen.strokeRect(left + 0.75, top + 0.75, Math.max(3, width - 1.5), Math.max(1, height - 1.5));
      } else {
        pen.fillStyle = this.table.value(FLOW.direction, flow) === "in" ? this.colors.in : this.colors.out;
        pen.fillRect(left, top, width, height);
      }
    }
  }

  drawDrag(pen) {
    const [from, to] = this.drag;
    pen.globalAlpha = 0.25;
    pen.fillStyle = this.colors.out;
    pen.fillRect(Math.min(from, to), 0, Math.abs(to - from), this.height);
    pen.globalAlpha = 1;
  }

  listen() {
    const { canvas } = this;
    const x = (event) => event.clientX - canvas.getBoundingClientRect().left;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || event.pointerType === "touch") return;
      this.drag = [x(event), x(event)];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (this.drag) { this.drag[1] = x(event); this.redraw(); } else this.point(event);
    });
    canvas.addEventListener("pointerup", () => {
      const drag = this.drag;
      this.drag = null;
      this.redraw();
      if (drag && Math.abs(drag[1] - drag[0]) > 4) this.range.set(this.ns(Math.min(...drag)), this.ns(Math.max(...drag)));
    });
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    canvas.addEventListener("dblclick", () => this.range.whole());
    canvas.addEventListener("keydown", (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey && this.range.handleKey(event.key)) event.preventDefault(); });
  }

  // Shows the flow under the pointer.
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const row = this.rows.find((row) => y >= row.top && y < row.top + row.height);
    const isHit = (place) => place && x >= place.left - 3 && x <= place.left + place.width + 3 && y >= place.top - 2 && y <= place.top + place.height + 2;
    let hit = null;
    for (let at = 0; row && at < row.flows.length && !hit; at += 1) {
      const place = this.place(row, at);
      if (isHit(place)) hit = place;
    }
    this.tip.hidden = !hit;
    if (!hit) return;
    const of = (column) => this.table.value(column, hit.flow);
    const lines = [
      `${of(FLOW.remote)} ${of(FLOW.service)}`,
      of(FLOW.program) ?? "",
      `${units.at(of(FLOW.start))}, for ${units.duration(of(FLOW.duration))}`,
      `sent ${units.bytes(of(FLOW.sent))}, received ${units.bytes(of(FLOW.received))}`,
      of(FLOW.failed) ? `failed: ${of(FLOW.failed)}` : "",
    ];
    this.tip.replaceChildren(...lines.filter(Boolean).map((line) => element("div", {}, line)));
    this.tip.style.left = `${Math.max(0, Math.min(x + 12, this.width - 260))}px`;
    this.tip.style.top = `${y + 16}px`;
  }
}
