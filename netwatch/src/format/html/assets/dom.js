// Creates elements without markup: text is only set as text.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function bar(percent) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("aria-hidden", "true");
  for (const width of ["100%", percent]) {
    const rect = document.createElementNS(space, "rect");
    rect.setAttribute("width", width);
    rect.setAttribute("height", "100%");
    svg.append(rect);
  }
  return svg;
}

// A color of the style sheet, read at each use because the theme may change.
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Runs `work` at most once per frame.
function eachFrame(work) {
  let isScheduled = false;
  return () => {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => { isScheduled = false; work(); });
  };
}
