// The displayed range of time, shared by all charts and the table of flows. Nanoseconds since the
// start.

class Range {
  constructor(length) {
    this.length = length;
    this.from = 0;
    this.to = length;
    this.listeners = [];
  }

  get isWhole() { return this.from <= 0 && this.to >= this.length; }

  onChange(listener) { this.listeners.push(listener); }

  set(from, to) {
    const least = Math.max(1e3, this.length / 1e6);
    const width = Math.min(this.length, Math.max(least, to - from));
    from = Math.max(0, Math.min(from, this.length - width));
    if (from === this.from && from + width === this.to) return;
    this.from = from;
    this.to = from + width;
    this.listeners.forEach((listener) => listener());
  }

  whole() { this.set(0, this.length); }

  // Scales the range by a factor, around its middle or a given time.
  zoom(factor, around = (this.from + this.to) / 2) {
    this.set(around - (around - this.from) * factor, around + (this.to - around) * factor);
  }

  // Shifts the range by a fraction of its width.
  move(part) {
    const by = (this.to - this.from) * part;
    this.set(this.from + by, this.to + by);
  }
}
