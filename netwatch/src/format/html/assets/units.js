// Formats numbers as the summary on the terminal does: three significant digits, decimal units.

const STEPS = {
  bytes: [[1, "B"], [1e3, "kB"], [1e6, "MB"], [1e9, "GB"], [1e12, "TB"], [1e15, "PB"], [1e18, "EB"]],
  ns: [[1, "ns"], [1e3, "µs"], [1e6, "ms"], [1e9, "s"]],
  plain: [[1, ""], [1e3, "k"], [1e6, "M"], [1e9, "G"], [1e12, "T"]],
};

function threeDigits(value, steps) {
  const fits = steps.find(([divisor]) => Math.round(value / divisor) < 1000) ?? steps[steps.length - 1];
  const [divisor, unit] = fits;
  const scaled = value / divisor;
  let digits = 0;
  if (divisor > 1 || !Number.isInteger(scaled)) digits = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return `${scaled.toFixed(digits)}${unit && " "}${unit}`;
}

const two = (number) => String(number).padStart(2, "0");

const units = {
  count: (value) => String(value).replace(/\B(?=(\d{3})+$)/g, ","),
  bytes: (value) => threeDigits(value, STEPS.bytes),
  short: (value) => threeDigits(value, STEPS.plain).replace(/\.0+(?=\s|$)/, "").trim(),
  // CPU time per time.
  cores: (value) => (value < 0.995 ? String(Number(value.toPrecision(2))) : units.short(value)),
  duration(ns) {
    const seconds = Math.floor(ns / 1e9);
    if (seconds < 60) return threeDigits(ns, STEPS.ns);
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
    return `${Math.floor(seconds / 3600)} h ${two(Math.floor(seconds / 60) % 60)} min`;
  },
  // Time since the start; in milliseconds if the run took less than a second.
  isShort: false,
  at: (ns) => (units.isShort ? `+${(Math.floor(ns / 1e3) / 1e3).toFixed(3)} ms` : `+${(Math.floor(ns / 1e6) / 1e3).toFixed(3)} s`),
  percent: (part, whole) => `${(whole > 0 ? Math.floor((part * 1000) / whole) / 10 : 0).toFixed(1)}%`,
};

// At most `most` marks on a time axis, at multiples of 1, 2 or 5, or of customary parts of an hour
// and a day.
function timeMarks(from, to, most) {
  const nice = [];
  for (let power = 1; power <= 1e9; power *= 10) nice.push(power, 2 * power, 5 * power);
  for (const seconds of [10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400, 604800]) nice.push(seconds * 1e9);
  const step = nice.find((step) => (to - from) / step <= most) ?? 31 * 86400e9;
  const marks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) marks.push(at);
  return { step, marks };
}

function timeLabel(ns, step) {
  if (step >= 60e9) {
    const minutes = Math.round(ns / 60e9);
    return minutes >= 60 ? `${Math.floor(minutes / 60)}:${two(minutes % 60)} h` : `${minutes} min`;
  }
  const [unit, name] = step >= 1e8 ? [1e9, "s"] : step >= 1e5 ? [1e6, "ms"] : [1e3, "µs"];
  const digits = Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  return `${(ns / unit).toFixed(Math.min(digits, 3))} ${name}`;
}
