// Compare runs and promote one: one module for a notebook, for JupyterLab, for a report and for
// node's tests. It draws, sorts, filters and asks; what is true, and what may be done, Python says.
//
// A host hands over the state and is asked for what needs Python:
//   host = { data: () => ({header, buffers}), get(name), set(name, value), on(name, call),
//            call(verb, words) -> Promise, live: bool, name: "notebook" | "lab" | "report" }
// Text of runs goes into the page as text nodes only.

// ---------------------------------------------------------------- the table, as plain data

export const MISSING = -1; // code of a category that a run does not have

/** Return the columns of a header with their values; numbers are NaN where a run has none. */
export function openTable(header, buffers) {
  const columns = header.columns.map((told, position) => {
    const raw = buffers[told.buffer];
    const bytes = raw instanceof ArrayBuffer ? raw : raw.buffer;
    const start = raw instanceof ArrayBuffer ? 0 : raw.byteOffset;
    const values = told.type === "number"
      ? new Float64Array(bytes.slice(start, start + header.rows * 8))
      : new Int32Array(bytes.slice(start, start + header.rows * 4));
    return { ...told, position, values };
  });
  const byKey = new Map(columns.map((column) => [column.key, column]));
  return { rows: header.rows, columns, byKey, header };
}

export function isMissing(column, row) {
  return column.type === "number" ? Number.isNaN(column.values[row]) : column.values[row] < 0;
}

/** Return a value as Python gave it; null where there is none. */
export function valueOf(column, row) {
  if (isMissing(column, row)) return null;
  return column.type === "number" ? column.values[row] : column.words[column.values[row]];
}

/** Return a number with as many digits as tell it from its neighbours, never in more than 9 signs. */
export function formatNumber(value) {
  if (value === null || Number.isNaN(value)) return "";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
  return value.toFixed(size >= 1000 ? 1 : size >= 100 ? 2 : size >= 10 ? 3 : 4);
}

/** Return a difference with its sign, and with the digits of what it is a difference of. */
export function formatDifference(value, of) {
  const sign = value > 0 ? "+" : value < 0 ? "−" : "±", size = Math.abs(value);
  return sign + (Math.abs(of) >= 0.1 && size < 1 && !Number.isInteger(size) ? size.toFixed(4) : formatNumber(size));
}

export function formatMoment(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "";
  const at = new Date(seconds * 1000);
  const two = (n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

export function textOf(column, row) {
  if (isMissing(column, row)) return "";
  if (column.type !== "number") return column.words[column.values[row]];
  return column.format === "moment" ? formatMoment(column.values[row]) : formatNumber(column.values[row]);
}

/** Return the rows in the order of the sort keys [{key, down}]; missing values last both ways. */
export function orderOf(table, rows, sorts) {
  const ranks = sorts.filter(({ key }) => table.byKey.has(key)).map(({ key, down }) => {
    const column = table.byKey.get(key);
    const sign = down ? -1 : 1;
    if (column.type === "number") return { values: column.values, sign, number: true };
    const order = column.words.map((word, code) => [word, code])
      .sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
    const rank = new Int32Array(column.words.length);
    order.forEach(([, code], position) => { rank[code] = position; });
    return { values: column.values, rank, sign, number: false };
  });
  return Int32Array.from(rows).sort((a, b) => {
    for (const { values, rank, sign, number } of ranks) {
      const x = values[a], y = values[b];
      const noX = number ? Number.isNaN(x) : x < 0, noY = number ? Number.isNaN(y) : y < 0;
      if (noX || noY) { if (noX !== noY) return noX ? 1 : -1; continue; }
      const difference = number ? x - y : rank[x] - rank[y];
      if (difference) return sign * difference;
    }
    return a - b;
  });
}

/** Return the keys of the columns in which the rows do not all have one value. */
export function varyingColumns(table, rows) {
  const varying = new Set();
  for (const column of table.columns) {
    if (!rows.length) break;
    const first = column.values[rows[0]];
    if (rows.some((row) => !Object.is(column.values[row], first))) varying.add(column.key);
  }
  return varying;
}

/** Return the position of the best of the rows in a column that has a direction; -1 if none. */
export function bestOf(column, rows) {
  if (!column.goal || column.type !== "number") return -1;
  let best = -1;
  for (const row of rows) {
    const value = column.values[row];
    if (Number.isNaN(value)) continue;
    if (best < 0 || (column.goal === "max" ? value > column.values[best] : value < column.values[best])) best = row;
  }
  return best;
}

/** Return [times, values, best] of a metric in the order of time: how a search went. */
export function bestSoFar(table, rows, metric, time) {
  const taken = Array.from(rows).filter((row) => !isMissing(metric, row) && !isMissing(time, row))
    .sort((a, b) => time.values[a] - time.values[b] || a - b);
  let best = NaN;
  return taken.map((row) => {
    const value = metric.values[row];
    const better = Number.isNaN(best) || (metric.goal === "min" ? value < best : value > best);
    if (better) best = value;
    return { row, value, best };
  });
}

// ---------------------------------------------------------------- the filter language

export class FilterError extends Error {}

const TOKEN = /\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(<=|>=|!=|==|=|<|>|~)|([(),])|(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))|((?:[\p{L}\p{N}_](?:[\p{L}\p{N}_\-/@]|\.(?=\S))*|`[^`]*`|\.(?=["'`])|"(?:[^"\\]|\\.)*")+))/uy;
const KINDS = { metrics: "metric", metric: "metric", params: "param", param: "param", parameters: "param", tags: "tag", tag: "tag", attributes: "meta", attribute: "meta", attr: "meta" };

function tokens(text) {
  const found = [];
  let at = 0;
  while (text.slice(at).trim()) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) throw new FilterError(`what is ${JSON.stringify(text.slice(at).trim().slice(0, 12))} at ${at + 1}?`);
    const [, quoted, operator, mark, number, word] = match;
    at = TOKEN.lastIndex;
    if (quoted !== undefined) found.push({ kind: "text", value: quoted.slice(1, -1).replace(/\\(.)/g, "$1") });
    else if (operator) found.push({ kind: "operator", value: operator === "==" ? "=" : operator });
    else if (mark) found.push({ kind: mark });
    else if (number !== undefined) found.push({ kind: "number", value: Number(number), raw: number });
    else {
      // metrics."a b" and metrics.`a b`: the quoted part belongs to the name.
      let name = word;
      const rest = /^("(?:[^"\\]|\\.)*"|`[^`]*`)/.exec(text.slice(at));
      if (word.endsWith(".") && rest) { name += rest[0]; at += rest[0].length; }
      found.push({ kind: "word", value: name });
    }
  }
  return found;
}

function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

