"use strict";
const SVG = "http://www.w3.org/2000/svg";

/* The compressed block: sources of numbers, further tables, samples, origins. */
async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

function add(parent, name, text, style) {
  const element = document.createElement(name);
  if (text !== undefined && text !== null) element.textContent = text;
  if (style) element.className = style;
  parent.appendChild(element);
  return element;
}

function draw(parent, name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.appendChild(element);
  return element;
}

/* Tables: sorted by a column when its head is pressed; folded ones are built when they are opened. */
function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").onclick = () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => (row.cells[column].querySelector(".n") ?? row.cells[column]).textContent.replaceAll(",", "");
    const order = (a, b) => (Number(a) - Number(b)) || a.localeCompare(b, undefined, { numeric: true });
    const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? 1 : -1) * order(key(a), key(b)));
    table.tBodies[0].append(...rows);
  });
}

function build(parent, found, numbers) {
  if (found.note) add(parent, "p", found.note, "soft");
  const table = add(add(parent, "div", undefined, "wide"), "table");
  const head = add(add(table, "thead"), "tr"), body = add(table, "tbody");
  for (const name of found.head) { const cell = add(head, "th"); cell.scope = "col"; add(cell, "button", name).type = "button"; }
  for (const row of found.rows) {
    const line = add(body, "tr");
    for (const value of row) {
      const cell = add(line, "td", Array.isArray(value) ? undefined : value ?? "-");
      if (!Array.isArray(value)) continue;
      add(cell, "span", numbers[value[0]].text, "n").dataset.n = value[0];
      if (value[1]) add(cell, "small", value[1]);
    }
  }
  sortable(table);
}

function once(details, fill) {
  details.addEventListener("toggle", () => { if (details.open) fill(); }, { once: true });
}

/* Samples: a problem's graph, coloured by each answer, beside the answer's steps. */
const STATUS = { correct: "right", missing: "missing", wrong_value: "wrong", wrong_parents: "wrong", wrong_both: "wrong" };

function wrapped(text, width, most) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if ((lines.at(-1) + word).length > width && lines.at(-1)) lines.push("");
    lines[lines.length - 1] += word + " ";
  }
  if (lines.length > most) lines[most - 1] = lines[most - 1].trim() + "…";
  return lines.slice(0, most);
}

function drawGraph(parent, nodes, statuses) {
  const [width, height, gap, fall] = [112, 44, 12, 34];
  const across = Math.max(...nodes.map(n => n.x)) + 1, down = Math.max(...nodes.map(n => n.y)) + 1;
  const svg = draw(add(parent, "div", undefined, "graph"), "svg", { width: across * (width + gap), height: down * (height + fall) - fall + 4, role: "img", "aria-label": "the problem's graph" });
  const left = n => n.x * (width + gap) + 2, top = n => n.y * (height + fall) + 2;
  for (const node of nodes) for (const parent of node.parents.map(i => nodes[i])) {
    const [x, y, u, v] = [left(parent) + width / 2, top(parent) + height, left(node) + width / 2, top(node)];
    draw(svg, "path", { class: "edge", d: `M${x} ${y}C${x} ${y + fall / 2} ${u} ${v - fall / 2} ${u} ${v}` });
  }
  return nodes.map(node => {
    const status = statuses[node.name];
    const group = draw(svg, "g", { class: status ? STATUS[status] : "unneeded", transform: `translate(${left(node)} ${top(node)})` });
    draw(group, "title", {}, `${node.name}: ${node.rule}; ${status ? status.replaceAll("_", " ") : "not needed"}`);
    draw(group, "rect", { width, height, rx: 6 });
    const mark = status ? { right: "✓ ", wrong: "✗ ", missing: "" }[STATUS[status]] : "";
    const lines = wrapped(mark + node.name, 19, 2);
    lines.forEach((line, i) => draw(group, "text", { x: width / 2, y: 13 + 11 * i, class: "m" }, line));
    draw(group, "text", { x: width / 2, y: height - 5, class: "m" }, node.rule);
    return group;
  });
}

function linked(step, group) {
  const light = on => () => { step.classList.toggle("lit", on); group.classList.toggle("lit", on); };
  for (const element of [step, group]) { element.addEventListener("pointerenter", light(true)); element.addEventListener("pointerleave", light(false)); }
}

