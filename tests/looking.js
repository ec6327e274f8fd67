// What is wrong with a page for a reader: a list of sentences. The viewport is as high as the page.
() => {
  const problems = [];
  const complain = (what, text) => problems.push(`${what}: '${text.trim().replace(/\s+/g, " ").slice(0, 60)}'`);
  const shows = (element) => element.checkVisibility({ visibilityProperty: true });
  const movable = (element) => element.closest('.scroll[tabindex="0"]'); // a data frame of a user may be moved sideways

  // -- every piece of text that is shown, with its rectangles
  const pieces = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, title, desc, noscript") || !shows(element)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const rects = [...range.getClientRects()].filter((rect) => rect.width > 1 && rect.height > 1);
    if (rects.length) pieces.push({ node, element, text: node.data, rects });
  }

  // -- inside the page, the drawing and every box around it
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width + 1) problems.push("the page is wider than the screen");
  for (const { element, text, rects } of pieces) {
    if (movable(element)) continue;
    const drawing = element.closest("svg") && element.ownerSVGElement.getBoundingClientRect();
    for (const rect of rects) {
      if (rect.left < -0.5 || rect.right > width + 0.5) complain("beyond the page", text);
      else if (drawing && (rect.left < drawing.left - 1 || rect.right > drawing.right + 1
        || rect.top + rect.height * 0.2 < drawing.top || rect.bottom - rect.height * 0.2 > drawing.bottom)) {
        complain("cut by its drawing", text);
      } else continue;
      break;
    }
    for (let box = element; box && !box.closest("svg"); box = box.parentElement) {
      const style = getComputedStyle(box);
      const [x, y] = [style.overflowX, style.overflowY];
      if (/hidden|clip/.test(x) && box.scrollWidth > box.clientWidth + 1) { complain("cut", text); break; }
      if (/hidden|clip/.test(y) && box.scrollHeight > box.clientHeight + 3) { complain("cut", text); break; }
      if (/auto|scroll/.test(x) && box.scrollWidth > box.clientWidth + 1) { complain("scrolls sideways", text); break; }
    }
  }

  // -- no text over another one; a line's rectangle has room above and below its letters
  const areas = pieces.flatMap((piece) => piece.rects.map((rect) => ({
    piece, left: rect.left, right: rect.right,
    top: rect.top + rect.height * 0.12, bottom: rect.bottom - rect.height * 0.12,
  }))).filter((area) => !movable(area.piece.element)).sort((a, b) => a.top - b.top);
  const met = new Set();
  areas.forEach((one, place) => {
    for (let next = place + 1; next < areas.length && areas[next].top < one.bottom - 0.5; next++) {
      const other = areas[next];
      if (other.piece.node === one.piece.node) continue;
      if (Math.min(one.right, other.right) - Math.max(one.left, other.left) < 1) continue;
      const pair = `'${one.piece.text.trim()}' and '${other.piece.text.trim()}'`;
      if (!met.has(pair)) problems.push(`overlap: ${pair}`);
      met.add(pair);
    }
  });

  // -- words, not code
  for (const { text } of pieces) {
    const code = text.match(/\{['"]\w+['"]?|\bdict\b|\bNaN\b|\bnan\b|\bNaT\b|\bNone\b|Figure\(|<\w+ object|\bnp\.\w+\(/);
    if (code) problems.push(`code: ${JSON.stringify(code[0]).includes("'") ? JSON.stringify(code[0]) : `'${code[0]}'`}`);
  }

  // -- contrast: the text's colour on what lies behind it
  const parse = (color) => {
    const numbers = (color.match(/-?[\d.]+(e-?\d+)?/g) || []).map(Number);
    if (color.startsWith("color(srgb")) return [...numbers.slice(0, 3).map((n) => n * 255), numbers[3] ?? 1];
    return color.startsWith("rgb") ? [...numbers.slice(0, 3), numbers[3] ?? 1] : [0, 0, 0, 0];
  };
  const over = (top, below, alpha) => below.map((value, i) => top[i] * alpha + value * (1 - alpha));
  const opacity = (element) => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
  const canvas = matchMedia("(prefers-color-scheme: dark)").matches
    && /dark/.test(getComputedStyle(document.documentElement).colorScheme) ? [18, 18, 18] : [255, 255, 255];
  const behind = (element, rect) => {
    const stack = document.elementsFromPoint(rect.left + rect.width / 2, rect.top + rect.height / 2);
    const layers = stack.filter((layer) => layer !== element && !layer.closest("text") && !element.contains(layer));
    let color = canvas;
    for (const layer of [...layers, element].reverse()) {
      const style = getComputedStyle(layer);
      const isShape = layer.ownerSVGElement && layer.localName !== "g" && layer.localName !== "text";
      const [r, g, b, a] = parse(isShape ? style.fill : style.backgroundColor);
      const alpha = a * (isShape ? style.fillOpacity : 1) * opacity(layer);
      if (layer !== element || !layer.ownerSVGElement) color = over([r, g, b], color, alpha);
    }
    return color;
  };
  const luminance = (color) => color.map((value) => value / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  for (const { element, text, rects } of pieces) {
    if (movable(element)) continue;
    const style = getComputedStyle(element);
    const [r, g, b, a] = parse(element.ownerSVGElement ? style.fill : style.color);
    const ground = behind(element, rects[0]);
    const shown = over([r, g, b], ground, a * opacity(element));
    const [dark, light] = [luminance(shown), luminance(ground)].sort((x, y) => x - y);
    const ratio = (light + 0.05) / (dark + 0.05);
    if (ratio < 4.5) complain(`contrast ${ratio.toFixed(2)}`, text);
  }

  // -- what a screen reader needs
  for (const image of document.images) if (!image.alt.trim()) complain("no alt text", "img");
  for (const drawing of document.querySelectorAll("svg")) {
    if (drawing.ownerSVGElement || drawing.closest('[aria-hidden="true"]')) continue;
    const name = drawing.getAttribute("aria-label") || drawing.querySelector(":scope > title")?.textContent;
    if (!(name || "").trim()) complain("no alt text", "svg");
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, place) => ids.indexOf(id) !== place))) problems.push(`one id twice: ${id}`);
  if (!document.documentElement.lang) problems.push("no language");
  if (!document.title) problems.push("no title");
  const levels = [...document.querySelectorAll("h1, h2, h3, h4, h5, h6")].filter(shows).map((h) => +h.localName[1]);
  const titles = levels.filter((level) => level === 1).length;
  if (titles !== 1) problems.push(`${titles} titles`);
  levels.forEach((level, place) => {
    if (place && level > levels[place - 1] + 1) problems.push(`h${level} after h${levels[place - 1]}`);
  });
  return [...new Set(problems)];
}