function columnOf(table, word) {
  const split = /^([a-zA-Z]+)\.(.+)$/s.exec(word);
  const clean = (name) => name.replace(/^(["`])(.*)\1$/s, "$2");
  if (split && KINDS[split[1].toLowerCase()]) {
    const kind = KINDS[split[1].toLowerCase()], name = clean(split[2]);
    const found = table.columns.find((c) => c.kind === kind && (c.name === name || c.key === name));
    if (found) return found;
  }
  const name = clean(word);
  const found = table.columns.filter((c) => c.name === name || c.key === name);
  if (found.length === 1) return found[0];
  if (found.length > 1) throw new FilterError(`${name} is ${found.map((c) => `${c.kind}s.${c.name}`).join(" and ")}: say which`);
  const near = table.columns.map((c) => [distance(c.name, name.replace(/^\w+\./, "")), c.name])
    .sort(([a], [b]) => a - b)[0];
  throw new FilterError(`no column ${name}${near && near[0] <= 3 ? `; is ${near[1]} meant?` : ""}`);
}

/** Return a function row -> bool for a text such as: metrics.auc > 0.9 and (params.model = "xgb" or tags.x in ("a", "b")).
 *
 * Throws FilterError. A text without any operator looks for itself in every word of a run.
 */
export function compileFilter(text, table) {
  if (!text.trim()) return () => true;
  const list = tokens(text);
  if (!list.some((t) => t.kind === "operator" || (t.kind === "word" && /^(in|like|ilike|is)$/i.test(t.value)))) {
    const wanted = text.trim().replace(/^["'](.*)["']$/, "$1").toLowerCase();
    const columns = table.columns.filter((c) => c.type !== "number");
    const hits = columns.map((c) => c.words.map((word) => word.toLowerCase().includes(wanted)));
    return (row) => columns.some((c, i) => c.values[row] >= 0 && hits[i][c.values[row]]);
  }
  let at = 0;
  const peek = () => list[at];
  const isWord = (word) => peek()?.kind === "word" && peek().value.toLowerCase() === word;
  const take = (kind, what) => {
    const token = list[at];
    if (!token || token.kind !== kind) throw new FilterError(`${what} is missing${token ? ` before ${token.value ?? token.kind}` : " at the end"}`);
    at += 1;
    return token;
  };
  const value = () => {
    const token = list[at];
    if (!token || !["text", "number", "word"].includes(token.kind)) throw new FilterError("a value is missing");
    at += 1;
    return token.kind === "number" ? token.value : token.value;
  };
  const either = () => {
    let left = both();
    while (isWord("or")) { at += 1; const a = left, b = both(); left = (row) => a(row) || b(row); }
    return left;
  };
  const both = () => {
    let left = one();
    while (isWord("and")) { at += 1; const a = left, b = one(); left = (row) => a(row) && b(row); }
    return left;
  };
  const one = () => {
    if (isWord("not")) { at += 1; const inner = one(); return (row) => !inner(row); }
    if (peek()?.kind === "(") { at += 1; const inner = either(); take(")", "a closing bracket"); return inner; }
    const token = list[at];
    if (!token || !["word", "text"].includes(token.kind)) throw new FilterError("the name of a column is missing");
    at += 1;
    return comparison(columnOf(table, token.value));
  };
  const comparison = (column) => {
    if (isWord("is")) {
      at += 1;
      const not = isWord("not"); if (not) at += 1;
      const word = take("word", "`null`").value.toLowerCase();
      if (!["null", "none", "missing"].includes(word)) throw new FilterError("after `is` comes `null` or `not null`");
      return (row) => isMissing(column, row) !== not;
    }
    const not = isWord("not"); if (not) at += 1;
    if (isWord("in")) {
      at += 1; take("(", "an opening bracket");
      const allowed = [value()];
      while (peek()?.kind === ",") { at += 1; allowed.push(value()); }
      take(")", "a closing bracket");
      const tests = allowed.map((each) => compare(column, "=", each));
      return (row) => !isMissing(column, row) && tests.some((test) => test(row)) !== not;
    }
    if (isWord("like") || isWord("ilike")) {
      const flags = isWord("ilike") ? "isu" : "su"; at += 1;
      const pattern = new RegExp(`^${String(value()).replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/%/g, ".*").replace(/_/g, ".")}$`, flags);
      return (row) => !isMissing(column, row) && pattern.test(textOf(column, row)) !== not;
    }
    if (not) throw new FilterError("after `not` comes `in` or `like`");
    const operator = take("operator", "a comparison such as = or >").value;
    return compare(column, operator, value());
  };
  const compare = (column, operator, wanted) => {
    if (operator === "~") {
      const part = String(wanted).toLowerCase();
      return (row) => textOf(column, row).toLowerCase().includes(part);
    }
    if (column.type === "number") {
      let number = typeof wanted === "number" ? wanted : Number(wanted);
      if (Number.isNaN(number) && column.format === "moment") number = Date.parse(wanted) / 1000;
      if (Number.isNaN(number)) throw new FilterError(`${column.name} holds numbers, not ${JSON.stringify(wanted)}`);
      const test = { "=": (x) => x === number, "!=": (x) => x !== number, "<": (x) => x < number, "<=": (x) => x <= number, ">": (x) => x > number, ">=": (x) => x >= number }[operator];
      return (row) => !Number.isNaN(column.values[row]) && test(column.values[row]);
    }
    const word = String(wanted);
    const test = { "=": (x) => x === word, "!=": (x) => x !== word, "<": (x) => x < word, "<=": (x) => x <= word, ">": (x) => x > word, ">=": (x) => x >= word }[operator];
    const hits = column.words.map(test);
    return (row) => column.values[row] >= 0 && hits[column.values[row]];
  };
  const found = either();
  if (at < list.length) throw new FilterError(`what is ${list[at].value ?? list[at].kind}? \`and\` or \`or\` may be missing`);
  return found;
}

// ---------------------------------------------------------------- what is shown

const ROW = 26, HEAD = 50, NARROW = 560;
const VERDICTS = { p: ["✓", "pass"], f: ["✗", "fail"], i: ["≈", "inconclusive"], e: ["!", "error"], "-": ["·", "not judged"], w: ["⚠", "warning"] };
const WORDS = { pass: "p", fail: "f", inconclusive: "i", error: "e", warning: "w" };
let mounted = 0;

/** Make an element; what is said comes as text nodes only. */
function make(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inside.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

/** Return a link where the address is one that a page may lead to; else the text alone. */
function link(address, text) {
  const safe = typeof address === "string" && !/^\s*(javascript|data|vbscript):/i.test(address);
  return safe && address ? make("a", { href: address, target: "_blank", rel: "noopener" }, text) : make("span", {}, text);
}

const debounced = (call, wait) => {
  let timer;
  const later = (...words) => { clearTimeout(timer); timer = setTimeout(() => call(...words), wait); };
  later.cancel = () => clearTimeout(timer);
  return later;
};

const VIEW = {
  query: "", sorts: [], selected: [], baseline: "", only_differences: true, hidden: [], shown: [], pinned: [],
  order: [], widths: {}, tab: "table", axes: [], log_axes: [], brushes: {}, scatter: [], metric: "",
};

/** Show the comparison in an element; return what takes it away again. */
export function mount(root, host) {
  const me = `mlnb-${(mounted += 1)}`;
  const started = performance.now();
  const view = {};
  for (const [name, usual] of Object.entries(VIEW)) view[name] = host.get(name) ?? usual;
  let table, rowOfRun, filtered, ordered, columns, varying, champion, baseline, active = 0, anchor = null;
  let details = new Map(), message = null, closing = [];
  const ask = (verb, words = {}) => host.call(verb, words);
  const put = (name, value) => { view[name] = value; host.set(name, value); };

  root.classList.add("mlnb-compare");
  // In command mode JupyterLab takes single keys for itself: `d d` would delete the cell.
  const own = (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation(); };
  root.addEventListener("keydown", own);
  closing.push(() => root.removeEventListener("keydown", own));

  // ------------------------------------------------ parts that stay
  const input = make("input", {
    type: "search", class: "mlnb-filter", placeholder: 'Filter: metrics.auc > 0.9 and params.model = "xgb"',
    "aria-label": "Filter runs", spellcheck: "false", autocomplete: "off",
    oninput: debounced(() => { put("query", input.value); active = 0; refresh(); }, 120),
  });
  input.value = view.query;
  const fault = make("div", { class: "mlnb-fault", role: "alert" });
  const differences = make("input", { type: "checkbox", onchange: () => { put("only_differences", differences.checked); refresh(); } });
  differences.checked = view.only_differences;
  const chooser = make("details", { class: "mlnb-chooser" });
  const tabs = make("div", { class: "mlnb-tabs", role: "tablist", "aria-label": "View" });
  const status = make("div", { class: "mlnb-status", role: "status", "aria-live": "polite" });
  const live = make("div", { class: "mlnb-rollouts" });
  const main = make("div", { class: "mlnb-main" });
  const side = make("aside", { class: "mlnb-side", "aria-label": "Chosen run" });
  root.replaceChildren(
    make("div", { class: "mlnb-bar" },
      input,
      make("label", { class: "mlnb-check", title: "Leave out columns in which all shown runs agree" }, differences, " Only differences"),
      chooser, tabs),
    fault, live, make("div", { class: "mlnb-body" }, main, side), status);

  // ------------------------------------------------ state
  function load() {
    const { header, buffers } = host.data();
    table = openTable(header, buffers);
    const runs = table.byKey.get("run");
    rowOfRun = new Map();
    for (let row = 0; row < table.rows; row += 1) rowOfRun.set(valueOf(runs, row), row);
    champion = header.champion ?? -1;
    details = new Map();
  }
  const runOf = (row) => valueOf(table.byKey.get("run"), row);
  const nameOf = (row) => textOf(table.byKey.get("name"), row) || runOf(row).slice(0, 8);
  const chosen = () => view.selected.filter((run) => rowOfRun.has(run)).map((run) => rowOfRun.get(run));
  const letter = (gate, row) => table.header.gates[gate].letters[row];
  function verdictOf(row) {
    const column = table.byKey.get("verdict");
    return (column && WORDS[textOf(column, row)]) || "-";
  }

  function refresh() {
    let keeps;
    try {
      keeps = compileFilter(view.query, table);
      fault.textContent = "";
      input.removeAttribute("aria-invalid");
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      fault.textContent = error.message;
      input.setAttribute("aria-invalid", "true");
      keeps = () => true;
    }
    filtered = [];
    for (let row = 0; row < table.rows; row += 1) if (keeps(row)) filtered.push(row);
    const brushed = brushFilter();
    const rows = brushed ? filtered.filter(brushed) : filtered;
    ordered = orderOf(table, rows, view.sorts);
    baseline = rowOfRun.get(view.baseline) ?? champion;
    varying = varyingColumns(table, ordered);
    columns = chooseColumns();
    if (active >= ordered.length) active = Math.max(0, ordered.length - 1);
    draw();
  }

  function brushFilter() {
    const tests = Object.entries(view.brushes).filter(([key]) => table.byKey.has(key)).map(([key, [low, high]]) => {
      const column = table.byKey.get(key);
      return (row) => column.values[row] >= low && column.values[row] <= high;
    });
    return tests.length ? (row) => tests.every((test) => test(row)) : null;
  }

  const FIRST = ["name", "verdict"];
  function chooseColumns() {
    const all = table.columns.filter((c) => c.kind !== "hidden" && !FIRST.includes(c.key));
    const place = new Map(view.order.map((key, position) => [key, position]));
    const shown = all.filter((c) => !view.hidden.includes(c.key)
      && (view.shown.includes(c.key) || !c.optional)
      && (!view.only_differences || view.shown.includes(c.key) || varying.has(c.key) || ordered.length < 2));
    const rank = (c) => place.get(c.key) ?? 1000 + c.position;
    shown.sort((a, b) => view.pinned.includes(b.key) - view.pinned.includes(a.key) || rank(a) - rank(b));
    const first = FIRST.filter((key) => table.byKey.has(key)).map((key) => table.byKey.get(key));
    const made = [...first, ...shown];
    let left = 30;
    return made.map((column, i) => {
      const width = view.widths[column.key] ?? widthOf(column);
      const pinned = root.clientWidth > NARROW ? i < first.length || view.pinned.includes(column.key) : i === 0;
      const placed = { column, width, left, pinned };
      left += width;
      return placed;
    });
  }
  function widthOf(column) {
    if (column.key === "name") return 170;
    if (column.key === "verdict") return 86 + 16 * Math.min(8, table.header.gates.length) + (table.header.gates.length > 8 ? 26 : 0);
    const title = 30 + 7.2 * Math.min(column.name.length, 22);
    if (column.type === "number") return Math.max(column.goal ? 152 : column.format === "moment" ? 142 : 86, title);
    const longest = column.words.slice(0, 200).reduce((most, word) => Math.max(most, word.length), 0);
    return Math.max(title, Math.min(220, 24 + 7 * longest));
  }

  // ------------------------------------------------ drawing
  function draw() {
    drawTabs(); drawChooser();
    const draws = { table: drawTable, chart: drawChart, selected: drawPivot, history: drawHistory };
    (draws[view.tab] ?? drawTable)();
    drawSide(); drawStatus();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      root.dataset.paintMs = (performance.now() - started).toFixed(0);
      root.dataset.paints = String(Number(root.dataset.paints || 0) + 1);
    }));
  }

  function drawStatus() {
    const hidden = table.columns.filter((c) => c.kind !== "hidden").length - columns.length;
    const parts = [`${ordered.length.toLocaleString()} of ${table.rows.toLocaleString()} runs`];
    if (view.selected.length) parts.push(`${chosen().length} chosen`);
    if (hidden > 0) parts.push(`${hidden} column${hidden === 1 ? "" : "s"} not shown`);
    if (Object.keys(view.brushes).length) parts.push("brushed in the plot");
    if (baseline >= 0) parts.push(`compared with ${baseline === champion ? `the model in ${table.header.champion_environment || "production"}, ` : ""}${nameOf(baseline)}`);
    if (table.header.taken_at) parts.push(`as of ${formatMoment(table.header.taken_at)}`);
    if (!host.live) parts.push("read-only");
    status.textContent = parts.join(" · ");
  }

  const TABS = [["table", "Table"], ["chart", "Plots"], ["selected", "Side by side"], ["history", "History"]];
  function drawTabs() {
    const there = TABS.filter(([name]) => name !== "history" || host.live);
    const turn = (by) => {
      const at = there.findIndex(([name]) => name === view.tab);
      put("tab", there[(at + by + there.length) % there.length][0]); draw();
      tabs.querySelector("[aria-selected=true]").focus();
    };
    tabs.replaceChildren(...there.map(([name, text]) => make("button", {
      type: "button", role: "tab", id: `${me}-tab-${name}`, "aria-selected": String(view.tab === name),
      "aria-controls": `${me}-view`, tabindex: view.tab === name ? "0" : "-1",
      onclick: () => { put("tab", name); draw(); },
      onkeydown: (event) => {
        if (event.key === "ArrowRight" || event.key === "ArrowLeft") { event.preventDefault(); turn(event.key === "ArrowRight" ? 1 : -1); }
      },
    }, name === "selected" && view.selected.length ? `${text} (${chosen().length})` : text)));
    main.id = `${me}-view`;
    main.setAttribute("role", "tabpanel");
    main.setAttribute("aria-labelledby", `${me}-tab-${view.tab}`);
  }

  function drawChooser() {
    const open = chooser.open, scroll = chooser.querySelector(".mlnb-list")?.scrollTop;
    const move = (key, by) => {
      const keys = columns.slice(FIRST.length).map(({ column }) => column.key);
      const at = keys.indexOf(key), to = at + by;
      if (at < 0 || to < 0 || to >= keys.length) return;
      [keys[at], keys[to]] = [keys[to], keys[at]];
      put("order", keys); refresh();
    };
    const visible = new Set(columns.map(({ column }) => column.key));
    const line = (column) => {
      const box = make("input", { type: "checkbox", onchange: () => {
        put("hidden", box.checked ? view.hidden.filter((key) => key !== column.key) : [...view.hidden, column.key]);
        put("shown", box.checked ? [...new Set([...view.shown, column.key])] : view.shown.filter((key) => key !== column.key));
        refresh();
      } });
      box.checked = visible.has(column.key);
      const pinned = view.pinned.includes(column.key);
      const says = `${column.kind}s.${column.name}`;
      return make("div", { class: "mlnb-line" },
        make("label", {}, box, ` ${column.name}`, make("small", {}, ` ${column.kind}`)),
        make("button", { type: "button", "aria-label": `Pin ${says}`, "aria-pressed": String(pinned), title: "Pin", onclick: () => {
          put("pinned", pinned ? view.pinned.filter((key) => key !== column.key) : [...view.pinned, column.key]); refresh();
        } }, pinned ? "●" : "○"),
        make("button", { type: "button", "aria-label": `Move ${says} to the left`, title: "To the left", onclick: () => move(column.key, -1) }, "←"),
        make("button", { type: "button", "aria-label": `Move ${says} to the right`, title: "To the right", onclick: () => move(column.key, 1) }, "→"));
    };
    const rest = table.columns.filter((c) => c.kind !== "hidden" && !FIRST.includes(c.key));
    rest.sort((a, b) => visible.has(b.key) - visible.has(a.key) || a.position - b.position);
    chooser.replaceChildren(make("summary", {}, "Columns"),
      make("div", { class: "mlnb-list" }, rest.slice(0, 300).map(line),
        make("button", { type: "button", class: "mlnb-plain", onclick: () => {
          for (const name of ["hidden", "shown", "pinned", "order"]) put(name, []);
          put("widths", {}); refresh();
        } }, "As at first")));
    chooser.open = open;
    if (scroll) chooser.querySelector(".mlnb-list").scrollTop = scroll;
  }

  // ------------------------------------------------ the table
  let grid = null;
  function drawTable() {
    if (!table.rows) return nothing("No run yet.", "`dvc repro` makes the first candidate, `mlnb sweep` many.");
    if (!grid || !main.contains(grid.box)) {
      const canvas = make("div", { class: "mlnb-rows", role: "rowgroup" });
      const head = make("div", { class: "mlnb-head", role: "rowgroup" });
      const base = make("div", { class: "mlnb-base", role: "rowgroup" });
      const box = make("div", {
        class: "mlnb-grid", role: "grid", tabindex: "0", "aria-multiselectable": "true", "aria-label": "Runs",
        onscroll: () => drawRows(), onkeydown: keys,
      }, head, base, canvas);
      main.replaceChildren(box);
      grid = { box, head, base, canvas, pool: [], shape: "" };
      const watch = new ResizeObserver(() => { if (grid?.box === box) { columns = chooseColumns(); drawHead(); drawRows(); } });
      watch.observe(box);
      closing.push(() => watch.disconnect());
    }
    grid.box.setAttribute("aria-rowcount", String(ordered.length + 1));
    grid.box.setAttribute("aria-colcount", String(columns.length + 1));
    drawHead(); drawRows();
  }

  function nothing(text, more) {
    grid = null;
    main.replaceChildren(make("div", { class: "mlnb-nothing" }, make("p", {}, text), more && make("p", {}, more)));
  }

  const total = () => 30 + columns.reduce((sum, { width }) => sum + width, 0);

  function drawHead() {
    const everySelected = ordered.length > 0 && chosen().length >= ordered.length;
    const all = make("input", { type: "checkbox", "aria-label": "Choose all shown runs", tabindex: "-1", onchange: () => {
      put("selected", all.checked ? Array.from(ordered, runOf) : []); draw();
    } });
    all.checked = everySelected;
    const cells = columns.map(({ column, width, left, pinned }, i) => {
      const at = view.sorts.findIndex(({ key }) => key === column.key);
      const sort = at < 0 ? null : view.sorts[at];
      const arrow = sort ? ` ${sort.down ? "↓" : "↑"}${view.sorts.length > 1 ? at + 1 : ""}` : "";
      const goal = column.goal ? (column.goal === "max" ? "more is better" : "less is better") : "";
      const handle = make("span", { class: "mlnb-handle", "aria-hidden": "true", onpointerdown: (event) => resize(event, column, width), onclick: (event) => event.stopPropagation() });
      return make("div", {
        role: "columnheader", class: `mlnb-cell mlnb-${column.kind}${pinned ? " mlnb-pinned" : ""}${column.type === "number" ? " mlnb-number" : ""}`,
        "aria-sort": sort ? (sort.down ? "descending" : "ascending") : "none", "aria-colindex": String(i + 2),
        style: { width: `${width}px`, left: pinned ? `${left}px` : "" },
      }, make("button", { type: "button", tabindex: "-1", title: [`${column.kind}: ${column.name}`, goal, "Shift-click sorts by this as well"].filter(Boolean).join("\n"),
        onclick: (event) => sortBy(column, event.shiftKey) },
        make("span", { class: "mlnb-kind" }, column.kind === "meta" ? "" : column.kind),
        make("span", { class: "mlnb-name" }, column.name, make("b", {}, arrow))), handle);
    });
    grid.head.style.width = grid.base.style.width = `${total()}px`;
    grid.head.replaceChildren(make("div", { class: "mlnb-row", role: "row", "aria-rowindex": "1" },
      make("div", { class: "mlnb-cell mlnb-box mlnb-pinned", role: "columnheader", style: { left: "0" } }, all), cells));
    const show = baseline >= 0;
    grid.base.hidden = !show;
    grid.base.replaceChildren();
    if (show) { const row = newRow(); grid.base.append(row.node); fillRow(row, baseline, -1); }
  }

  function sortBy(column, more) {
    const now = view.sorts.find(({ key }) => key === column.key);
    const first = column.type === "number" && column.goal !== "min";
    const next = !now ? { key: column.key, down: first } : now.down === first ? { key: column.key, down: !first } : null;
    const others = more ? view.sorts.filter(({ key }) => key !== column.key) : [];
    if (more && now && next) put("sorts", view.sorts.map((each) => (each === now ? next : each)));
    else put("sorts", next ? [...others, next] : others);
    active = 0;
    grid.box.scrollTop = 0;
    refresh();
  }

  function resize(event, column, width) {
    event.preventDefault();
    const from = event.clientX;
    const turn = (moved) => { put("widths", { ...view.widths, [column.key]: Math.max(48, width + moved.clientX - from) }); columns = chooseColumns(); drawHead(); drawRows(); };
    const end = () => { window.removeEventListener("pointermove", turn); window.removeEventListener("pointerup", end); };
    window.addEventListener("pointermove", turn);
    window.addEventListener("pointerup", end);
  }

  /** Return a row of the pool: a node whose cells are filled again for each run. */
  function newRow() {
    const box = make("input", { type: "checkbox", tabindex: "-1" });
    const cells = columns.map(({ column, width, left, pinned }, i) => {
      const inside = column.key === "verdict" ? null : document.createTextNode("");
      const difference = column.goal ? make("span", { class: "mlnb-difference" }) : null;
      const node = make("div", {
        role: "gridcell", "aria-colindex": String(i + 2),
        class: `mlnb-cell mlnb-${column.kind}${pinned ? " mlnb-pinned" : ""}${column.type === "number" ? " mlnb-number" : ""}`,
        style: { width: `${width}px`, left: pinned ? `${left}px` : "" },
      });
      if (inside) node.append(make("bdi", {}, inside));
      if (difference) node.append(difference);
      return { node, inside, difference };
    });
    const node = make("div", { class: "mlnb-row", role: "row" },
      make("div", { class: "mlnb-cell mlnb-box mlnb-pinned", role: "gridcell", "aria-colindex": "1", style: { left: "0" } }, box), cells.map((cell) => cell.node));
    const row = { node, box, cells, run: -1 };
    box.addEventListener("click", (event) => { event.stopPropagation(); choose(row.run, event.shiftKey, row.position); });
    node.addEventListener("click", (event) => {
      if (event.altKey) return setBaseline(row.run);
      if (row.position >= 0) active = row.position;
      if (event.shiftKey || event.ctrlKey || event.metaKey) return choose(row.run, event.shiftKey, row.position);
      lookAt(row.run);
    });
    return row;
  }

  function fillRow(row, run, position) {
    row.run = run; row.position = position;
    const selected = view.selected.includes(runOf(run));
    const { node } = row;
    node.id = position >= 0 ? `${me}-row-${position}` : "";
    node.setAttribute("aria-rowindex", String(position + 2));
    node.setAttribute("aria-selected", String(selected));
    node.className = `mlnb-row${selected ? " mlnb-selected" : ""}${position === active && position >= 0 ? " mlnb-active" : ""}${run === baseline ? " mlnb-baseline" : ""}`;
    row.box.checked = selected;
    row.box.setAttribute("aria-label", `Choose ${nameOf(run)}`);
    columns.forEach(({ column }, i) => {
      const cell = row.cells[i];
      if (column.key === "verdict") return fillVerdict(cell.node, run);
      const text = column.key === "name" ? nameOf(run) : textOf(column, run);
      if (cell.inside.data !== text) cell.inside.data = text;
      cell.node.title = text.length > 12 || column.key === "name" ? text : "";
      cell.node.classList.toggle("mlnb-best", grid.best?.get(column.key) === run);
      if (cell.difference) fillDifference(cell.difference, column, run);
    });
  }

  function fillVerdict(node, run) {
    const now = `${verdictOf(run)}${table.header.gates.map((_, gate) => letter(gate, run)).join("")}`;
    if (node.dataset.letters === now) return;
    node.dataset.letters = now;
    const [sign, word] = VERDICTS[verdictOf(run)];
    const each = table.header.gates.slice(0, 8).map((gate, i) => {
      const [mark, says] = VERDICTS[letter(i, run)] ?? VERDICTS["-"];
      return make("span", { class: `mlnb-${says.replace(" ", "-")}`, title: `${gate.name}: ${says}` }, mark);
    });
    const more = table.header.gates.length > 8 ? make("span", { class: "mlnb-more" }, `+${table.header.gates.length - 8}`) : null;
    node.setAttribute("aria-label", `${word}; ${table.header.gates.map((gate, i) => `${gate.name} ${(VERDICTS[letter(i, run)] ?? VERDICTS["-"])[1]}`).join(", ")}`);
    node.replaceChildren(make("span", { class: `mlnb-verdict mlnb-${word.replace(" ", "-")}` }, `${sign} ${verdictOf(run) === "-" ? "" : word === "inconclusive" ? "open" : word}`), ...each, ...(more ? [more] : []));
  }

  /** Return what a run differs from the baseline by in a metric: the paired difference with its
   * interval where Python has computed one (against the model in production), else a bare one. */
  function differenceOf(column, run) {
    const paired = baseline === champion ? table.header.differences?.[column.key]?.[run] : null;
    if (paired) return { by: paired[0], low: paired[1], high: paired[2] };
    const by = column.values[run] - column.values[baseline];
    return { by, low: NaN, high: NaN };
  }

  function fillDifference(node, column, run) {
    node.textContent = ""; node.className = "mlnb-difference"; node.title = "";
    if (baseline < 0 || run === baseline) return;
    const { by, low, high } = differenceOf(column, run);
    if (Number.isNaN(by)) return;
    node.textContent = formatDifference(by, column.values[baseline]);
    if (Number.isNaN(low)) { node.classList.add("mlnb-bare"); node.title = "difference of two figures; no interval is known"; return; }
    const sign = column.goal === "max" ? 1 : -1;
    const better = sign > 0 ? low > 0 : high < 0, worse = sign > 0 ? high < 0 : low > 0;
    node.classList.add(better ? "mlnb-better" : worse ? "mlnb-worse" : "mlnb-equal");
    node.textContent = `${better ? "▲" : worse ? "▼" : "≈"} ${node.textContent}`;
    node.title = `paired on the same rows: ${formatNumber(low)} to ${formatNumber(high)}; ${better ? "better" : worse ? "worse" : "no difference is shown"}`;
  }

  function drawRows() {
    if (!grid) return;
    const { box, canvas } = grid;
    const shape = columns.map(({ column, width, pinned }) => `${column.key}:${width}:${pinned}`).join("|");
    if (shape !== grid.shape) { canvas.replaceChildren(); grid.pool = []; grid.shape = shape; }
    const few = ordered.length > 20000 ? ordered.slice(0, 20000) : ordered;
    if (grid.bestOf !== ordered) { grid.bestOf = ordered; grid.best = new Map(table.columns.filter((c) => c.goal).map((c) => [c.key, bestOf(c, few)])); }
    canvas.style.height = `${ordered.length * ROW}px`;
    canvas.style.width = `${total()}px`;
    const top = Math.max(0, Math.floor(box.scrollTop / ROW) - 4);
    const count = Math.min(ordered.length - top, Math.ceil((box.clientHeight || 400) / ROW) + 8);
    while (grid.pool.length < count) { const row = newRow(); grid.pool.push(row); canvas.append(row.node); }
    grid.pool.forEach((row, i) => {
      const there = i < count;
      row.node.hidden = !there;
      if (!there) { row.node.id = ""; return; }
      row.node.style.transform = `translateY(${(top + i) * ROW}px)`;
      fillRow(row, ordered[top + i], top + i);
    });
    if (ordered.length) box.setAttribute("aria-activedescendant", `${me}-row-${active}`);
    else box.removeAttribute("aria-activedescendant");
  }

  function choose(run, range, position) {
    const key = runOf(run);
    if (range && anchor !== null && position >= 0) {
      const [low, high] = [Math.min(anchor, position), Math.max(anchor, position)];
      put("selected", [...new Set([...view.selected, ...Array.from(ordered.slice(low, high + 1), runOf)])]);
    } else {
      put("selected", view.selected.includes(key) ? view.selected.filter((each) => each !== key) : [...view.selected, key]);
      anchor = position;
    }
    draw();
  }
  function setBaseline(run) { put("baseline", run === baseline && run !== champion ? "" : runOf(run)); refresh(); }

  function keys(event) {
    const page = Math.max(1, Math.floor((grid.box.clientHeight - HEAD) / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.target !== grid.box && event.target.tagName === "BUTTON" && (event.key === "Enter" || event.key === " ")) return;
    if (event.key in steps && !event.altKey) {
      event.preventDefault();
      const from = active;
      active = Math.max(0, Math.min(ordered.length - 1, active + steps[event.key]));
      if (event.shiftKey) { anchor ??= from; choose(ordered[active], true, active); }
      const y = active * ROW, { box } = grid;
      const visible = box.clientHeight - HEAD - (grid.base.hidden ? 0 : ROW);
      if (y < box.scrollTop) box.scrollTop = y;
      if (y + ROW > box.scrollTop + visible) box.scrollTop = y + ROW - visible;
      drawRows(); drawSide();
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      event.preventDefault(); grid.box.scrollLeft += event.key === "ArrowRight" ? 80 : -80;
    } else if (event.key === " " && ordered.length) { event.preventDefault(); choose(ordered[active], false, active); }
    else if (event.key === "Enter" && ordered.length) { event.preventDefault(); lookAt(ordered[active]); side.querySelector("button, a, select, input")?.focus(); }
    else if (event.key === "b" && ordered.length && plain(event)) { event.preventDefault(); setBaseline(ordered[active]); }
    else if (event.key === "/" && plain(event)) { event.preventDefault(); input.focus(); }
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); put("selected", Array.from(ordered, runOf)); draw(); }
    else if (event.key === "Escape") { put("selected", []); draw(); }
  }
  const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;

  // ------------------------------------------------ one run: its gates, where it comes from, promotion
  let looked = null;
  function lookAt(row) { looked = runOf(row); message = null; draw(); side.scrollIntoView?.({ block: "nearest" }); }

  function detailOf(run) {
    if (!details.has(run)) {
      details.set(run, null);
      ask("details", { run }).then((found) => { details.set(run, found); if (looked === run) drawSide(); },
        (error) => { details.set(run, { fault: error.message }); if (looked === run) drawSide(); });
    }
    return details.get(run);
  }

  function drawSide() {
    side.hidden = !looked || !rowOfRun.has(looked);
    root.classList.toggle("mlnb-with-side", !side.hidden);
    if (side.hidden) return;
    const row = rowOfRun.get(looked), told = detailOf(looked);
    const close = make("button", { type: "button", class: "mlnb-close", "aria-label": "Close", onclick: () => { looked = null; message = null; drawSide(); grid?.box.focus(); } }, "×");
    const title = make("h3", {}, make("bdi", {}, nameOf(row)), table.header.environments?.filter((e) => e.run === looked).map((e) => make("span", { class: "mlnb-badge" }, e.name)));
    const parts = [make("header", {}, title, close)];
    if (!told) parts.push(make("p", { class: "mlnb-quiet" }, "Asking Python…"));
    else if (told.fault) parts.push(make("p", { class: "mlnb-fault" }, told.fault));
    else parts.push(gatesOf(told), actionsOf(told), lineageOf(told));
    side.replaceChildren(...parts);
  }

  function gatesOf(told) {
    if (!told.gates?.length) return make("p", { class: "mlnb-quiet" }, told.judged || "No gate has judged this run.");
    return make("table", { class: "mlnb-gates" }, make("caption", {}, "Gates"),
      make("tbody", {}, told.gates.map((gate) => {
        const [sign, word] = VERDICTS[WORDS[gate.verdict]] ?? VERDICTS["-"];
        const range = typeof gate.low === "number" || typeof gate.high === "number"
          ? make("div", { class: "mlnb-quiet" }, `${formatNumber(gate.low ?? NaN) || "−∞"} to ${formatNumber(gate.high ?? NaN) || "∞"}`) : null;
        return make("tr", { class: `mlnb-${word.replace(" ", "-")}` },
          make("td", { title: word }, make("span", { role: "img", "aria-label": word }, sign)),
          make("td", {}, gate.name, gate.reason ? make("div", { class: "mlnb-quiet" }, gate.reason) : null),
          make("td", { class: "mlnb-number" }, typeof gate.value === "number" ? formatNumber(gate.value) : gate.value ?? "", range));
      })));
  }

  function lineageOf(told) {
    const facts = Object.entries(told.lineage ?? {}).filter(([, value]) => value);
    return make("dl", { class: "mlnb-lineage" },
      facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value.href ? link(host.open ? host.open(value.href) : value.href, value.text) : String(value.text ?? value))]));
  }

  function actionsOf(told) {
    if (!host.live) return make("p", { class: "mlnb-quiet" }, "Read-only: open this comparison in JupyterLab, or run `mlnb promote`, to promote.");
    if (!told.actions?.length) return make("p", { class: "mlnb-quiet" }, told.why_not || "Nothing can be promoted here.");
    const reason = make("input", { type: "text", placeholder: "Why? Kept for ever.", "aria-label": "Reason", maxlength: "500", oninput: () => { words = reason.value; } });
    reason.value = words;
    const target = make("select", { "aria-label": "Environment", onchange: () => { where = target.value; drawSide(); } },
      told.actions.map(({ environment }) => make("option", { value: environment }, environment)));
    target.value = told.actions.some(({ environment }) => environment === where) ? where : told.actions[0].environment;
    const action = told.actions.find(({ environment }) => environment === target.value);
    const go = (verb, text) => make("button", { type: "button", class: verb === "plan" ? "" : "mlnb-primary", disabled: !action.allowed, title: action.allowed ? "" : action.why,
      onclick: () => (verb === "plan" ? plan(told, action) : act(verb, { run: looked, version: action.version, environment: action.environment, reason: reason.value })) }, text);
    const box = make("section", { class: "mlnb-actions", "aria-label": "Promotion" },
      make("div", {}, target, reason),
      make("div", {}, go("plan", `Promote to ${action.environment}…`),
        action.ask ? go("ask", "Ask for approval") : null, action.approve ? go("approve", "Approve") : null),
      action.allowed ? null : make("p", { class: "mlnb-why" }, action.why));
    if (message) box.append(message);
    return box;
  }
  let words = "", where = "production";

  function say(text, good) {
    message = make("p", { class: good ? "mlnb-done" : "mlnb-fault", role: good ? "status" : "alert" }, text);
    drawSide();
  }

  /** Ask Python what a promotion would do, and show it before anything is done. */
  function plan(told, action) {
    const reason = words.trim();
    if (!reason) { say("Say why first: the reason is part of the record.", false); side.querySelector("input[type=text]")?.focus(); return; }
    waiting("Judging again…");
    ask("plan", { run: looked, environment: action.environment, reason }).then((found) => {
      const yes = make("button", { type: "button", class: "mlnb-primary", disabled: !found.allowed, onclick: () => act("promote", { run: looked, environment: action.environment, reason, expected: found.current ?? null }) }, "Promote");
      const no = make("button", { type: "button", onclick: () => { message = null; drawSide(); side.querySelector("button.mlnb-close")?.focus(); } }, "Leave it");
      const id = `${me}-plan`;
      message = make("div", { class: "mlnb-plan", role: "alertdialog", "aria-labelledby": id, "aria-modal": "false",
        onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); no.click(); } } },
      make("h4", { id }, found.allowed ? `What will happen in ${action.environment}` : `Not possible in ${action.environment}`),
      make("ul", {}, found.words.map((line) => make("li", {}, line))),
      found.gates?.length ? make("ul", { class: "mlnb-short" }, found.gates.map((gate) => make("li", { class: `mlnb-${gate.verdict}` }, `${(VERDICTS[WORDS[gate.verdict]] ?? VERDICTS["-"])[0]} ${gate.name}: ${gate.verdict}`))) : null,
      make("div", {}, yes, no));
      drawSide();
      (found.allowed ? yes : no).focus();
    }, (error) => say(error.message, false));
  }

  function act(verb, given) {
    waiting(verb === "promote" ? "Promoting…" : "Asking Python…");
    ask(verb, given).then((found) => {
      details.delete(looked);
      say(found.words.join(" "), true);
      host.renew?.();
    }, (error) => { details.delete(looked); say(error.message, false); });
  }

  function waiting(text) {
    const line = make("p", { class: "mlnb-quiet", role: "status" }, text);
    message = line;
    drawSide();
    setTimeout(() => { if (message === line) line.textContent = `${text} Python has not answered yet: a cell may be running, and this waits for its end.`; }, 4000);
  }

  // ------------------------------------------------ runs side by side
  function drawPivot() {
    grid = null;
    const rows = chosen().slice(0, 8);
    if (!rows.length) return nothing("No run is chosen.", "Tick 2 to 8 runs in the table to see them side by side.");
    if (baseline >= 0 && !rows.includes(baseline) && rows.length < 8) rows.unshift(baseline);
    const differing = varyingColumns(table, rows);
    const all = table.columns.filter((c) => c.kind !== "hidden" && c.key !== "name" && c.key !== "run");
    const shown = all.filter((c) => rows.some((row) => !isMissing(c, row)) && (!view.only_differences || differing.has(c.key)));
    shown.sort((a, b) => differing.has(b.key) - differing.has(a.key) || a.position - b.position);
    const equal = all.filter((c) => rows.some((row) => !isMissing(c, row))).length - shown.length;
    const code = make("div", { class: "mlnb-code" });
    const body = shown.map((column) => {
      const best = bestOf(column, rows);
      return make("tr", {}, make("th", { scope: "row" }, make("span", { class: "mlnb-kind" }, column.kind === "meta" ? "" : column.kind), " ", column.name),
        rows.map((row) => {
          const difference = column.type === "number" ? make("span", { class: "mlnb-difference" }) : null;
          if (column.goal) fillDifference(difference, column, row);
          return make("td", { class: `${column.type === "number" ? "mlnb-number" : ""}${row === best && rows.length > 1 ? " mlnb-best" : ""}` }, make("bdi", {}, textOf(column, row) || "–"), difference);
        }));
    });
    const two = rows.filter((row) => chosen().includes(row));
    const pair = two.length === 2 ? two : rows.length === 2 ? rows : null;
    main.replaceChildren(make("div", { class: "mlnb-scroll", tabindex: "0", role: "region", "aria-label": "Runs side by side" },
      make("table", { class: "mlnb-pivot" },
        make("thead", {}, make("tr", {}, make("td"), rows.map((row) => make("th", { scope: "col" }, make("bdi", {}, nameOf(row)),
          row === champion ? make("span", { class: "mlnb-badge" }, table.header.champion_environment || "production") : row === baseline ? make("span", { class: "mlnb-badge" }, "baseline") : null)))),
        make("tbody", {}, body)),
      equal > 0 ? make("p", { class: "mlnb-quiet" }, `${equal} more in which they agree are not shown.`) : null,
      pair && host.live ? make("button", { type: "button", onclick: () => {
        code.replaceChildren(make("p", { class: "mlnb-quiet" }, "Asking Python…"));
        ask("diff", { a: runOf(pair[0]), b: runOf(pair[1]) }).then((found) => code.replaceChildren(...drawDiff(found)),
          (error) => code.replaceChildren(make("p", { class: "mlnb-fault" }, error.message)));
      } }, `What else differs: ${nameOf(pair[0])} → ${nameOf(pair[1])}`) : null, code));
  }

  function drawDiff(found) {
    const files = found.files ?? [];
    if (!files.length) return [make("p", { class: "mlnb-quiet" }, found.words?.join(" ") || "Code, parameters and data are the same.")];
    return [...(found.words ?? []).map((text) => make("p", { class: "mlnb-quiet" }, text)), ...files.map((file) => make("details", { open: files.length < 6 },
      make("summary", {}, file.name),
      make("pre", {}, file.lines.map((line) => make("span", { class: line.startsWith("+") ? "mlnb-added" : line.startsWith("-") ? "mlnb-removed" : "" }, `${line}\n`)))))];
  }

  // ------------------------------------------------ history of an environment
  let environment = "";
  function drawHistory() {
    grid = null;
    const names = (table.header.environments ?? []).map((each) => each.name);
    if (!names.length) return nothing("Nothing was promoted yet.", "");
    if (!names.includes(environment)) environment = names.includes("production") ? "production" : names[0];
    const list = make("div", { class: "mlnb-scroll", tabindex: "0", role: "region", "aria-label": `History of ${environment}` }, make("p", { class: "mlnb-quiet" }, "Asking Python…"));
    const pick = make("select", { "aria-label": "Environment", onchange: () => { environment = pick.value; drawHistory(); } }, names.map((name) => make("option", { value: name }, name)));
    pick.value = environment;
    main.replaceChildren(make("div", { class: "mlnb-bar" }, pick), list);
    const asked = environment;
    ask("history", { environment: asked }).then(({ entries }) => {
      if (asked !== environment) return;
      if (!entries.length) { list.replaceChildren(make("p", { class: "mlnb-quiet" }, `Nothing was ever promoted to ${asked}.`)); return; }
      list.replaceChildren(make("table", { class: "mlnb-history" },
        make("thead", {}, make("tr", {}, ["When", "What", "Version", "Who", "Why", ""].map((text) => make("th", { scope: "col" }, text)))),
        make("tbody", {}, entries.map((entry) => make("tr", {}, make("td", {}, entry.at), make("td", {}, entry.kind), make("td", { class: "mlnb-number" }, String(entry.version ?? "")),
          make("td", {}, make("bdi", {}, entry.who)), make("td", {}, make("bdi", {}, entry.reason)),
          make("td", {}, entry.current ? make("span", { class: "mlnb-badge" }, "now") : entry.can_return ? make("button", { type: "button", onclick: (event) => returnTo(event.target, asked, entry) }, "Roll back to this…") : ""))))));
    }, (error) => list.replaceChildren(make("p", { class: "mlnb-fault", role: "alert" }, error.message)));
  }

  function returnTo(button, name, entry) {
    const reason = make("input", { type: "text", placeholder: "Why? Kept for ever.", "aria-label": "Reason for going back" });
    const says = make("span", { class: "mlnb-quiet", role: "status" });
    const go = make("button", { type: "button", class: "mlnb-primary", onclick: () => {
      if (!reason.value.trim()) { says.textContent = "Say why first."; reason.focus(); return; }
      says.textContent = "Rolling back…"; go.disabled = true;
      ask("rollback", { environment: name, version: entry.version, reason: reason.value.trim() })
        .then(() => { host.renew?.(); drawHistory(); }, (error) => { says.className = "mlnb-fault"; says.textContent = error.message; go.disabled = false; });
    } }, `Roll ${name} back to version ${entry.version}`);
    button.replaceWith(make("div", { class: "mlnb-actions" }, reason, go, says));
    reason.focus();
  }

  // ------------------------------------------------ a roll-out that is going on
  function drawRollouts(list) {
    live.replaceChildren(...(list ?? []).map((each) => make("div", { class: `mlnb-rollout mlnb-${each.verdict}` },
      make("b", {}, `${each.environment}: version ${each.version} `),
      make("progress", { max: "1", value: String(each.share), "aria-label": `Share of version ${each.version}` }),
      ` ${Math.round(each.share * 100)} % of requests · ${each.requests.toLocaleString()} answered · ${each.failures.toLocaleString()} failed · ${each.words}`)));
  }
  let timer = null;
  function follow() {
    if (!host.live || !root.isConnected) return;
    if (document.visibilityState === "visible") ask("rollout").then(({ rollouts }) => drawRollouts(rollouts), () => drawRollouts([]));
    timer = setTimeout(follow, 3000);
  }

  // ------------------------------------------------ plots
  const numbers = () => table.columns.filter((c) => c.type === "number" && c.kind !== "hidden");
  const tones = () => {
    const style = getComputedStyle(root);
    const tone = (name) => style.getPropertyValue(`--mlnb-${name}`).trim();
    return { text: tone("text"), quiet: tone("quiet"), line: tone("line"), accent: tone("accent"), best: tone("good"), base: tone("base"), back: tone("back"), font: style.fontFamily };
  };

  function drawChart() {
    grid = null;
    const metrics = numbers().filter((c) => c.kind === "metric" && ordered.some((row) => !isMissing(c, row)));
    if (!ordered.length || !metrics.length) return nothing("Nothing to draw: no shown run has a number.", "");
    const goal = table.byKey.get(view.metric) ?? metrics.find((c) => c.goal) ?? metrics[0];
    const usable = numbers().filter((c) => varying.has(c.key) || Object.hasOwn(view.brushes, c.key));
    const words = table.columns.filter((c) => c.type !== "number" && c.kind === "param" && varying.has(c.key) && c.words.length <= 12);
    const gated = new Set(table.header.gates.map((gate) => gate.key));
    let axes = view.axes.filter((key) => table.byKey.has(key)).map((key) => table.byKey.get(key));
    if (!axes.length) axes = [...words.slice(0, 3), ...usable.filter((c) => c.kind === "param"), ...usable.filter((c) => c.kind === "metric" && (gated.has(c.key) || c === goal))].slice(0, 8);
    if (!axes.includes(goal)) axes.push(goal);
    const picker = (label, value, list, call) => {
      const pick = make("select", { "aria-label": label, onchange: () => call(pick.value) }, list.map((c) => make("option", { value: c.key }, c.name)));
      pick.value = value.key;
      return make("label", {}, `${label} `, pick);
    };
    const parallel = figure("How values lead to the metric", (canvas) => drawParallel(canvas, axes, goal));
    const [x0, y0] = view.scatter;
    const x = table.byKey.get(x0) ?? usable.find((c) => c.kind === "param") ?? usable[0] ?? goal, y = table.byKey.get(y0) ?? goal;
    const scatter = figure("Two columns", (canvas) => drawScatter(canvas, x, y));
    const time = table.byKey.get("started");
    const best = time ? figure("Best so far", (canvas) => drawBest(canvas, goal, time)) : null;
    const brushes = Object.keys(view.brushes);
    main.replaceChildren(make("div", { class: "mlnb-scroll mlnb-plots", tabindex: "0", role: "region", "aria-label": "Plots" },
      make("div", { class: "mlnb-bar" },
        picker("Coloured by", goal, metrics, (key) => { put("metric", key); draw(); }),
        brushes.length ? make("button", { type: "button", onclick: () => { put("brushes", {}); refresh(); } }, `Undo the brush on ${brushes.map((key) => table.byKey.get(key)?.name).join(", ")}`) : make("span", { class: "mlnb-quiet" }, "Drag along an axis to keep a part of it.")),
      parallel.node,
      make("div", { class: "mlnb-bar" }, make("span", {}, "Log scale:"), axes.filter((c) => c.type === "number" && ends(c)[0] > 0).map((c) => {
        const turned = view.log_axes.includes(c.key), [low, high] = ends(c);
        return make("button", { type: "button", "aria-pressed": String(isLog(c, low, high)), onclick: () => { put("log_axes", turned ? view.log_axes.filter((key) => key !== c.key) : [...view.log_axes, c.key]); draw(); } }, c.name);
      })),
      make("div", { class: "mlnb-two" },
        make("div", {}, make("div", { class: "mlnb-bar" }, picker("Across", x, numbers(), (key) => { put("scatter", [key, y.key]); draw(); }), picker("Up", y, numbers(), (key) => { put("scatter", [x.key, key]); draw(); })), scatter.node),
        best && make("div", {}, make("div", { class: "mlnb-bar" }, make("span", {}, `Best ${goal.name} so far, run after run`)), best.node))));
    for (const each of [parallel, scatter, best]) each?.paint();
  }

  function figure(title, paint) {
    const canvas = make("canvas", { role: "img", "aria-label": title });
    const tip = make("div", { class: "mlnb-tip", hidden: true });
    const node = make("figure", {}, canvas, tip);
    const again = () => {
      const width = node.clientWidth || 600, height = node.clientHeight || 260, scale = window.devicePixelRatio || 1;
      canvas.width = width * scale; canvas.height = height * scale;
      const pen = canvas.getContext("2d");
      pen.scale(scale, scale); pen.clearRect(0, 0, width, height);
      const hits = paint({ canvas, pen, width, height, node, again });
      canvas.onpointermove = (event) => {
        const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
        let near = null, far = 18 ** 2;
        for (const hit of hits ?? []) { const d = (hit.x - px) ** 2 + (hit.y - py) ** 2; if (d < far) { far = d; near = hit; } }
        tip.hidden = !near;
        if (near) { tip.textContent = near.text; tip.style.left = `${Math.min(near.x + 10, width - 180)}px`; tip.style.top = `${Math.max(0, near.y - 34)}px`; canvas.onclick = () => lookAt(near.row); }
        else canvas.onclick = null;
      };
      canvas.onpointerleave = () => { tip.hidden = true; };
    };
    const watch = new ResizeObserver(debounced(() => node.isConnected && again(), 80));
    watch.observe(node);
    closing.push(() => watch.disconnect());
    return { node, paint: again };
  }

  const ends = (column) => {
    let low = Infinity, high = -Infinity;
    for (const row of filtered) { const v = column.values[row]; if (v < low) low = v; if (v > high) high = v; }
    return [low, high];
  };

  /** Whether an axis is logarithmic: of itself from a factor of 100 on, and otherwise if a person wants. */
  function isLog(column, low, high) { return low > 0 && (high / low >= 100) !== view.log_axes.includes(column.key); }

  function scaleOf(column, rows, from, to) {
    if (column.type !== "number") {
      const used = [...new Set(Array.from(rows, (row) => column.values[row]).filter((code) => code >= 0))].sort((a, b) => column.words[a].localeCompare(column.words[b], undefined, { numeric: true }));
      const at = new Map(used.map((code, i) => [code, used.length === 1 ? (from + to) / 2 : from + ((to - from) * i) / (used.length - 1)]));
      return { place: (row) => at.get(column.values[row]) ?? NaN, ticks: used.map((code) => [at.get(code), column.words[code]]), invert: () => NaN };
    }
    let low = Infinity, high = -Infinity;
    for (const row of rows) { const v = column.values[row]; if (v < low) low = v; if (v > high) high = v; }
    if (low > high) return { place: () => NaN, ticks: [], invert: () => NaN };
    const log = isLog(column, low, high);
    const turn = log ? Math.log10 : (v) => v, back = log ? (v) => 10 ** v : (v) => v;
    let [a, b] = [turn(low), turn(high)];
    if (a === b) { a -= 0.5; b += 0.5; }
    const at = (v) => from + ((turn(v) - a) / (b - a)) * (to - from);
    const ticks = [];
    if (log) for (let e = Math.floor(a); e <= b; e += 1) for (const m of b - a > 2.5 ? [1] : [1, 2, 5]) { const v = m * 10 ** e; if (v >= low && v <= high) ticks.push([at(v), formatNumber(v)]); }
    else if (low === high) ticks.push([at(low), formatNumber(low)]);
    else {
      const raw = (b - a) / Math.max(2, Math.abs(to - from) / 60), unit = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 5, 10].find((m) => m * unit >= raw) * unit;
      for (let v = Math.ceil(a / step) * step; v <= b + step * 1e-9; v += step) ticks.push([at(v), column.format === "moment" ? formatMoment(v).slice(5) : formatNumber(Math.abs(v) < step * 1e-9 ? 0 : Number(v.toPrecision(10)))]);
    }
    return { at, place: (row) => { const v = column.values[row]; return Number.isNaN(v) ? NaN : at(v); }, ticks, invert: (pixel) => back(a + ((pixel - from) / (to - from)) * (b - a)), low, high };
  }

  /** Return a colour from quiet to strong by how good a run is; one hue, so that it can be read by all. */
  function shadeOf(goal, rows, tone) {
    const values = Array.from(rows, (row) => goal.values[row]).filter((v) => !Number.isNaN(v)).sort((a, b) => a - b);
    const rank = (v) => { let l = 0, h = values.length; while (l < h) { const m = (l + h) >> 1; if (values[m] < v) l = m + 1; else h = m; } return values.length > 1 ? l / (values.length - 1) : 1; };
    return (row) => { const v = goal.values[row]; if (Number.isNaN(v)) return [0.1, tone.quiet]; const r = goal.goal === "min" ? 1 - rank(v) : rank(v); return [0.12 + 0.75 * r ** 2, tone.accent]; };
  }

  const short = (pen, text, width) => { let cut = text; while (cut.length > 2 && pen.measureText(cut).width > width) cut = `${cut.slice(0, -2)}…`; return cut; };

  function drawParallel({ canvas, pen, width, height, again }, axes, goal) {
    const tone = tones(), rows = filtered, top = 34, bottom = height - 12, left = 64, right = width - 64;
    const step = axes.length > 1 ? (right - left) / (axes.length - 1) : 0;
    const kept = brushFilter() ?? (() => true), shade = shadeOf(goal, rows, tone), marked = new Set(chosen());
    const scales = axes.map((c) => scaleOf(c, rows, bottom, top));
    pen.font = `11px ${tone.font}`; pen.lineJoin = "round";
    const sorted = Array.from(rows).sort((a, b) => shade(a)[0] - shade(b)[0]);
    const path = (row) => {
      pen.beginPath();
      let pen_up = true;
      scales.forEach((scale, i) => { const y = scale.place(row); if (Number.isNaN(y)) { pen_up = true; return; } pen[pen_up ? "moveTo" : "lineTo"](left + i * step, y); pen_up = false; });
      pen.stroke();
    };
    for (const row of sorted) { const [alpha, colour] = shade(row); const on = kept(row); pen.globalAlpha = on ? alpha * (rows.length > 2000 ? 0.5 : 1) : 0.03; pen.strokeStyle = on ? colour : tone.quiet; pen.lineWidth = on ? 1.2 : 1; path(row); }
    pen.globalAlpha = 1;
    for (const row of marked) { pen.strokeStyle = tone.text; pen.lineWidth = 2; path(row); }
    if (baseline >= 0) { pen.strokeStyle = tone.base; pen.lineWidth = 2.5; pen.setLineDash([6, 3]); path(baseline); pen.setLineDash([]); }
    axes.forEach((column, i) => {
      const x = left + i * step;
      pen.strokeStyle = tone.line; pen.lineWidth = 1; pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, bottom); pen.stroke();
      pen.fillStyle = tone.text; pen.textAlign = "center"; pen.font = `600 11px ${tone.font}`;
      pen.fillText(short(pen, column.name, Math.max(40, step - 8)), x, i % 2 && step < 70 ? 26 : 14);
      pen.font = `10px ${tone.font}`; pen.textAlign = i === axes.length - 1 ? "left" : "right";
      let last = Infinity;
      for (const [y, text] of scales[i].ticks) {
        if (Math.abs(last - y) < 11) continue;
        last = y;
        const at = x + (i === axes.length - 1 ? 6 : -6), drawn = short(pen, text, i === 0 || i === axes.length - 1 ? 56 : Math.max(24, step - 16));
        pen.strokeStyle = tone.back; pen.lineWidth = 3; pen.strokeText(drawn, at, y + 3);
        pen.fillStyle = tone.text; pen.fillText(drawn, at, y + 3);
      }
      const brush = view.brushes[column.key];
      if (brush && scales[i].low !== undefined) {
        const [y1, y2] = [scales[i].at(brush[1]), scales[i].at(brush[0])];
        pen.fillStyle = tone.accent; pen.globalAlpha = 0.25; pen.fillRect(x - 7, y1, 14, Math.max(2, y2 - y1)); pen.globalAlpha = 1;
      }
    });
    canvas.setAttribute("aria-label", `Parallel coordinates of ${axes.map((c) => c.name).join(", ")} for ${rows.length} runs; the filter box keeps a part as dragging does`);
    canvas.onpointerdown = (event) => {
      const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, y0 = event.clientY - box.top;
      const i = step ? Math.round((px - left) / step) : 0;
      if (i < 0 || i >= axes.length || Math.abs(px - left - i * step) > 16 || axes[i].type !== "number") return;
      canvas.setPointerCapture(event.pointerId);
      const clamp = (y) => Math.max(top, Math.min(bottom, y));
      canvas.onpointerup = (ended) => {
        canvas.onpointerup = null;
        const y1 = clamp(ended.clientY - box.top), values = [scales[i].invert(clamp(y0)), scales[i].invert(y1)].sort((a, b) => a - b);
        const brushes = { ...view.brushes };
        if (Math.abs(y1 - y0) < 4) delete brushes[axes[i].key]; else brushes[axes[i].key] = values;
        put("brushes", brushes); refresh(); again();
      };
    };
    const last = axes.length - 1;
    return Array.from(rows).slice(0, 3000).map((row) => ({ row, x: left + last * step, y: scales[last].place(row), text: `${nameOf(row)}: ${textOf(goal, row)}` }));
  }

  function frame(pen, tone, width, height, xs, ys, xName, yName) {
    const left = 62, bottom = height - 34;
    pen.font = `10px ${tone.font}`; pen.lineWidth = 1;
    let edge = -Infinity;
    for (const [x, text] of xs.ticks) {
      pen.strokeStyle = tone.line; pen.beginPath(); pen.moveTo(x, 10); pen.lineTo(x, bottom); pen.stroke();
      const half = pen.measureText(text).width / 2;
      if (x - half < edge + 6) continue;
      edge = x + half;
      pen.fillStyle = tone.quiet; pen.textAlign = "center"; pen.fillText(text, x, bottom + 13);
    }
    for (const [y, text] of ys.ticks) {
      pen.strokeStyle = tone.line; pen.beginPath(); pen.moveTo(left, y); pen.lineTo(width - 10, y); pen.stroke();
      pen.fillStyle = tone.quiet; pen.textAlign = "right"; pen.fillText(text, left - 6, y + 3);
    }
    pen.fillStyle = tone.text; pen.font = `600 11px ${tone.font}`; pen.textAlign = "center";
    pen.fillText(xName, (left + width) / 2, height - 5);
    pen.save(); pen.translate(11, bottom / 2); pen.rotate(-Math.PI / 2); pen.fillText(short(pen, yName, bottom), 0, 0); pen.restore();
  }

  function drawScatter({ canvas, pen, width, height }, x, y) {
    const tone = tones(), rows = ordered;
    const xs = scaleOf(x, rows, 70, width - 18), ys = scaleOf(y, rows, height - 42, 16);
    frame(pen, tone, width, height, xs, ys, x.name, y.name);
    const marked = new Set(chosen());
    const hits = [];
    for (const row of rows) {
      const px = xs.place(row), py = ys.place(row);
      if (Number.isNaN(px) || Number.isNaN(py)) continue;
      hits.push({ row, x: px, y: py, text: `${nameOf(row)}: ${textOf(x, row)}, ${textOf(y, row)}` });
      pen.globalAlpha = rows.length > 2000 ? 0.25 : 0.6; pen.fillStyle = tone.accent;
      pen.beginPath(); pen.arc(px, py, 3, 0, 7); pen.fill();
      if (marked.has(row) || row === baseline) { pen.globalAlpha = 1; pen.lineWidth = 2; pen.strokeStyle = row === baseline ? tone.base : tone.text; pen.beginPath(); pen.arc(px, py, 5.5, 0, 7); pen.stroke(); }
    }
    pen.globalAlpha = 1;
    canvas.setAttribute("aria-label", `${y.name} over ${x.name}, ${hits.length} runs`);
    return hits;
  }

  function drawBest({ canvas, pen, width, height }, goal, time) {
    const tone = tones(), found = bestSoFar(table, ordered, goal, time);
    if (!found.length) return [];
    const from = 70, to = width - 18, ys = scaleOf(goal, found.map(({ row }) => row), height - 42, 16);
    const at = (i) => (found.length === 1 ? (from + to) / 2 : from + ((to - from) * i) / (found.length - 1));
    const count = Math.min(6, found.length), ticks = Array.from({ length: count }, (_, k) => Math.round((k * (found.length - 1)) / Math.max(1, count - 1)));
    frame(pen, tone, width, height, { ticks: ticks.map((i) => [at(i), String(i + 1)]) }, ys, "run", goal.name);
    pen.fillStyle = tone.accent; pen.globalAlpha = found.length > 2000 ? 0.2 : 0.5;
    const hits = found.map(({ row }, i) => { const y = ys.place(row); pen.beginPath(); pen.arc(at(i), y, 2.5, 0, 7); pen.fill(); return { row, x: at(i), y, text: `${nameOf(row)}: ${textOf(goal, row)}` }; });
    pen.globalAlpha = 1; pen.strokeStyle = tone.best; pen.lineWidth = 2; pen.beginPath();
    let level = null;
    found.forEach(({ row, value, best }, i) => {
      const y = value === best ? ys.place(row) : level;
      if (level === null) pen.moveTo(at(i), y); else { pen.lineTo(at(i), level); pen.lineTo(at(i), y); }
      level = y;
    });
    pen.stroke();
    canvas.setAttribute("aria-label", `Best ${goal.name} so far over ${found.length} runs: ${formatNumber(found.at(-1).best)}`);
    return hits;
  }

  // ------------------------------------------------ life
  const stop = [
    host.on("data", () => { const hold = grid?.box.scrollTop; load(); grid && (grid.bestOf = null); refresh(); if (hold && grid) grid.box.scrollTop = hold; }),
    host.on("live", () => { refresh(); if (!timer) follow(); }),
    ...Object.keys(VIEW).map((name) => host.on(name, () => {
      const value = host.get(name);
      if (value === undefined || JSON.stringify(value) === JSON.stringify(view[name])) return;
      view[name] = value;
      if (name === "query") input.value = value;
      if (name === "only_differences") differences.checked = value;
      refresh();
    })),
  ];
  const themed = new MutationObserver(() => view.tab === "chart" && draw());
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  const sized = new ResizeObserver(() => root.classList.toggle("mlnb-narrow", root.clientWidth <= NARROW));
  sized.observe(root);
  const outside = (event) => { if (chooser.open && !chooser.contains(event.target)) chooser.open = false; };
  document.addEventListener("pointerdown", outside);

  load();
  root.classList.toggle("mlnb-narrow", root.clientWidth > 0 && root.clientWidth <= NARROW);
  refresh();
  follow();
  return () => {
    clearTimeout(timer); themed.disconnect(); sized.disconnect();
    document.removeEventListener("pointerdown", outside);
    for (const end of [...stop, ...closing]) end?.();
    root.replaceChildren();
  };
}

