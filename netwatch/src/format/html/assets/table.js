// A table with sorting, search, pages and details of rows. Data is stored by column; rows are
// indices into it.

const PAGE_SIZES = [10, 25, 100, 500];
// Cards are long.
const CARDS_WIDTH = 560;
const PRINTED_ROWS = 200;
const MAX_PARTS = 100;
const NUMBERS = new Set(["count", "bytes", "share", "duration", "at"]);
const CLASSES = { code: "code", word: "word", prose: "prose", bad: "bad", share: "share" };
const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// `a b -c "d e"`: words that have to occur, and words that must not.
function matcher(query) {
  const words = [...query.toLowerCase().matchAll(/(-?)(?:"([^"]*)"?|(\S+))/g)]
    .map(([, minus, quoted, word]) => ({ isWanted: !minus, word: quoted ?? word ?? "" }))
    .filter(({ word }) => word !== "" && word !== "-");
  return (text) => words.every(({ isWanted, word }) => text.includes(word) === isWanted);
}

class DataTable {
  // `extra` draws a column that has no data of its own.
  constructor(root, data, caption, extra) {
    Object.assign(this, { root, columns: new Columns(data), data, caption, extra });
    this.filters = new Map();
    this.open = new Set();
    this.query = "";
    this.sort = { column: -1, isDescending: false };
    this.page = 0;
    this.size = root.clientWidth > 0 && root.clientWidth <= CARDS_WIDTH ? PAGE_SIZES[0] : PAGE_SIZES[1];
    if (data.parts) this.parts = new Parts(data.parts);
    this.shown = this.columns.indices(false);
    this.hasDetails = Boolean(this.parts) || this.columns.indices(true).length > 0;
    this.build();
    this.update();
  }

  value(column, row) { return this.columns.value(column, row); }

  filter(name, test, description) {
    if (test) this.filters.set(name, { test, description }); else this.filters.delete(name);
    this.page = 0;
    this.update();
  }

  // The searchable text of every row and its parts.
  get texts() {
    this.haystack ??= Array.from({ length: this.data.length }, (_, row) =>
      [this.columns.text(row), ...(this.parts?.of(row) ?? []).map((part) => this.parts.columns.text(part))].join("\n"));
    return this.haystack;
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
      const keys = this.columns.keys(column);
      const sign = isDescending ? -1 : 1;
      // Unknown values come last in either order.
      this.rows.sort((a, b) => (keys[a] == null ? (keys[b] == null ? 0 : 1) : keys[b] == null ? -1 : sign * (keys[a] - keys[b])));
    }
    this.draw();
  }

  build() {
    this.search = element("input", { type: "search", placeholder: "Search", "aria-label": `Search: ${this.caption}`, oninput: () => { this.query = this.search.value.trim(); this.page = 0; this.update(); } });
    this.chips = element("span", { class: "chips" });
    this.status = element("span", { role: "status", class: "status" });
    const tools = element("div", { class: "toolbar" }, this.search, this.buildOrder(), this.chips, this.status);
    this.heads = this.shown.map((column) => {
      const { title, kind, help } = this.data.columns[column];
      const button = element("button", { type: "button", title: help, onclick: () => this.sortBy(column) }, title);
      return element("th", { role: "columnheader", scope: "col", class: NUMBERS.has(kind) && kind !== "share" ? "number" : false }, button);
    });
    this.extraHead = this.extra && element("th", { role: "columnheader", scope: "col", class: "extra" });
    this.root.querySelector("thead tr").replaceChildren(...this.heads, ...(this.extra ? [this.extraHead] : []));
    this.body = this.root.querySelector("tbody");
    this.root.querySelector(".more")?.remove();
    this.pager = this.buildPager();
    this.root.prepend(tools);
    this.root.append(this.pager);
    this.root.classList.toggle("short", this.data.length <= 5);
    this.root.classList.toggle("has-details", this.hasDetails);
    addEventListener("beforeprint", () => { this.before = [this.size, this.page]; this.size = PRINTED_ROWS; this.page = 0; this.draw(); });
    addEventListener("afterprint", () => { [this.size, this.page] = this.before ?? [this.size, this.page]; this.draw(); });
  }

  // The order of cards, which have no heads to click.
  buildOrder() {
    const options = [element("option", { value: -1 }, "Default order"), ...this.shown.map((column) => element("option", { value: column }, `By ${this.data.columns[column].title.toLowerCase()}`))];
    this.order = element("select", { class: "order", "aria-label": `Order: ${this.caption}` }, ...options);
    this.order.addEventListener("change", () => {
      const column = Number(this.order.value);
      this.sort = { column, isDescending: column >= 0 && this.startsDescending(column) };
      this.page = 0;
      this.update();
    });
    return this.order;
  }

  buildPager() {
    this.earlier = element("button", { type: "button", onclick: () => { this.page -= 1; this.draw(); } }, "← Previous");
    this.later = element("button", { type: "button", onclick: () => { this.page += 1; this.draw(); } }, "Next →");
    this.place = element("span", {});
    const sizes = element("select", { "aria-label": `Rows on a page: ${this.caption}` }, ...PAGE_SIZES.map((size) => element("option", { value: size, selected: size === this.size }, `${size} rows`)));
    sizes.addEventListener("change", () => { this.size = Number(sizes.value); this.page = 0; this.draw(); });
    return element("div", { class: "pager", role: "group", "aria-label": `Pages: ${this.caption}` }, this.earlier, this.place, this.later, sizes);
  }

  startsDescending(column) {
    const { kind } = this.data.columns[column];
    return NUMBERS.has(kind) && kind !== "at";
  }

  // Numbers start with the largest; a third click restores the original order.
  sortBy(column) {
    const first = this.startsDescending(column);
    const { column: old, isDescending } = this.sort;
    if (old !== column) this.sort = { column, isDescending: first };
    else if (isDescending === first) this.sort = { column, isDescending: !first };
    else this.sort = { column: -1, isDescending: false };
    this.order.value = this.sort.column;
    this.page = 0;
    this.update();
  }

  draw() {
    const pages = Math.max(1, Math.ceil(this.rows.length / this.size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const shown = this.rows.slice(this.page * this.size, (this.page + 1) * this.size);
    this.extra?.head(this.extraHead);
    this.body.replaceChildren(...shown.flatMap((row) => this.rowAndDetails(row)));
    this.heads.forEach((head, at) => {
      if (this.shown[at] === this.sort.column) head.setAttribute("aria-sort", this.sort.isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.pager.hidden = this.rows.length <= Math.min(this.size, PAGE_SIZES[1]);
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

  rowAndDetails(row) {
    const drawn = this.row(row);
    return this.open.has(row) ? [drawn, this.details(row)] : [drawn];
  }

  row(row) {
    const depth = this.sort.column < 0 && this.data.depths ? Math.min(12, this.data.depths[row]) : 0;
    const cells = this.shown.map((column) => this.columns.cell(column, row, depth));
    if (this.hasDetails) cells[0].prepend(this.toggle(row));
    if (this.extra) cells.push(element("td", { role: "cell", class: "extra" }, this.extra.cell(row)));
    return element("tr", { role: "row" }, ...cells);
  }

  toggle(row) {
    const isOpen = this.open.has(row);
    const name = this.value(0, row) ?? "this row";
    const button = element("button", { type: "button", class: "toggle", "aria-expanded": String(isOpen), "aria-label": `Details of ${name}` });
    button.addEventListener("click", () => {
      const drawn = button.closest("tr");
      if (this.open.delete(row)) drawn.nextElementSibling?.remove();
      else { this.open.add(row); drawn.after(this.details(row)); }
      button.setAttribute("aria-expanded", String(this.open.has(row)));
    });
    return button;
  }

  details(row) {
    const facts = this.columns.indices(true)
      .filter((column) => this.value(column, row) != null)
      .map((column) => {
        const { title, kind } = this.data.columns[column];
        const value = element("dd", { class: CLASSES[kind] ?? false });
        this.columns.fill(value, kind, this.value(column, row));
        return element("div", {}, element("dt", {}, title), value);
      });
    const content = element("td", { role: "cell", colspan: this.shown.length + (this.extra ? 1 : 0) });
    if (facts.length > 0) content.append(element("dl", { class: "facts" }, ...facts));
    if (this.parts) content.append(this.parts.table(row));
    if (this.onShow) content.append(element("button", { type: "button", onclick: () => this.onShow(row) }, "Show its connections"));
    return element("tr", { role: "row", class: "details" }, content);
  }
}
