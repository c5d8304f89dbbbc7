// The values of a table, by column, and how they are displayed.

class Columns {
  constructor(data) { this.data = data; }

  // Number, text, or null.
  value(column, row) {
    const values = this.data.values[column];
    if (Array.isArray(values)) return values[row];
    return values.of[row] < 0 ? null : values.texts[values.of[row]];
  }

  // The columns that are displayed only in the details of a row, or the others.
  indices(isDetail) {
    return [...this.data.columns.keys()].filter((column) => Boolean(this.data.columns[column].is_detail) === isDetail);
  }

  find(title) { return this.data.columns.findIndex((column) => column.title === title); }

  // The rank of each text of a column, so that sorting compares numbers.
  keys(column) {
    const values = this.data.values[column];
    if (Array.isArray(values)) return values;
    const places = new Int32Array(values.texts.length);
    [...values.texts.keys()].sort((a, b) => collator.compare(values.texts[a], values.texts[b])).forEach((text, place) => { places[text] = place; });
    return values.of.map((text) => (text < 0 ? null : places[text]));
  }

  // The words of a row, for the search.
  text(row) {
    return this.data.columns.map((_, column) => this.value(column, row)).filter((value) => typeof value === "string").join("\n").toLowerCase();
  }

  cell(column, row, depth = 0) {
    const { kind, title } = this.data.columns[column];
    const attributes = column === 0 ? { role: "rowheader", scope: "row" } : { role: "cell", "data-label": title };
    const cell = element(column === 0 ? "th" : "td", attributes);
    cell.className = kind === "tree" ? `tree d${depth}` : CLASSES[kind] ?? (NUMBERS.has(kind) ? "number" : "");
    this.fill(cell, kind, this.value(column, row));
    return cell;
  }

  fill(cell, kind, value) {
    if (value == null) {
      cell.append("–");
      cell.classList.add("none");
    } else if (kind === "share") {
      const percent = units.percent(value, this.data.whole);
      cell.append(bar(percent), element("span", {}, percent === "0.0%" && value > 0 ? "< 0.1%" : percent));
      cell.title = `${units.count(value)} bytes`;
    } else if (kind === "bytes") {
      cell.append(units.bytes(value));
      cell.title = `${units.count(value)} bytes`;
    } else if (kind === "duration" || kind === "at") {
      cell.append(kind === "at" ? units.at(value) : units.duration(value));
      cell.title = `${units.count(value)} ns`;
    } else {
      const text = kind === "count" ? units.count(value) : String(value);
      // The style limits the lines of long texts.
      cell.append(text.length > 60 ? element("span", { class: "clamp", title: text }, text) : text);
    }
  }
}

// The parts of the rows of a table: the endpoints of hosts, the clients of services.
class Parts {
  constructor({ table, of }) {
    this.columns = new Columns(table);
    this.rows = new Map();
    of.forEach((row, part) => { if (!this.rows.has(row)) this.rows.set(row, []); this.rows.get(row).push(part); });
  }

  of(row) { return this.rows.get(row) ?? []; }

  table(row) {
    const { columns } = this.columns.data;
    const all = this.of(row);
    const heads = columns.map(({ title, kind }) => element("th", { role: "columnheader", scope: "col", class: NUMBERS.has(kind) ? "number" : false }, title));
    const rows = all.slice(0, MAX_PARTS).map((part) => element("tr", { role: "row" }, ...columns.map((_, column) => this.columns.cell(column, part))));
    const table = element("table", { role: "table" }, element("caption", {}, "Parts of this row"),
      element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...heads)), element("tbody", { role: "rowgroup" }, ...rows));
    const more = all.length > MAX_PARTS ? [element("p", { class: "hint" }, `${units.count(all.length - MAX_PARTS)} more`)] : [];
    return element("div", { class: "table parts wide" }, table, ...more);
  }
}