// ---------------------------------------------------------------- the pipeline, for a side bar

/** Show the stages: which are stale, what they gave last, their reports; return what takes it away. */
export function mountPipeline(root, { ask, open }) {
  root.classList.add("mlnb-compare", "mlnb-narrow", "mlnb-pipeline");
  const list = make("ol", { class: "mlnb-stages" }), note = make("p", { class: "mlnb-quiet", role: "status" }, "Asking Python…");
  let timer = null, gone = false;
  const again = make("button", { type: "button", onclick: () => look() }, "Look again");
  root.replaceChildren(make("div", { class: "mlnb-bar" }, make("h3", {}, "Pipeline"), again), note, make("div", { class: "mlnb-scroll", tabindex: "0", role: "region", "aria-label": "Stages" }, list));
  const SIGNS = { fresh: ["✓", "pass", "up to date"], stale: ["≠", "inconclusive", "stale"], running: ["…", "inconclusive", "running"], failed: ["✗", "fail", "failed"], never: ["·", "not-judged", "never run"] };
  function look() {
    clearTimeout(timer);
    ask("pipeline").then(({ stages, words }) => {
      if (gone) return;
      note.className = "mlnb-quiet"; note.textContent = words ?? "";
      list.replaceChildren(...stages.map((stage) => {
        const [sign, tone, says] = SIGNS[stage.state] ?? SIGNS.never;
        return make("li", {}, make("div", {}, make("span", { class: `mlnb-${tone}`, role: "img", "aria-label": says, title: says }, sign), " ", make("b", {}, make("bdi", {}, stage.name)),
          make("small", { class: "mlnb-quiet" }, ` ${says}${stage.why ? `: ${stage.why}` : ""}`)),
        stage.figures?.length ? make("div", { class: "mlnb-quiet mlnb-figures" }, stage.figures.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, typeof value === "number" ? formatNumber(value) : String(value))))) : null,
        make("div", { class: "mlnb-bar" }, stage.report ? link(open(stage.report), "Open report") : null,
          make("button", { type: "button", disabled: stage.state === "running", "aria-label": `Run stage ${stage.name}`, onclick: (event) => { event.target.disabled = true; ask("run", { stage: stage.name }).then(({ words: said }) => { note.textContent = said.join(" "); look(); }, fail); } }, "Run")));
      }));
      if (stages.some((stage) => stage.state === "running")) timer = setTimeout(look, 1500);
    }, fail);
  }
  function fail(error) { if (!gone) { note.className = "mlnb-fault"; note.textContent = error.message; } }
  look();
  return () => { gone = true; clearTimeout(timer); root.replaceChildren(); };
}

