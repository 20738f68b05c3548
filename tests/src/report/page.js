"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];

  /** An element with attributes and children; a child that is no element is text. */
  function make(name, attributes = {}, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function draw(name, attributes = {}, ...children) {
    return fill(document.createElementNS(SVG, name), attributes, children);
  }

  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  // The clauses, filtered.

  function filterClauses() {
    const text = find("#filter-text").value.trim().toLowerCase();
    const status = find("#filter-status").value;
    const profile = find("#filter-profile").value;
    let shown = 0;
    const clauses = all("tr.clause");
    for (const body of all("#clauses tbody")) {
      let here = 0;
      for (const row of all("tr.clause", body)) {
        const wanted = (!status || row.dataset.status === status) && (!profile || body.dataset.profile === profile) &&
          row.textContent.toLowerCase().includes(text);
        row.hidden = !wanted;
        here += wanted;
      }
      body.hidden = here === 0;
      shown += here;
    }
    find("#filter-count").textContent = `${shown} of ${clauses.length} clauses`;
  }

  const filter = find("#filter");
  filter.hidden = false;
  filter.addEventListener("input", filterClauses);
  filter.addEventListener("submit", (event) => event.preventDefault());
  filterClauses();

  // The command that replays a failing case, copied.

  for (const button of all(".copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      const command = find("code", button.parentElement);
      try {
        await navigator.clipboard.writeText(command.textContent);
        button.textContent = "Copied";
      } catch {
        // Where a page may not, its reader may.
        getSelection().selectAllChildren(command);
        button.textContent = "Selected";
      }
    });
  }

  // A failing case as a sequence of calls.

  const TARGETS = ["engine", "cluster", "cache"];
  /** In pixels, but the last, in letters; four lanes fit on a small phone. */
  const HEAD = 34, STEP = 42, SIDE = 36, NARROWEST = 66, LETTER = 7.9, LONGEST = 200;

  function lanesOf(calls) {
    const hosts = [...new Set(calls.map((call) => call.host))].sort((a, b) => a - b);
    const called = TARGETS.filter((target) => calls.some((call) => call.target === target));
    return [...hosts.map((host) => `host ${host}`), ...called];
  }

  /** The lanes share what room there is; a label that needs more has its box scroll. */
  function diagram(calls, room) {
    const lanes = lanesOf(calls);
    const spread = Math.max(room, 2 * SIDE + NARROWEST * (lanes.length - 1));
    const gap = lanes.length > 1 ? (spread - 2 * SIDE) / (lanes.length - 1) : 0;
    const place = new Map(lanes.map((lane, at) => [lane, SIDE + gap * at]));
    const labels = calls.map(words);
    const width = Math.max(spread, ...labels.map((label) => 16 + LETTER * label.length));
    const height = HEAD + STEP * calls.length + 16;
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    const steps = draw("g", { role: "list" });
    steps.append(...calls.map((call, at) => step(call, labels[at], HEAD + STEP * at, place, width)));
    svg.append(...lanes.map((lane) => life(lane, place.get(lane), calls, height)), steps);
    return svg;
  }

  function words(call, at) {
    const mark = call.fault ? `\u2717 ${call.fault}: ` : "";
    const label = `${at} ${mark}${call.call} ${call.object}${call.result ? ` = ${call.result}` : ""}`;
    return label.length > LONGEST ? `${label.slice(0, LONGEST - 1)}\u2026` : label;
  }

  /** A host's line ends where it is killed. */
  function life(lane, x, calls, height) {
    const death = calls.findIndex((call) => `host ${call.host}` === lane && (call.fault ?? "").startsWith("crash"));
    const end = death < 0 ? height : HEAD + STEP * death + 30;
    const group = draw("g", {}, draw("line", { class: "life", x1: x, x2: x, y1: HEAD - 8, y2: end }));
    group.append(draw("text", { class: "head", x, y: 18, "text-anchor": "middle" }, lane));
    if (death >= 0) group.append(cross(x, end));
    return group;
  }

  function step(call, label, top, place, width) {
    const from = place.get(`host ${call.host}`), to = place.get(call.target);
    const group = draw("g", { role: "listitem", class: call.fault ? "step bad" : "step" });
    if (call.fault) {
      group.dataset.fault = call.fault;
      group.append(draw("rect", { class: "band", x: 0, y: top, width, height: STEP }));
    }
    group.append(...arrow(from, to, top + 30, call.fault ?? ""), draw("text", { x: 8, y: top + 16 }, label));
    return group;
  }

  /** Before: the call never arrives. After: it arrives, and its answer does not. */
  function arrow(from, to, y, fault) {
    const middle = (from + to) / 2;
    const line = (x1, x2, y) => draw("line", { class: "call", x1, x2, y1: y, y2: y });
    if (fault.endsWith("-before")) return [line(from, middle, y), cross(middle, y)];
    const reached = [line(from, to, y), tip(to, from, y)];
    if (fault.endsWith("-after")) reached.push(line(to, middle, y + 7), cross(middle, y + 7));
    return reached;
  }

  function tip(at, from, y) {
    const back = at + 8 * Math.sign(from - at);
    return draw("path", { class: "tip", d: `M${at} ${y}L${back} ${y - 4}L${back} ${y + 4}Z` });
  }

  function cross(x, y) {
    return draw("path", { class: "cross", d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10` });
  }

  for (const failure of all(".failure")) {
    failure.addEventListener("toggle", () => {
      const box = find(".diagram", failure);
      if (!failure.open || box.firstChild) return;
      const { calls } = data.failures[failure.dataset.at];
      box.append(diagram(calls, box.clientWidth));
      const first = calls.findIndex((call) => call.fault);
      box.scrollTop = Math.max(0, HEAD + STEP * (first - 2));
    });
  }

  function openFailure(at) {
    const failure = find(`.failure[data-at="${at}"]`);
    failure.open = true;
    failure.scrollIntoView({ block: "start" });
    find("summary", failure).focus({ preventScroll: true });
  }

  // The fault matrix as a heat map.

  const heat = find("#heat");
  if (!heat) return;
  const kinds = new Set(data.matrix.flatMap((row) => row.cells.map((cell) => cell.fault)));
  const chosen = new Set(kinds);
  /** What a cell of the table stands for, by its element. */
  const cells = new Map();

  function count(row, call) {
    const counted = row.cells.filter((cell) => cell.call === call && chosen.has(cell.fault));
    const sum = (key) => counted.reduce((total, cell) => total + cell[key], 0);
    return { counted, runs: sum("runs"), violations: sum("violations") };
  }

  function held({ runs, violations }) {
    if (runs === 0) return "untried";
    if (violations === 0) return "yes";
    return violations < runs ? "no" : "never";
  }

  function told(row, call) {
    const { counted, runs, violations } = count(row, call.index);
    const broken = counted.filter((cell) => cell.violations > 0);
    const faults = broken.map((cell) => `${cell.fault} ${cell.violations} of ${cell.runs}`).join(", ");
    const came = runs === 0 ? "not tried" : `${violations} violations in ${runs} runs`;
    return `${row.scenario}, ${row.engine}, call ${call.index} ${call.name}: ${came}${faults && `: ${faults}`}`;
  }

  function failureAt({ row, call }) {
    const met = (planned) => planned.call === call.index && chosen.has(planned.fault);
    return data.failures.findIndex((failure) =>
      failure.scenario === row.scenario && failure.engine === row.engine && failure.schedule.some(met));
  }

  function paint() {
    for (const [element, { row, call }] of cells) {
      const counts = count(row, call.index);
      element.dataset.held = held(counts);
      element.textContent = counts.violations || "";
      element.setAttribute("aria-label", told(row, call));
    }
  }

  function show(cell) {
    find("#heat-detail").textContent = told(cell.row, cell.call);
  }

  function open(cell) {
    if (count(cell.row, cell.call.index).violations === 0) return;
    const at = failureAt(cell);
    if (at >= 0) openFailure(at);
    else find("#heat-detail").textContent += ". No run of it is among the failing cases.";
  }

  /** Only one cell is in the order of tabs; the arrow keys go from there. */
  function enter(cell) {
    for (const other of all('td[tabindex="0"]', heat)) other.tabIndex = -1;
    cell.element.tabIndex = 0;
    cell.element.focus();
  }

  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  function move(event) {
    const cell = cells.get(event.target);
    if (!cell) return;
    if (event.key === "Enter") open(cell);
    const [down, right] = MOVES[event.key] ?? [];
    if (down === undefined) return;
    event.preventDefault();
    const next = grid[cell.at[0] + down]?.[cell.at[1] + right];
    if (next) enter(next);
  }

  const columns = Math.max(0, ...data.matrix.flatMap((row) => row.calls.map((call) => call.index + 1)));
  const numbers = Array.from({ length: columns }, (_, at) => make("th", { scope: "col" }, `${at}`));
  const body = make("tbody");
  const grid = data.matrix.map((row, down) => {
    const line = make("tr", {}, make("th", { scope: "row" }, `${row.scenario} (${row.engine})`));
    const known = new Map(row.calls.map((call) => [call.index, call]));
    const entries = [];
    for (let right = 0; right < columns; right += 1) {
      const call = known.get(right);
      const element = make("td");
      line.append(element);
      if (!call) continue;
      fill(element, { role: "gridcell", tabindex: -1 }, []);
      entries[right] = { element, row, call, at: [down, right] };
      cells.set(element, entries[right]);
    }
    body.append(line);
    return entries;
  });
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "call"), ...numbers));
  heat.append(make("table", { class: "heat", role: "grid", "aria-labelledby": "matrix-title" }, head, body));
  const first = cells.keys().next().value;
  if (first) first.tabIndex = 0;
  heat.addEventListener("keydown", move);
  for (const kind of ["focusin", "mouseover"]) {
    heat.addEventListener(kind, (event) => {
      const cell = cells.get(event.target);
      if (cell) show(cell);
    });
  }
  heat.addEventListener("click", (event) => {
    const cell = cells.get(event.target);
    if (!cell) return;
    enter(cell);
    open(cell);
  });

  const fieldset = find("#kinds");
  fieldset.hidden = false;
  for (const kind of [...kinds].sort()) {
    const box = make("input", { type: "checkbox", value: kind });
    box.checked = true;
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(kind);
      else chosen.delete(kind);
      paint();
    });
    fieldset.append(make("label", {}, box, kind));
  }
  paint();
})();
