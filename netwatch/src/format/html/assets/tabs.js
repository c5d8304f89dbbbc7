// Texts to copy, as tabs. Without JavaScript they are collapsed parts.

const COPIED_FOR_MS = 2_000;

// Returns whether the text is in the clipboard. Some browsers give pages from files only the old
// command.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = element("textarea", { class: "offscreen", readonly: true, "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }
}

class Tabs {
  constructor(root) {
    const parts = [...root.querySelectorAll(".tab")];
    this.tabs = parts.map((part, at) => this.tab(root.id, part, at));
    this.copied = element("span", { role: "status", class: "copied" });
    const copy = element("button", { type: "button", class: "copy", onclick: () => this.copy() }, "Copy");
    const list = parts.length > 1
      ? element("div", { role: "tablist", "aria-label": root.dataset.label }, ...this.tabs.map(({ button }) => button))
      : element("span", { class: "name" }, this.tabs[0]?.name ?? "");
    list.addEventListener("keydown", (event) => this.move(event));
    root.replaceChildren(element("div", { class: "bar-of-tabs" }, list, this.copied, copy), ...this.tabs.map(({ panel }) => panel));
    this.show(0);
  }

  tab(id, part, at) {
    const name = part.querySelector("summary").textContent;
    const text = part.querySelector("pre");
    const button = element("button", { type: "button", role: "tab", id: `${id}-tab-${at}`, "aria-controls": `${id}-panel-${at}`, onclick: () => this.show(at) }, name);
    const panel = element("div", { role: "tabpanel", id: `${id}-panel-${at}`, "aria-labelledby": `${id}-tab-${at}` }, text);
    return { name, text, button, panel };
  }

  show(chosen) {
    this.chosen = chosen;
    this.copied.textContent = "";
    this.tabs.forEach(({ button, panel }, at) => {
      button.setAttribute("aria-selected", String(at === chosen));
      button.tabIndex = at === chosen ? 0 : -1;
      panel.hidden = at !== chosen;
    });
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    this.show((this.chosen + step + this.tabs.length) % this.tabs.length);
    this.tabs[this.chosen].button.focus();
  }

  async copy() {
    const isCopied = await copyText(this.tabs[this.chosen].text.textContent);
    this.copied.textContent = isCopied ? "Copied" : "Select the text and copy it";
    clearTimeout(this.timer);
    this.timer = setTimeout(() => { this.copied.textContent = ""; }, COPIED_FOR_MS);
  }
}
