// What is hard to read or to reach: text under a contrast of 4.5 (WCAG 2.2, 1.4.3), controls,
// pictures and tables without a name, ids that are there twice.
(() => {
  const wrong = [];
  const shown = (element) => element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length > 0;
  const say = (what, element) => wrong.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
  const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
  const over = (front, back) => { const alpha = front[3] ?? 1; return [0, 1, 2].map((at) => front[at] * alpha + back[at] * (1 - alpha)); };
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(numbers(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((back, front) => over(front, back), [255, 255, 255]);
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => { part /= 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x - y); return (high + 0.05) / (low + 0.05); };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = new Set();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) if (node.data.trim() && !["SCRIPT", "STYLE"].includes(node.parentElement.tagName)) texts.add(node.parentElement);
  for (const element of texts) {
    if (!shown(element) || element.disabled) continue;
    const back = ground(element);
    const front = over(numbers(getComputedStyle(element).color), back);
    if (contrast(front, back) < 4.5) say(`contrast ${contrast(front, back).toFixed(2)}`, element);
  }
  const name = (element) => element.getAttribute("aria-label") || element.textContent.trim() || (element.id && document.querySelector(`label[for="${element.id}"]`)?.textContent);
  for (const element of document.querySelectorAll("button, a[href], input, select, summary, [role=img], [role=region], [role=group], canvas")) if (shown(element) && !name(element)) say("no name", element);
  for (const table of document.querySelectorAll("table:not(.u-legend)")) {
    if (!table.caption?.textContent.trim()) say("no caption", table);
    if ([...table.querySelectorAll("th")].some((head) => !head.scope)) say("a head without scope", table);
  }
  for (const element of document.querySelectorAll("[id]")) if (document.querySelectorAll(`#${CSS.escape(element.id)}`).length > 1) say("id twice", element);
  const headings = [...document.querySelectorAll("h1, h2, h3")].map((heading) => Number(heading.tagName[1]));
  headings.forEach((level, at) => { if (at > 0 && level > headings[at - 1] + 1) wrong.push(`h${level} after h${headings[at - 1]}`); });
  for (const control of document.querySelectorAll("button, input, select")) {
    const box = control.getBoundingClientRect();
    // WCAG 2.2, 2.5.8.
    if (shown(control) && !control.closest("thead") && (box.width < 24 || box.height < 24)) say(`${box.width} by ${box.height}`, control);
  }
  return [...new Set(wrong)];
})()
