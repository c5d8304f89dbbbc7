// A table with sorting, search and pages. Data is stored by column; rows are indices into it.

const PAGE_SIZES = [25, 100, 500];
const PRINTED_ROWS = 200;
const NUMBERS = new Set(["count", "bytes", "share", "duration", "at"]);
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// `a b -c "d e"`: words that have to occur, and words that must not.
function matcher(query) {
  const words = [...query.toLowerCase().matchAll(/(-?)(?:"([^"]*)"?|(\S+))/g)]
    .map(([, minus, quoted, word]) => ({ isWanted: !minus, word: quoted ?? word ?? "" }))
    .filter(({ word }) => word !== "" && word !== "-");
  return (text) => words.every(({ isWanted, word }) => text.includes(word) === isWanted);
}

class DataTable {
  constructor(root, data, caption) {
    this.root = root;
    this.data = data;
    this.caption = caption;
    this.filters = new Map();
    this.query = "";
    this.sort = { column: -1, isDescending: false };
    this.page = 0;
    this.size = PAGE_SIZES[0];
    this.build();
    this.update();
  }

  // Number, text, or null.
  value(column, row) {
    const values = this.data.values[column];
    if (Array.isArray(values)) return values[row];
    return values.of[row] < 0 ? null : values.texts[values.of[row]];
  }

  // The rank of each text of a column, so that sorting compares numbers.
  keys(column) {
    const values = this.data.values[column];
    if (Array.isArray(values)) return values;
    const places = new Int32Array(values.texts.length);
    [...values.texts.keys()].sort((a, b) => collator.compare(values.texts[a], values.texts[b])).forEach((text, place) => { places[text] = place; });
    return values.of.map((text) => (text < 0 ? null : places[text]));
  }

  // The searchable text of every row.
  get texts() {
    this.haystack ??= Array.from({ length: this.data.length }, (_, row) =>
      this.data.columns.map((_, column) => this.value(column, row)).filter((value) => typeof value === "string").join("\n").toLowerCase());
    return this.haystack;
  }

  filter(name, test, description) {
    if (test) this.filters.set(name, { test, description }); else this.filters.delete(name);
    this.page = 0;
    this.update();
  }

  update() {
    const tests = [...this.filters.values()].map(({ test }) => test);
    if (this.query) {
      const matches = matcher(this.query);
      tests.push((row) => matches(this.texts[row]));
    }
    this.rows = Array.from({ length: this.data.length }, (_, row) => row).filter((row) => tests.every((test) => test(row)));
    const { column, isDescending } = this.sort;
    if (column >= 0) {
      const keys = this.keys(column);
      const sign = isDescending ? -1 : 1;
      // Unknown values come last in either order.
      this.rows.sort((a, b) => (keys[a] == null || keys[b] == null ? (keys[a] == null) - (keys[b] == null) : sign * (keys[a] - keys[b])) || a - b);
    }
    this.draw();
  }

  build() {
    this.search = element("input", { type: "search", placeholder: "Search", "aria-label": `Search: ${this.caption}`, autocomplete: "off", spellcheck: "false" });
    this.search.addEventListener("input", () => { this.query = this.search.value; this.page = 0; this.update(); });
    this.status = element("span", { class: "status", role: "status" });
    this.chips = element("span", { class: "chips" });
    const tools = element("div", { class: "toolbar" }, this.search, this.chips, this.status);
    const head = this.root.querySelector("thead tr");
    this.heads = this.data.columns.map(({ title, kind, help }, column) => {
      const button = element("button", { type: "button", title: help, onclick: () => this.sortBy(column) }, title);
      return element("th", { scope: "col", class: NUMBERS.has(kind) && kind !== "share" ? "number" : false }, button);
    });
    head.replaceChildren(...this.heads);
    this.body = this.root.querySelector("tbody");
    this.root.querySelector(".more")?.remove();
    this.pager = this.buildPager();
    this.root.prepend(tools);
    this.root.append(this.pager);
    this.root.classList.toggle("short", this.data.length <= 5);
    addEventListener("beforeprint", () => { this.before = [this.size, this.page]; this.size = PRINTED_ROWS; this.page = 0; this.draw(); });
    addEventListener("afterprint", () => { [this.size, this.page] = this.before ?? [this.size, this.page]; this.draw(); });
  }

  buildPager() {
    this.earlier = element("button", { type: "button", onclick: () => { this.page -= 1; this.draw(); } }, "← Previous");
    this.later = element("button", { type: "button", onclick: () => { this.page += 1; this.draw(); } }, "Next →");
    this.place = element("span", {});
    const sizes = element("select", { "aria-label": `Rows on a page: ${this.caption}` }, ...PAGE_SIZES.map((size) => element("option", { value: size }, `${size} rows`)));
    sizes.addEventListener("change", () => { this.size = Number(sizes.value); this.page = 0; this.draw(); });
    return element("div", { class: "pager", role: "group", "aria-label": `Pages: ${this.caption}` }, this.earlier, this.place, this.later, sizes);
  }

  // Numbers start with the largest; a third click restores the original order.
  sortBy(column) {
    const first = NUMBERS.has(this.data.columns[column].kind) && this.data.columns[column].kind !== "at";
    const { column: old, isDescending } = this.sort;
    if (old !== column) this.sort = { column, isDescending: first };
    else if (isDescending === first) this.sort = { column, isDescending: !first };
    else this.sort = { column: -1, isDescending: false };
    this.page = 0;
    this.update();
  }

  draw() {
    const pages = Math.max(1, Math.ceil(this.rows.length / this.size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const shown = this.rows.slice(this.page * this.size, (this.page + 1) * this.size);
    this.body.replaceChildren(...shown.map((row) => this.row(row)));
    this.heads.forEach((head, column) => {
      if (column === this.sort.column) head.setAttribute("aria-sort", this.sort.isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.pager.hidden = this.rows.length <= PAGE_SIZES[0];
    this.earlier.disabled = this.page === 0;
    this.later.disabled = this.page === pages - 1;
    this.place.textContent = `${units.count(this.page + 1)} of ${units.count(pages)}`;
    const all = `${units.count(this.data.length)} ${this.data.length === 1 ? "row" : "rows"}`;
    this.status.textContent = this.rows.length === this.data.length ? all : `${units.count(this.rows.length)} of ${all}`;
    this.chips.replaceChildren(...[...this.filters].map(([name, { description }]) =>
      element("button", { type: "button", class: "chip", "aria-label": `Remove filter: ${description}`, onclick: () => this.drop(name) }, description, " ✕")));
  }

  drop(name) {
    this.filter(name, null);
    this.onDrop?.(name);
    this.search.focus();
  }

  row(row) {
    const cells = this.data.columns.map(({ kind }, column) => {
      const value = this.value(column, row);
      const cell = element(column === 0 ? "th" : "td", column === 0 ? { scope: "row" } : {});
      const depth = this.sort.column < 0 && this.data.depths ? Math.min(12, this.data.depths[row]) : 0;
      const names = { code: "code", tree: `tree d${depth}`, share: "share" };
      cell.className = names[kind] ?? (NUMBERS.has(kind) ? "number" : "");
      this.fill(cell, kind, value);
      return cell;
    });
    return element("tr", {}, ...cells);
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
      cell.append(kind === "count" ? units.count(value) : String(value));
      // The style truncates long texts.
      if (typeof value === "string" && value.length > 24) cell.title = value;
    }
  }
}