function showAnswer(parent, answer, nodes) {
  const right = answer.accepted.executable;
  add(parent, "strong", `${right ? "✓ right in every step" : answer.accepted.answer ? "✗ right answer, wrong steps" : "✗ wrong"} (sample ${answer.sample})`);
  const beside = add(parent, "div", undefined, "beside");
  const groups = nodes.length ? drawGraph(beside, nodes, answer.nodes) : [];
  const text = add(beside, "div");
  for (const part of answer.parts) {
    if (part.right === undefined) { if (part.text.trim()) add(text, "span", part.text); continue; }
    const step = add(text, "span", (part.right ? "✓ " : "✗ ") + part.text, "step " + (part.right ? "right" : "wrong"));
    if (part.why) add(step, "span", part.why, "why");
    const at = nodes.findIndex(node => node.name === part.name);
    if (at >= 0) linked(step, groups[at]);
  }
  if (answer.errors.length) {
    const more = add(parent, "details");
    add(more, "summary", answer.errors.length === 1 ? "1 error" : `${answer.errors.length} errors`);
    const list = add(more, "ul");
    for (const error of answer.errors) add(list, "li", error);
  }
}

function browse(browser, stages) {
  const [arm, band, kind] = ["arm", "band", "kind"].map(name => browser.querySelector("." + name));
  let at = 0;
  stages.forEach((stage, i) => add(arm, "option", stage.arm).value = i);
  function fillBands() {
    band.textContent = "";
    for (const name of new Set(stages[arm.value].problems.map(p => p.band))) add(band, "option", name || "all").value = name;
  }
  function show() {
    const shown = browser.querySelector(".shown");
    shown.textContent = "";
    const found = stages[arm.value].problems.filter(p => p.band === band.value &&
      (!kind.value || p.answers.some(a => a.accepted.executable === (kind.value === "right"))));
    if (!found.length) { add(shown, "p", "None among the samples kept here."); return; }
    const problem = found[at % found.length];
    const box = add(shown, "div", undefined, "sample");
    add(box, "p", `Problem ${at % found.length + 1} of ${found.length}; op ${problem.op}, ${problem.context}, ${problem.mode}; ${problem.right} of ${problem.of} samples right in every step (${stages[arm.value].path})`, "soft");
    add(box, "p", problem.problem + " " + problem.question);
    const gold = add(box, "details");
    add(gold, "summary", "gold solution");
    add(gold, "p", problem.solution);
    for (const answer of problem.answers) showAnswer(add(box, "div", undefined, "sample"), answer, problem.graph);
  }
  arm.onchange = () => { const was = band.value; fillBands(); if ([...band.options].some(o => o.value === was)) band.value = was; at = 0; show(); };
  band.onchange = kind.onchange = () => { at = 0; show(); };
  browser.querySelector(".more").onclick = () => { at += 1; show(); };
  fillBands();
  show();
}

function showOrigin(details, origin) {
  const made = origin.environment;
  const packages = Object.entries(made.versions ?? {}).map(([name, version]) => `${name} ${version}`).join("\n");
  add(details, "p", `${origin.name}; commit ${(made.commit ?? "unknown").slice(0, 10)}${(made.commit ?? "").slice(40)}`);
  add(details, "pre", `${packages}\npython ${made.python}, ${made.platform}, ${made.threads} threads, devices ${made.devices}`);
  add(details, "pre", origin.config);
}

async function start() {
  for (const table of document.querySelectorAll("table")) sortable(table);
  const block = await unpack(document.getElementById("block").textContent);
  const source = event => {
    const cell = event.target.closest?.(".n");
    if (cell && !cell.title) cell.title = block.numbers[cell.dataset.n].title;
    return cell;
  };
  document.addEventListener("pointerover", source);
  document.addEventListener("click", event => {
    const cell = source(event);
    document.querySelector(".told")?.remove();
    if (cell) cell.insertAdjacentElement("afterend", Object.assign(document.createElement("small"), { className: "told", textContent: ` ${cell.title}` }));
  });
  for (const details of document.querySelectorAll("[data-table]")) once(details, () => build(details, block.tables[details.dataset.table], block.numbers));
  for (const details of document.querySelectorAll("[data-origin]")) once(details, () => showOrigin(details, block.origins[details.dataset.origin]));
  for (const browser of document.querySelectorAll(".browser")) browse(browser, block.samples[browser.dataset.study]);
}
start();