// ---------------------------------------------------------------- hosts

/** Return a host around an anywidget model: Python's object is its other end. */
export function notebookHost(model) {
  const waiting = new Map(), ears = new Map();
  let number = 0, live = false;
  const told = (name) => { for (const call of ears.get(name) ?? []) call(); };
  const heard = (content) => {
    if (content.kind === "here") { live = true; told("live"); return; }
    const asked = waiting.get(content.id);
    if (!asked) return;
    waiting.delete(content.id);
    if (content.ok) asked[0](content.result); else asked[1](new Error(content.message));
  };
  model.on("msg:custom", heard);
  const changed = () => told("data");
  model.on("change:_taken", changed);
  const traits = new Map();
  return {
    name: "notebook",
    get live() { return live; },
    data: () => ({ header: model.get("_header"), buffers: model.get("_buffers") }),
    get: (name) => model.get(name),
    set: (name, value) => { model.set(name, value); model.save_changes(); },
    on(name, call) {
      if (!ears.has(name)) ears.set(name, new Set());
      ears.get(name).add(call);
      if (!["data", "live"].includes(name) && !traits.has(name)) { const turn = () => told(name); traits.set(name, turn); model.on(`change:${name}`, turn); }
      return () => ears.get(name).delete(call);
    },
    call: (verb, words) => new Promise((resolve, reject) => {
      if (!live) { reject(new Error("Python does not answer: run the cell again.")); return; }
      number += 1;
      const id = `${number}-${Math.random().toString(36).slice(2)}`;
      waiting.set(id, [resolve, reject]);
      model.send({ kind: "ask", id, verb, words });
    }),
    greet: () => model.send({ kind: "hello" }),
    close: () => { model.off("msg:custom", heard); model.off("change:_taken", changed); for (const [name, turn] of traits) model.off(`change:${name}`, turn); },
  };
}

/** Return a host for a page without Python: it shows, and promotes nothing. */
export function reportHost(header, buffers, first = {}) {
  const kept = { ...first };
  return {
    name: "report", live: false,
    data: () => ({ header, buffers }),
    get: (name) => kept[name],
    set: (name, value) => { kept[name] = value; },
    on: () => () => {},
    call: (verb, { run } = {}) => (verb === "details" && header.details?.[run] ? Promise.resolve(header.details[run])
      : Promise.reject(new Error("This page was saved; it has no more than it shows."))),
  };
}

/** Return a host that asks a Jupyter server: { state() -> {header, buffers}, ask(verb, words), open(report) }. */
export function serverHost({ state, ask, open }, first, view, keep) {
  const ears = new Set();
  let now = first;
  const renew = async () => { now = await state(); for (const call of ears) call(); };
  return {
    name: "lab", live: true, renew, open,
    data: () => now,
    get: (name) => view[name],
    set: (name, value) => { view[name] = value; keep(view); },
    on: (name, call) => { if (name === "data") ears.add(call); return () => ears.delete(call); },
    call: (verb, words) => ask(verb, words ?? {}),
  };
}

/** Return header and buffers of one body: count, lengths, then each part at a multiple of eight. */
export function separate(body) {
  const view = new DataView(body);
  if (view.getUint32(0, true) !== 1) throw new Error("the server speaks a newer format: reload the page");
  const count = view.getUint32(4, true), parts = [];
  let at = 8 + 4 * count;
  for (let i = 0; i < count; i += 1) {
    at += -at & 7;
    const size = view.getUint32(8 + 4 * i, true);
    parts.push(body.slice(at, at + size));
    at += size;
  }
  return { header: JSON.parse(new TextDecoder().decode(parts[0])), buffers: parts.slice(1) };
}

/** Return buffers that travelled as base64 in JSON. */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer;

/** Be anywidget's render. */
function render({ model, el }) {
  const host = notebookHost(model);
  const inside = document.createElement("div");
  el.append(inside);
  const end = mount(inside, host);
  host.greet();
  return () => { end(); host.close(); };
}

export default { render };
