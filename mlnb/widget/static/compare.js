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
    const raw = buffers[told.buffer], whole = raw instanceof ArrayBuffer;
    const Kind = told.type === "number" ? Float64Array : Int32Array;
    const bytes = whole ? raw : raw.buffer, start = whole ? 0 : raw.byteOffset;
    const values = new Kind(bytes.slice(start, start + header.rows * Kind.BYTES_PER_ELEMENT));
    return { ...told, position, values };
  });
  const byKey = new Map(columns.map((column) => [column.key, column]));
  return { rows: header.rows, columns, byKey, header };
}

export const isMissing = ({ type, values }, row) => (type === "number" ? Number.isNaN(values[row]) : values[row] < 0);

/** Return a value as Python gave it; null where there is none. */
export function valueOf(column, row) {
  if (isMissing(column, row)) return null;
  return column.type === "number" ? column.values[row] : column.words[column.values[row]];
}

/** Return a number with as many digits as tell it from its neighbours, never in more than 9 signs. */
export function formatNumber(value) {
  if (value === null || Number.isNaN(value)) return "";
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return String(value);
  if (size < 1e-3 || size >= 1e7) return value.toExponential(2);
  return value.toFixed(size >= 1000 ? 1 : size >= 100 ? 2 : size >= 10 ? 3 : 4);
}

/** Return a difference with its sign, and with the digits of what it is a difference of. */
export function formatDifference(value, of) {
  const sign = value > 0 ? "+" : value < 0 ? "−" : "±", size = Math.abs(value);
  return sign + (Math.abs(of) >= 0.1 && size < 1 && !Number.isInteger(size) ? size.toFixed(4) : formatNumber(size));
}

/** Return seconds since 1970 as a date and time of this place. */
export function formatMoment(seconds) {
  if (seconds === null || Number.isNaN(seconds)) return "";
  const at = new Date(seconds * 1000), two = (n) => String(n).padStart(2, "0");
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
}

/** Return a value as a person reads it; nothing where there is none. */
export function textOf(column, row) {
  const value = valueOf(column, row);
  if (value === null || column.type !== "number") return value ?? "";
  return column.format === "moment" ? formatMoment(value) : formatNumber(value);
}

const collate = new Intl.Collator(undefined, { numeric: true }).compare;

/** Return the codes of a column's words in the order in which a person looks for them. */
const inOrder = (words) => Array.from(words.keys()).sort((a, b) => collate(words[a], words[b]));

/** Return the rows in the order of the sort keys [{key, down}]; missing values last both ways. */
export function orderOf(table, rows, sorts) {
  const ranks = sorts.filter(({ key }) => table.byKey.has(key)).map(({ key, down }) => {
    const { type, values, words } = table.byKey.get(key), sign = down ? -1 : 1;
    if (type === "number") return { sign, values };
    const rank = new Float64Array(words.length);
    inOrder(words).forEach((code, position) => { rank[code] = position; });
    return { sign, values: Float64Array.from(values, (code) => (code < 0 ? NaN : rank[code])) };
  });
  return Int32Array.from(rows).sort((a, b) => {
    for (const { sign, values } of ranks) {
      const x = values[a], y = values[b], noX = Number.isNaN(x), noY = Number.isNaN(y);
      if (noX !== noY) return noX ? 1 : -1;
      if (!noX && x !== y) return sign * (x - y);
    }
    return a - b;
  });
}

/** Return the keys of the columns in which the rows do not all have one value. */
export function varyingColumns(table, rows) {
  const varies = ({ values }) => rows.some((row) => !Object.is(values[row], values[rows[0]]));
  return new Set(table.columns.filter(varies).map((column) => column.key));
}

/** Return the position of the best of the rows in a column that has a direction; -1 if none. */
export function bestOf({ goal, type, values }, rows) {
  let best = -1;
  if (!goal || type !== "number") return best;
  for (const row of rows) {
    if (Number.isNaN(values[row])) continue;
    if (best < 0 || (goal === "max" ? values[row] > values[best] : values[row] < values[best])) best = row;
  }
  return best;
}

/** Return [{row, value, best}] of a metric in the order of time: how a search went. */
export function bestSoFar(table, rows, metric, time) {
  const taken = Array.from(rows).filter((row) => !isMissing(metric, row) && !isMissing(time, row))
    .sort((a, b) => time.values[a] - time.values[b] || a - b);
  let best = NaN;
  return taken.map((row) => {
    const value = metric.values[row];
    if (Number.isNaN(best) || (metric.goal === "min" ? value < best : value > best)) best = value;
    return { row, value, best };
  });
}

// ---------------------------------------------------------------- the filter language

export class FilterError extends Error {}

const TOKEN = new RegExp([
  String.raw`\s*(?:("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(<=|>=|!=|==|=|<|>|~)|([(),])`,
  String.raw`(-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))`,
  String.raw`((?:[\p{L}\p{N}_](?:[\p{L}\p{N}_\-/@]|\.(?=\S))*|` + "`[^`]*`|" + String.raw`\.(?=["'` + "`" + String.raw`])|"(?:[^"\\]|\\.)*")+))`,
].join("|"), "uy");
const KINDS = {
  metrics: "metric", metric: "metric", params: "param", param: "param", parameters: "param",
  tags: "tag", tag: "tag", attributes: "meta", attribute: "meta", attr: "meta",
};
const TESTS = {
  "=": (a, b) => a === b, "!=": (a, b) => a !== b, "<": (a, b) => a < b, "<=": (a, b) => a <= b,
  ">": (a, b) => a > b, ">=": (a, b) => a >= b,
};

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
    else if (number !== undefined) found.push({ kind: "number", value: Number(number) });
    else {
      // metrics."a b" and metrics.`a b`: the quoted part belongs to the name.
      const rest = word.endsWith(".") ? /^("(?:[^"\\]|\\.)*"|`[^`]*`)/.exec(text.slice(at))?.[0] ?? "" : "";
      at += rest.length;
      found.push({ kind: "word", value: word + rest });
    }
  }
  return found;
}

/** Return how many letters must change to make one word the other (Levenshtein). */
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
  const clean = (name) => name.replace(/^(["`])(.*)\1$/s, "$2"), name = clean(word);
  const [, group, rest] = /^([a-zA-Z]+)\.(.+)$/s.exec(word) ?? [], kind = KINDS[group?.toLowerCase()];
  const named = (wanted) => table.columns.filter((c) => c.name === wanted || c.key === wanted);
  const [exact] = kind ? named(clean(rest)).filter((c) => c.kind === kind) : [];
  const found = exact ? [exact] : named(name);
  if (found.length === 1) return found[0];
  if (found.length) throw new FilterError(`${name} is ${found.map((c) => `${c.kind}s.${c.name}`).join(" and ")}: say which`);
  const near = table.columns.map((c) => [distance(c.name, name.replace(/^\w+\./, "")), c.name]).sort(([a], [b]) => a - b)[0];
  throw new FilterError(`no column ${name}${near && near[0] <= 3 ? `; is ${near[1]} meant?` : ""}`);
}

/** Return a function row -> bool for what is compared with a column. */
function comparison(column, operator, wanted) {
  const { values } = column;
  if (operator === "~") {
    const part = String(wanted).toLowerCase();
    return (row) => textOf(column, row).toLowerCase().includes(part);
  }
  const test = TESTS[operator];
  if (column.type !== "number") {
    const hits = column.words.map((word) => test(word, String(wanted)));
    return (row) => values[row] >= 0 && hits[values[row]];
  }
  let number = Number(wanted);
  if (Number.isNaN(number) && column.format === "moment") number = Date.parse(wanted) / 1000;
  if (Number.isNaN(number)) throw new FilterError(`${column.name} holds numbers, not ${JSON.stringify(wanted)}`);
  return (row) => !Number.isNaN(values[row]) && test(values[row], number);
}

/** Return a function row -> bool for: metrics.auc > 0.9 and (params.model = "xgb" or tags.x in ("a", "b")).
 *
 * Throws FilterError. A text without any operator looks for itself in every word of a run.
 */
export function compileFilter(text, table) {
  if (!text.trim()) return () => true;
  const list = tokens(text);
  if (!list.some((t) => t.kind === "operator" || (t.kind === "word" && /^(in|like|ilike|is)$/i.test(t.value)))) {
    const wanted = text.trim().replace(/^["'](.*)["']$/, "$1");
    const tests = table.columns.filter((c) => c.type !== "number").map((c) => {
      const hits = c.words.map((word) => word.toLowerCase().includes(wanted.toLowerCase()));
      return (row) => c.values[row] >= 0 && hits[c.values[row]];
    });
    return (row) => tests.some((test) => test(row));
  }
  let at = 0;
  /** Step over a word, if it is there. */
  const skip = (word) => {
    const there = list[at]?.kind === "word" && list[at].value.toLowerCase() === word;
    if (there) at += 1;
    return there;
  };
  const take = (what, ...kinds) => {
    const token = list[at];
    if (!token || !kinds.includes(token.kind)) {
      throw new FilterError(`${what} is missing${token ? ` before ${token.value ?? token.kind}` : " at the end"}`);
    }
    at += 1;
    return token.value;
  };
  const value = () => take("a value", "text", "number", "word");
  const chain = (word, part, all) => {
    const parts = [part()];
    while (skip(word)) parts.push(part());
    return all ? (row) => parts.every((each) => each(row)) : (row) => parts.some((each) => each(row));
  };
  const either = () => chain("or", () => chain("and", one, true), false);
  function one() {
    if (skip("not")) { const inner = one(); return (row) => !inner(row); }
    if (list[at]?.kind === "(") {
      at += 1;
      const inner = either();
      take("a closing bracket", ")");
      return inner;
    }
    return condition(columnOf(table, take("the name of a column", "word", "text")));
  }
  function condition(column) {
    const unless = (test, not) => (row) => !isMissing(column, row) && test(row) !== not;
    if (skip("is")) {
      const not = skip("not");
      if (!["null", "none", "missing"].some(skip)) throw new FilterError("after `is` comes `null` or `not null`");
      return (row) => isMissing(column, row) !== not;
    }
    const not = skip("not");
    if (skip("in")) {
      take("an opening bracket", "(");
      const allowed = [value()];
      while (list[at]?.kind === ",") { at += 1; allowed.push(value()); }
      take("a closing bracket", ")");
      const tests = allowed.map((each) => comparison(column, "=", each));
      return unless((row) => tests.some((test) => test(row)), not);
    }
    const [like, ilike] = [skip("like"), skip("ilike")];
    if (like || ilike) {
      const literal = String(value()).replace(/[.*+?^${}()|[\]\\]/g, "\\$&").replace(/%/g, ".*").replace(/_/g, ".");
      const pattern = new RegExp(`^${literal}$`, ilike ? "isu" : "su");
      return unless((row) => pattern.test(textOf(column, row)), not);
    }
    if (not) throw new FilterError("after `not` comes `in` or `like`");
    return comparison(column, take("a comparison such as = or >", "operator"), value());
  }
  const found = either();
  if (at < list.length) throw new FilterError(`what is ${list[at].value ?? list[at].kind}? \`and\` or \`or\` may be missing`);
  return found;
}

// ---------------------------------------------------------------- what is shown

const ROW = 26, HEAD = 50, NARROW = 560, SHOWN_GATES = 8, ASKING = "Asking Python…";
const SIGNS = { pass: "✓", fail: "✗", inconclusive: "≈", error: "!", warning: "⚠", "not judged": "·" };
const LETTERS = { p: "pass", f: "fail", i: "inconclusive", e: "error" };
let mounted = 0;

/** Return sign, word and look of a verdict, told as a word or as a letter. */
function signOf(verdict) {
  const word = LETTERS[verdict] ?? (verdict in SIGNS ? verdict : "not judged");
  return { sign: SIGNS[word], word, look: word.replace(" ", "-") };
}

/** Make an element of "tag.class.class". What is said comes as text nodes only.
 *
 * Attributes, which may be left out: `onEVENT` listens, `label` is what a screen reader says, and
 * what is false or missing is not set.
 */
function make(what, ...inside) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag), last = {};
  made.className = classes.map((name) => `mlnb-${name}`).join(" ");
  const attributes = inside[0]?.constructor === Object ? inside.shift() : {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else if (name === "value" || name === "checked") last[name] = value;
    else made.setAttribute(name === "label" ? "aria-label" : name, value === true ? "" : value);
  }
  made.append(...inside.flat().filter((each) => each !== undefined && each !== null && each !== false));
  return Object.assign(made, last);
}

const button = (text, onclick, { look, ...more } = {}) => make(look ? `button.${look}` : "button", { type: "button", onclick, ...more }, text);
const quiet = (text) => make("p.quiet", text);
const wrong = (text) => make("p.fault", { role: "alert" }, text);
const badge = (text) => make("span.badge", text);
const bar = (...inside) => make("div.bar", ...inside);
const region = (label, ...inside) => make("div.scroll", { tabindex: "0", role: "region", label }, ...inside);
const picker = (label, value, options, call) => make(
  "select", { label, value, onchange: (event) => call(event.target.value) }, options.map(([key, text]) => make("option", { value: key }, text ?? key)),
);
const labelled = (column, text, call, list) => make("label", `${text} `, picker(text, column.key, list.map((c) => [c.key, c.name]), call));

/** Return a link where the address is one that a page may lead to; else the text alone. */
function link(address, text) {
  const safe = address && typeof address === "string" && !/^\s*(javascript|data|vbscript):/i.test(address);
  return safe ? make("a", { href: address, target: "_blank", rel: "noopener" }, text) : make("span", text);
}

/** Put something else into a node; what has the focus there, has it afterwards, too. */
function refill(node, ...inside) {
  const told = (each) => each.dataset.key ?? each.getAttribute("aria-label") ?? each.textContent;
  const held = node.getRootNode().activeElement, name = held && held !== node && node.contains(held) ? told(held) : null;
  node.replaceChildren(...inside);
  if (name) Array.from(node.querySelectorAll("button, input, select, summary")).find((each) => told(each) === name)?.focus();
}

const debounced = (call, wait) => {
  let timer;
  return () => { clearTimeout(timer); timer = setTimeout(call, wait); };
};
const flipped = (list, item) => (list.includes(item) ? list.filter((each) => each !== item) : [...list, item]);
const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;
const isShown = (column) => column.kind !== "hidden";
const isNumber = (column) => column.type === "number";

const VIEW = {
  query: "", sorts: [], selected: [], baseline: "", only_differences: true, hidden: [], shown: [], pinned: [],
  order: [], widths: {}, tab: "table", axes: [], log_axes: [], brushes: {}, scatter: [], metric: "",
};
const TABS = { table: "Table", chart: "Plots", selected: "Side by side", history: "History" };
const FIRST = ["name", "verdict"];

/** Show the comparison in an element; return what takes it away again. */
export function mount(root, host) {
  const me = `mlnb-${(mounted += 1)}`;
  const started = performance.now();
  const view = {};
  for (const [name, usual] of Object.entries(VIEW)) view[name] = host.get(name) ?? usual;
  let table, rowOfRun, filtered, ordered, columns, varying, champion, baseline, details, grid = null;
  let active = 0, anchor = null, looked = null, message = null, reasonText = "", target = "production", past = "", timer = null;
  const ask = (verb, words = {}) => host.call(verb, words);
  const put = (name, value) => { view[name] = value; host.set(name, value); };

  root.classList.add("mlnb-compare");
  // In command mode JupyterLab takes single keys for itself: `d d` would delete the cell.
  const own = (event) => plain(event) && event.stopPropagation();
  root.addEventListener("keydown", own);

  // ------------------------------------------------ parts that stay
  const input = make("input.filter", {
    type: "search", placeholder: 'Filter: metrics.auc > 0.9 and params.model = "xgb"', label: "Filter runs",
    spellcheck: "false", autocomplete: "off", value: view.query,
    oninput: debounced(() => { put("query", input.value); active = 0; refresh(); }, 120),
  });
  const fault = make("div.fault", { role: "alert" });
  const differences = make("input", {
    type: "checkbox", checked: view.only_differences, onchange: () => { put("only_differences", differences.checked); refresh(); },
  });
  const chooser = make("details.chooser", { ontoggle: () => drawChooser() }), tabs = make("div.tabs", { role: "tablist", label: "View" });
  const status = make("div.status", { role: "status" }), live = make("div.rollouts");
  const main = make("div.main", { id: `${me}-view`, role: "tabpanel" }), side = make("aside.side", { label: "Chosen run" });
  root.replaceChildren(
    bar(input, make("label.check", { title: "Leave out columns in which all shown runs agree" }, differences, " Only differences"), chooser, tabs),
    fault, live, make("div.body", main, side), status,
  );

  // ------------------------------------------------ state
  function load() {
    const { header, buffers } = host.data();
    table = openTable(header, buffers);
    const runs = table.byKey.get("run");
    rowOfRun = new Map(Array.from({ length: table.rows }, (_, row) => [valueOf(runs, row), row]));
    champion = header.champion ?? -1;
    details = new Map();
  }
  const columnsOf = (keys) => keys.map((key) => table.byKey.get(key)).filter(Boolean);
  const runOf = (row) => valueOf(table.byKey.get("run"), row);
  const nameOf = (row) => textOf(table.byKey.get("name"), row) || runOf(row).slice(0, 8);
  const chosen = () => view.selected.filter((run) => rowOfRun.has(run)).map((run) => rowOfRun.get(run));
  const championPlace = () => table.header.champion_environment || "production";
  const environments = () => table.header.environments ?? [];

  function refresh() {
    let keeps = () => true, says = "";
    try {
      keeps = compileFilter(view.query, table);
    } catch (error) {
      if (!(error instanceof FilterError)) throw error;
      says = error.message;
    }
    fault.textContent = says;
    input.setAttribute("aria-invalid", String(Boolean(says)));
    filtered = [];
    for (let row = 0; row < table.rows; row += 1) if (keeps(row)) filtered.push(row);
    ordered = orderOf(table, filtered.filter(brushed()), view.sorts);
    baseline = rowOfRun.get(view.baseline) ?? champion;
    varying = varyingColumns(table, ordered);
    columns = chooseColumns();
    active = Math.max(0, Math.min(active, ordered.length - 1));
    draw();
  }

  /** Return a function row -> bool: whether the brushes of the plot keep it. */
  function brushed() {
    const tests = Object.entries(view.brushes).filter(([key]) => table.byKey.has(key))
      .map(([key, [low, high]]) => [table.byKey.get(key).values, low, high]);
    return (row) => tests.every(([values, low, high]) => values[row] >= low && values[row] <= high);
  }

  function chooseColumns() {
    const first = columnsOf(FIRST), wide = root.clientWidth > NARROW;
    const rest = table.columns.filter((c) => isShown(c) && !FIRST.includes(c.key) && !view.hidden.includes(c.key)
      && (view.shown.includes(c.key) || (!c.optional && (!view.only_differences || varying.has(c.key) || ordered.length < 2))));
    const rank = (c) => (view.order.includes(c.key) ? view.order.indexOf(c.key) : 1000 + c.position);
    rest.sort((a, b) => view.pinned.includes(b.key) - view.pinned.includes(a.key) || rank(a) - rank(b));
    let left = 30;
    return [...first, ...rest].map((column, i) => {
      const width = view.widths[column.key] ?? widthOf(column);
      const placed = { column, width, left, pinned: wide ? i < first.length || view.pinned.includes(column.key) : i === 0 };
      left += width;
      return placed;
    });
  }

  function widthOf(column) {
    const gates = table.header.gates.length;
    if (column.key === "name") return 170;
    if (column.key === "verdict") return 86 + 16 * Math.min(SHOWN_GATES, gates) + (gates > SHOWN_GATES ? 26 : 0);
    const title = 44 + 8 * Math.min(column.name.length, 22);
    if (isNumber(column)) return Math.max(column.goal ? 152 : column.format === "moment" ? 142 : 86, title);
    const longest = column.words.slice(0, 200).reduce((most, word) => Math.max(most, word.length), 0);
    return Math.max(title, Math.min(220, 24 + 7 * longest));
  }

  // ------------------------------------------------ drawing
  function draw() {
    drawTabs();
    drawChooser();
    if (view.tab !== "table") grid = null;
    ({ chart: drawChart, selected: drawPivot, history: drawHistory }[view.tab] ?? drawTable)();
    drawSide();
    drawStatus();
    requestAnimationFrame(() => requestAnimationFrame(() => {
      root.dataset.paintMs = (performance.now() - started).toFixed(0);
      root.dataset.paints = String(Number(root.dataset.paints || 0) + 1);
    }));
  }

  function drawStatus() {
    const hidden = table.columns.filter(isShown).length - columns.length, { taken_at: taken } = table.header;
    status.textContent = [
      `${ordered.length.toLocaleString()} of ${table.rows.toLocaleString()} runs`,
      view.selected.length && `${chosen().length} chosen`,
      hidden > 0 && `${hidden} column${hidden === 1 ? "" : "s"} not shown`,
      Object.keys(view.brushes).length && "brushed in the plot",
      baseline >= 0 && `compared with ${baseline === champion ? `the model in ${championPlace()}, ` : ""}${nameOf(baseline)}`,
      taken && `as of ${formatMoment(taken)}`,
      !host.live && "read-only",
    ].filter(Boolean).join(" · ");
  }

  function drawTabs() {
    const there = Object.keys(TABS).filter((name) => name !== "history" || host.live);
    const turn = (name) => { put("tab", name); draw(); tabs.querySelector("[aria-selected=true]").focus(); };
    refill(tabs, ...there.map((name, at) => {
      const selected = view.tab === name, count = name === "selected" && chosen().length;
      return button(count ? `${TABS[name]} (${count})` : TABS[name], () => turn(name), {
        role: "tab", id: `${me}-tab-${name}`, "data-key": name, "aria-selected": String(selected), "aria-controls": main.id,
        tabindex: selected ? "0" : "-1",
        onkeydown: (event) => {
          const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
          if (by) { event.preventDefault(); turn(there[(at + by + there.length) % there.length]); }
        },
      });
    }));
    main.setAttribute("aria-labelledby", `${me}-tab-${view.tab}`);
  }

  function drawChooser() {
    const scroll = chooser.querySelector(".mlnb-list")?.scrollTop;
    const keys = columns.slice(FIRST.length).map(({ column }) => column.key), visible = new Set(keys);
    const change = (changes) => { for (const [name, value] of Object.entries(changes)) put(name, value); refresh(); };
    const move = (key, by) => {
      const at = keys.indexOf(key), order = [...keys];
      if (at < 0 || !(at + by in keys)) return;
      [order[at], order[at + by]] = [order[at + by], order[at]];
      change({ order });
    };
    const line = ({ key, name, kind }) => {
      const pinned = view.pinned.includes(key), says = `${kind}s.${name}`, { hidden, shown } = view;
      const without = (list) => list.filter((each) => each !== key);
      return make("div.line",
        make("label", make("input", {
          type: "checkbox", checked: visible.has(key), "data-key": key,
          onchange: ({ target: { checked } }) => change(checked ? { hidden: without(hidden), shown: [...without(shown), key] }
            : { hidden: [...hidden, key], shown: without(shown) }),
        }), ` ${name}`, make("small", ` ${kind}`)),
        button(pinned ? "●" : "○", () => change({ pinned: flipped(view.pinned, key) }), { label: `Pin ${says}`, "aria-pressed": String(pinned), title: "Pin" }),
        button("←", () => move(key, -1), { label: `Move ${says} to the left`, title: "To the left" }),
        button("→", () => move(key, 1), { label: `Move ${says} to the right`, title: "To the right" }));
    };
    const rest = table.columns.filter((c) => isShown(c) && !FIRST.includes(c.key));
    rest.sort((a, b) => visible.has(b.key) - visible.has(a.key) || a.position - b.position);
    const asFirst = button("As at first", () => change({ hidden: [], shown: [], pinned: [], order: [], widths: {} }));
    refill(chooser, make("summary", "Columns"), ...(chooser.open ? [make("div.list", rest.slice(0, 300).map(line), asFirst)] : []));
    if (scroll && chooser.open) chooser.querySelector(".mlnb-list").scrollTop = scroll;
  }

  // ------------------------------------------------ the table
  function drawTable() {
    if (!table.rows) return nothing("No run yet.", "`dvc repro` makes the first candidate, `mlnb sweep` many.");
    if (!grid || !main.contains(grid.box)) {
      const [head, base, canvas] = ["head", "base", "rows"].map((name) => make(`div.${name}`, { role: "rowgroup" }));
      const box = make("div.grid", {
        role: "grid", tabindex: "0", "aria-multiselectable": "true", label: "Runs", onscroll: drawRows, onkeydown: onKey,
      }, head, base, canvas);
      grid = { box, head, base, canvas, pool: [], shape: "" };
      main.replaceChildren(box);
      sized.observe(box);
    }
    grid.box.setAttribute("aria-rowcount", ordered.length + 1);
    grid.box.setAttribute("aria-colcount", columns.length + 1);
    drawHead();
    drawRows();
  }

  function nothing(text, more) {
    grid = null;
    main.replaceChildren(make("div.nothing", make("p", text), more && make("p", more)));
  }

  const total = () => `${30 + columns.reduce((sum, { width }) => sum + width, 0)}px`;

  function cellOf(role, { column, width, left, pinned }, i, ...inside) {
    return make(`div.cell.${column.kind}${pinned ? ".pinned" : ""}${isNumber(column) ? ".number" : ""}`, {
      role, "aria-colindex": i + 2, style: { width: `${width}px`, left: pinned ? `${left}px` : "" },
    }, ...inside);
  }
  const boxCell = (role, inside) => make("div.cell.box.pinned", { role, "aria-colindex": "1", style: { left: "0" } }, inside);

  function drawHead() {
    const all = make("input", {
      type: "checkbox", label: "Choose all shown runs", tabindex: "-1", checked: ordered.length > 0 && chosen().length >= ordered.length,
      onchange: () => { put("selected", all.checked ? Array.from(ordered, runOf) : []); draw(); },
    });
    const cells = columns.map((placed, i) => {
      const { column, width } = placed, at = view.sorts.findIndex(({ key }) => key === column.key), sort = view.sorts[at];
      const arrow = sort ? ` ${sort.down ? "↓" : "↑"}${view.sorts.length > 1 ? at + 1 : ""}` : "";
      const goal = { max: "\nmore is better", min: "\nless is better" }[column.goal] ?? "";
      const cell = cellOf("columnheader", placed, i,
        make("button", {
          type: "button", tabindex: "-1", "data-key": column.key, onclick: (event) => sortBy(column, event.shiftKey),
          title: `${column.kind}: ${column.name}${goal}\nShift-click sorts by this as well`,
        }, make("span.kind", column.kind === "meta" ? "" : column.kind), make("span.name", column.name, make("b", arrow))),
        make("span.handle", { "aria-hidden": "true", onpointerdown: (event) => resize(event, column, width) }));
      cell.setAttribute("aria-sort", sort ? (sort.down ? "descending" : "ascending") : "none");
      return cell;
    });
    grid.head.style.width = grid.base.style.width = total();
    refill(grid.head, make("div.row", { role: "row", "aria-rowindex": "1" }, boxCell("columnheader", all), cells));
    grid.base.hidden = baseline < 0;
    grid.base.replaceChildren();
    if (baseline < 0) return;
    const row = newRow();
    grid.base.append(row.node);
    fillRow(row, baseline, -1);
  }

  /** Turn the order of a column: as is best first, the other way, not at all. */
  function sortBy({ key, type, goal }, more) {
    const now = view.sorts.find((each) => each.key === key), first = type === "number" && goal !== "min";
    const next = !now ? { key, down: first } : now.down === first ? { key, down: !first } : null;
    const others = more ? view.sorts.filter((each) => each !== now) : [];
    if (more && now && next) put("sorts", view.sorts.map((each) => (each === now ? next : each)));
    else put("sorts", next ? [...others, next] : others);
    active = 0;
    grid.box.scrollTop = 0;
    refresh();
  }

  function layOut() {
    if (!grid) return;
    columns = chooseColumns();
    drawHead();
    drawRows();
  }

  function resize(event, { key }, width) {
    event.preventDefault();
    const turn = (moved) => { put("widths", { ...view.widths, [key]: Math.max(48, width + moved.clientX - event.clientX) }); layOut(); };
    const over = new AbortController();
    window.addEventListener("pointermove", turn, { signal: over.signal });
    window.addEventListener("pointerup", () => over.abort(), { signal: over.signal });
  }

  /** Return a row of the pool: a node whose cells are filled again for each run. */
  function newRow() {
    const box = make("input", { type: "checkbox", tabindex: "-1" });
    const cells = columns.map((placed, i) => {
      const inside = document.createTextNode(""), difference = placed.column.goal && make("span.difference");
      const node = cellOf("gridcell", placed, i, placed.column.key !== "verdict" && make("bdi", inside), difference || null);
      return { node, inside, difference };
    });
    const node = make("div.row", { role: "row" }, boxCell("gridcell", box), cells.map((cell) => cell.node));
    const row = { node, box, cells };
    box.addEventListener("click", (event) => { event.stopPropagation(); choose(row.run, event.shiftKey, row.position); });
    node.addEventListener("click", (event) => {
      if (event.altKey) return setBaseline(row.run);
      if (row.position >= 0) active = row.position;
      if (event.shiftKey || !plain(event)) choose(row.run, event.shiftKey, row.position);
      else lookAt(row.run);
    });
    return row;
  }

  function fillRow(row, run, position) {
    Object.assign(row, { run, position });
    const { node, box } = row, isChosen = view.selected.includes(runOf(run));
    node.id = position >= 0 ? `${me}-row-${position}` : "";
    if (position >= 0) node.setAttribute("aria-rowindex", position + 2);
    node.setAttribute("aria-selected", String(isChosen));
    node.classList.toggle("mlnb-selected", isChosen);
    node.classList.toggle("mlnb-active", position === active);
    node.classList.toggle("mlnb-baseline", run === baseline);
    box.checked = isChosen;
    box.setAttribute("aria-label", `Choose ${nameOf(run)}`);
    columns.forEach(({ column }, i) => {
      const cell = row.cells[i];
      if (column.key === "verdict") return fillVerdict(cell.node, textOf(column, run), run);
      const text = column.key === "name" ? nameOf(run) : textOf(column, run);
      if (cell.inside.data !== text) cell.inside.data = text;
      cell.node.title = text.length > 12 || column.key === "name" ? text : "";
      cell.node.classList.toggle("mlnb-best", grid.best?.get(column.key) === run);
      if (cell.difference) fillDifference(cell.difference, column, run);
    });
  }

  function fillVerdict(node, verdict, run) {
    const gates = table.header.gates.map(({ name, letters }) => ({ name, ...signOf(letters[run]) }));
    const now = verdict + gates.map(({ sign }) => sign).join("");
    if (node.dataset.now === now) return;
    node.dataset.now = now;
    const { sign, word, look } = signOf(verdict);
    node.setAttribute("aria-label", `${word}; ${gates.map((gate) => `${gate.name} ${gate.word}`).join(", ")}`);
    node.replaceChildren(
      make(`span.verdict.${look}`, `${sign} ${word === "not judged" ? "" : word === "inconclusive" ? "open" : word}`),
      ...gates.slice(0, SHOWN_GATES).map((gate) => make(`span.${gate.look}`, { title: `${gate.name}: ${gate.word}` }, gate.sign)),
      ...(gates.length > SHOWN_GATES ? [make("span.more", `+${gates.length - SHOWN_GATES}`)] : []),
    );
  }

  /** Say what a run differs from the baseline by: the paired difference with its interval where
   * Python has one (against the model in production), else the difference of the two figures. */
  function fillDifference(node, column, run) {
    const { goal, key, values } = column;
    const [by, low, high] = (baseline === champion && table.header.differences?.[key]?.[run]) || [values[run] - values[baseline]];
    node.textContent = node.title = "";
    node.className = "mlnb-difference";
    if (baseline < 0 || run === baseline || Number.isNaN(by)) return;
    const says = formatDifference(by, values[baseline]);
    if (low === undefined) {
      node.textContent = says;
      node.title = "difference of two figures; no interval is known";
      return;
    }
    const up = low > 0, down = high < 0, better = goal === "max" ? up : down;
    const [look, sign, word] = better ? ["better", "▲", "better"] : up || down ? ["worse", "▼", "worse"] : ["equal", "≈", "no difference is shown"];
    node.classList.add(`mlnb-${look}`);
    node.textContent = `${sign} ${says}`;
    node.title = `paired on the same rows: ${formatNumber(low)} to ${formatNumber(high)}; ${word}`;
  }

  function drawRows() {
    if (!grid) return;
    const { box, canvas, pool } = grid;
    const shape = columns.map(({ column, width, pinned }) => `${column.key}:${width}:${pinned}`).join("|");
    if (shape !== grid.shape) { canvas.replaceChildren(); pool.length = 0; grid.shape = shape; }
    if (grid.bestOf !== ordered) {
      grid.bestOf = ordered;
      grid.best = new Map(table.columns.filter((c) => c.goal).map((c) => [c.key, bestOf(c, ordered)]));
    }
    canvas.style.height = `${ordered.length * ROW}px`;
    canvas.style.width = total();
    const top = Math.max(0, Math.floor(box.scrollTop / ROW) - 4);
    const count = Math.min(ordered.length - top, Math.ceil((box.clientHeight || 400) / ROW) + 8);
    while (pool.length < count) { const row = newRow(); pool.push(row); canvas.append(row.node); }
    pool.forEach((row, i) => {
      row.node.hidden = i >= count;
      if (i >= count) { row.node.id = ""; return; }
      row.node.style.transform = `translateY(${(top + i) * ROW}px)`;
      fillRow(row, ordered[top + i], top + i);
    });
    box.setAttribute("aria-activedescendant", ordered.length ? `${me}-row-${active}` : "");
  }

  function choose(run, range, position) {
    if (range && anchor !== null && position >= 0) {
      const part = ordered.slice(Math.min(anchor, position), Math.max(anchor, position) + 1);
      put("selected", [...new Set([...view.selected, ...Array.from(part, runOf)])]);
    } else {
      put("selected", flipped(view.selected, runOf(run)));
      anchor = position;
    }
    draw();
  }
  function setBaseline(run) { put("baseline", run === baseline && run !== champion ? "" : runOf(run)); refresh(); }

  function onKey(event) {
    const { key } = event, { box, base } = grid, held = event.target;
    if (held !== box && held.tagName === "BUTTON" && (key === "Enter" || key === " ")) return;
    const page = Math.max(1, Math.floor((box.clientHeight - HEAD) / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[key];
    const across = { ArrowRight: 80, ArrowLeft: -80 }[key], here = ordered[active], some = ordered.length > 0;
    if (step && !event.altKey) {
      if (event.shiftKey) anchor ??= active;
      active = Math.max(0, Math.min(ordered.length - 1, active + step));
      if (event.shiftKey && some) choose(ordered[active], true, active);
      const y = active * ROW, room = box.clientHeight - HEAD - (base.hidden ? 0 : ROW);
      box.scrollTop = Math.min(y, Math.max(box.scrollTop, y + ROW - room));
      drawRows();
    } else if (across) box.scrollLeft += across;
    else if (key === " " && some) choose(here, false, active);
    else if (key === "Enter" && some) { lookAt(here); side.querySelector("button, a, select, input")?.focus(); }
    else if (key === "b" && some && plain(event)) setBaseline(here);
    else if (key === "/" && plain(event)) input.focus();
    else if (key === "a" && (event.ctrlKey || event.metaKey)) { put("selected", Array.from(ordered, runOf)); draw(); }
    else if (key === "Escape") { put("selected", []); draw(); }
    else return;
    event.preventDefault();
  }

  // ------------------------------------------------ one run: its gates, where it comes from, promotion
  function lookAt(row) { looked = runOf(row); message = null; draw(); side.scrollIntoView?.({ block: "nearest" }); }

  function detailOf(run) {
    if (!details.has(run)) {
      const told = (found) => { details.set(run, found); if (looked === run) drawSide(); };
      details.set(run, null);
      ask("details", { run }).then(told, (error) => told({ fault: error.message }));
    }
    return details.get(run);
  }

  function drawSide() {
    side.hidden = !rowOfRun.has(looked);
    root.classList.toggle("mlnb-with-side", !side.hidden);
    if (side.hidden) return;
    const told = detailOf(looked), close = () => { looked = null; message = null; drawSide(); (grid?.box ?? tabs.querySelector("[tabindex='0']")).focus(); };
    const places = environments().filter((each) => each.run === looked).map((each) => badge(each.name));
    const title = make("h3", make("bdi", nameOf(rowOfRun.get(looked))), places);
    refill(side, make("header", title, button("×", close, { look: "close", label: "Close" })),
      ...(!told ? [quiet(ASKING)] : told.fault ? [wrong(told.fault)] : [gatesOf(told), actionsOf(told), lineageOf(told)]));
  }

  function gatesOf(told) {
    if (!told.gates?.length) return quiet(told.judged || "No gate has judged this run.");
    const isFigure = (value) => typeof value === "number";
    return make("table.gates", make("caption", "Gates"), make("tbody", told.gates.map((gate) => {
      const { sign, word, look } = signOf(gate.verdict), { value, low, high } = gate;
      const range = (isFigure(low) || isFigure(high)) && `${formatNumber(low ?? NaN) || "−∞"} to ${formatNumber(high ?? NaN) || "∞"}`;
      return make(`tr.${look}`, make("td", { title: word }, make("span", { role: "img", label: word }, sign)),
        make("td", gate.name, gate.threshold && ` (${gate.threshold})`, gate.reason && make("div.quiet", gate.reason)),
        make("td.number", isFigure(value) ? formatNumber(value) : value, range && make("div.quiet", range)));
    })));
  }

  function lineageOf({ lineage = {} }) {
    return make("dl.lineage", Object.entries(lineage).filter(([, value]) => value).flatMap(([name, value]) => [
      make("dt", name), make("dd", value.href ? link(host.open ? host.open(value.href) : value.href, value.text) : String(value.text ?? value)),
    ]));
  }

  function actionsOf({ actions, why_not: why }) {
    if (!host.live) return quiet("Read-only, for Python is not there: run the cell again, open this in JupyterLab, or use `mlnb promote`.");
    if (!actions?.length) return quiet(why || "Nothing can be promoted here.");
    const action = actions.find(({ environment }) => environment === target) ?? actions[0], { environment, version, allowed } = action;
    const reason = make("input", {
      type: "text", placeholder: "Why? Kept for ever.", label: "Reason", maxlength: "500", value: reasonText, oninput: () => { reasonText = reason.value; },
    });
    const pick = picker("Environment", environment, actions.map((each) => [each.environment]), (name) => { target = name; drawSide(); });
    const go = (text, look, call) => button(text, call, { look, disabled: !allowed, title: action.why });
    const deed = (verb) => () => act(verb, verb === "ask" ? { run: looked, environment, reason: reasonText } : { version, environment, reason: reasonText });
    return make("section.actions", { label: "Promotion" }, make("div", pick, reason),
      make("div", go(`Promote to ${environment}…`, "", () => plan(environment)), action.ask && go("Ask for approval", "", deed("ask")),
        action.approve && go("Approve", "", deed("approve"))),
      !allowed && make("p.why", action.why), message);
  }

  function say(what) { message = what; drawSide(); }

  /** Ask Python what a promotion would do, and show it before anything is done. */
  function plan(environment) {
    const reason = reasonText.trim(), given = { run: looked, environment, reason }, id = `${me}-plan`;
    if (!reason) {
      say(wrong("Say why first: the reason is part of the record."));
      side.querySelector("input[type=text]")?.focus();
      return;
    }
    wait("Judging again…");
    ask("plan", given).then(({ allowed, words, gates, current = null }) => {
      const yes = button("Promote", () => act("promote", { ...given, expected: current }), { look: "primary", disabled: !allowed });
      const no = button("Leave it", () => { say(null); side.querySelector(".mlnb-close")?.focus(); });
      say(make("div.plan", {
        role: "alertdialog", "aria-labelledby": id, onkeydown: (event) => { if (event.key === "Escape") { event.stopPropagation(); no.click(); } },
      }, make("h4", { id }, `${allowed ? "What will happen" : "Not possible"} in ${environment}`),
      make("ul", words.map((line) => make("li", line))),
      gates?.length > 0 && make("ul.short", gates.map(({ name, verdict }) => make(`li.${verdict}`, `${signOf(verdict).sign} ${name}: ${verdict}`))),
      make("div", yes, no)));
      (allowed ? yes : no).focus();
    }, (error) => say(wrong(error.message)));
  }

  function act(verb, given) {
    wait(verb === "promote" ? "Promoting…" : ASKING);
    const told = (what) => { details.delete(looked); say(what); host.renew?.(); };
    ask(verb, given).then(({ words }) => told(make("p.done", { role: "status" }, words.join(" "))), (error) => told(wrong(error.message)));
  }

  function wait(text) {
    const line = make("p.quiet", { role: "status" }, text);
    say(line);
    setTimeout(() => { line.textContent = `${text} Python has not answered yet: a cell may be running, and this waits for its end.`; }, 4000);
  }

  // ------------------------------------------------ runs side by side
  function drawPivot() {
    const picked = chosen().slice(0, 8), rows = [...picked];
    if (!rows.length) return nothing("No run is chosen.", "Tick 2 to 8 runs in the table to see them side by side.");
    if (baseline >= 0 && !rows.includes(baseline) && rows.length < 8) rows.unshift(baseline);
    const differing = varyingColumns(table, rows);
    const all = table.columns.filter((c) => isShown(c) && c.key !== "name" && rows.some((row) => !isMissing(c, row)));
    const shown = all.filter((c) => !view.only_differences || differing.has(c.key)), equal = all.length - shown.length;
    shown.sort((a, b) => differing.has(b.key) - differing.has(a.key) || a.position - b.position);
    const body = shown.map((column) => {
      const best = rows.length > 1 ? bestOf(column, rows) : -1;
      return make("tr", make("th", { scope: "row" }, make("span.kind", column.kind === "meta" ? "" : column.kind), " ", column.name), rows.map((row) => {
        const difference = isNumber(column) && make("span.difference");
        if (column.goal) fillDifference(difference, column, row);
        return make(`td${isNumber(column) ? ".number" : ""}${row === best ? ".best" : ""}`, make("bdi", textOf(column, row) || "–"), difference);
      }));
    });
    const places = (row) => (row === champion ? badge(championPlace()) : row === baseline && badge("baseline"));
    const head = rows.map((row) => make("th", { scope: "col" }, make("bdi", nameOf(row)), places(row)));
    const code = make("div.code"), pair = [picked, rows].find(({ length }) => length === 2);
    const differ = () => {
      code.replaceChildren(quiet(ASKING));
      ask("diff", { a: runOf(pair[0]), b: runOf(pair[1]) }).then((found) => code.replaceChildren(...drawDiff(found)), (error) => code.replaceChildren(wrong(error.message)));
    };
    main.replaceChildren(region("Runs side by side",
      make("table.pivot", make("thead", make("tr", make("td"), head)), make("tbody", body)),
      equal > 0 && quiet(`${equal} more in which they agree are not shown.`),
      pair && host.live && button(`What else differs: ${nameOf(pair[0])} → ${nameOf(pair[1])}`, differ), code));
  }

  function drawDiff({ files = [], words = [] }) {
    if (!files.length) return [quiet(words.join(" ") || "Code, parameters and data are the same.")];
    const looks = { "+": "span.added", "-": "span.removed" };
    return [...words.map(quiet), ...files.map(({ name, lines }) => make("details", { open: files.length < 6 }, make("summary", name),
      make("pre", lines.map((line) => make(looks[line[0]] ?? "span", `${line}\n`)))))];
  }

  // ------------------------------------------------ history of an environment
  function drawHistory() {
    const names = environments().map((each) => each.name);
    if (!names.length) return nothing("Nothing was promoted yet.");
    if (!names.includes(past)) past = names.includes("production") ? "production" : names[0];
    const list = region(`History of ${past}`, quiet(ASKING)), asked = past;
    main.replaceChildren(bar(picker("Environment", past, names.map((name) => [name]), (name) => { past = name; drawHistory(); })), list);
    ask("history", { environment: asked }).then(({ entries }) => {
      if (asked !== past) return;
      const rows = entries.map((entry) => make("tr", make("td", entry.at), make("td", entry.kind), make("td.number", entry.version),
        make("td", make("bdi", entry.who)), make("td", make("bdi", entry.reason)),
        make("td", entry.current ? badge("now") : entry.can_return && button("Roll back to this…", (event) => returnTo(event.target, asked, entry)))));
      const head = ["When", "What", "Version", "Who", "Why", "Roll back"].map((text) => make("th", { scope: "col" }, text));
      list.replaceChildren(rows.length ? make("table.history", make("thead", make("tr", head)), make("tbody", rows)) : quiet(`Nothing was ever promoted to ${asked}.`));
    }, (error) => list.replaceChildren(wrong(error.message)));
  }

  function returnTo(pressed, environment, { version }) {
    const reason = make("input", { type: "text", placeholder: "Why? Kept for ever.", label: "Reason for going back" });
    const says = make("span.quiet", { role: "status" });
    const go = button(`Roll ${environment} back to version ${version}`, () => {
      says.textContent = reason.value.trim() ? "Rolling back…" : "Say why first.";
      if (!reason.value.trim()) return reason.focus();
      go.disabled = true;
      ask("rollback", { environment, version, reason: reason.value.trim() }).then(() => { host.renew?.(); drawHistory(); },
        (error) => { says.replaceChildren(wrong(error.message)); go.disabled = false; });
    }, { look: "primary" });
    pressed.replaceWith(make("div.actions", reason, go, says));
    reason.focus();
  }

  // ------------------------------------------------ a roll-out that is going on
  function follow() {
    clearTimeout(timer);
    if (!host.live || !root.isConnected) { live.replaceChildren(); return; }
    if (document.visibilityState === "visible") ask("rollout").then(drawRollouts, () => drawRollouts({}));
    timer = setTimeout(follow, 5000);
  }

  function drawRollouts({ rollouts = [], versions }) {
    live.replaceChildren(...rollouts.map((each) => make(`div.rollout.${each.verdict}`, make("b", `${each.environment}: version ${each.version} `),
      make("progress", { max: 1, value: each.share, label: `Share of version ${each.version}` }),
      ` ${Math.round(each.share * 100)} % of requests · ${each.requests.toLocaleString()} answered · ${each.failures.toLocaleString()} failed · ${each.words}`)));
    // What somebody else promoted in between is shown, too.
    if (versions && environments().some(({ name, version }) => (versions[name] ?? null) !== version)) host.renew?.();
  }

  // ------------------------------------------------ plots
  let repaint = [];
  const numbers = () => table.columns.filter((c) => isNumber(c) && isShown(c));

  function drawChart() {
    const metrics = numbers().filter((c) => c.kind === "metric" && ordered.some((row) => !isMissing(c, row)));
    if (!metrics.length) return nothing("Nothing to draw: no shown run has a number.");
    const goal = table.byKey.get(view.metric) ?? metrics.find((c) => c.goal) ?? metrics[0], time = table.byKey.get("started");
    const usable = numbers().filter((c) => varying.has(c.key) || c.key in view.brushes), gated = table.header.gates.map((gate) => gate.key);
    const words = table.columns.filter((c) => !isNumber(c) && c.kind === "param" && varying.has(c.key) && c.words.length <= 12);
    let axes = columnsOf(view.axes);
    if (!axes.length) {
      axes = [...words.slice(0, 3), ...usable.filter((c) => c.kind === "param"),
        ...usable.filter((c) => c.kind === "metric" && (gated.includes(c.key) || c === goal))].slice(0, 8);
    }
    if (!axes.includes(goal)) axes.push(goal);
    const x = table.byKey.get(view.scatter[0]) ?? usable.find((c) => c.kind === "param") ?? usable[0] ?? goal;
    const y = table.byKey.get(view.scatter[1]) ?? goal, brushes = columnsOf(Object.keys(view.brushes));
    repaint = [];
    main.replaceChildren(region("Plots",
      bar(labelled(goal, "Coloured by", (key) => { put("metric", key); draw(); }, metrics), brushes.length
        ? button(`Undo the brush on ${brushes.map((c) => c.name).join(", ")}`, () => { put("brushes", {}); refresh(); })
        : make("span.quiet", "Drag along an axis to keep a part of it.")),
      figure((sheet) => drawParallel(sheet, axes, goal)),
      bar("Log scale:", axes.filter((c) => isNumber(c) && endsOf(c, filtered)[0] > 0).map((c) => button(
        c.name, () => { put("log_axes", flipped(view.log_axes, c.key)); draw(); }, { "aria-pressed": String(isLog(c, ...endsOf(c, filtered))) },
      ))),
      make("div.two",
        make("div", bar(labelled(x, "Across", (key) => { put("scatter", [key, y.key]); draw(); }, numbers()),
          labelled(y, "Up", (key) => { put("scatter", [x.key, key]); draw(); }, numbers())), figure((sheet) => drawScatter(sheet, x, y))),
        time && make("div", bar(`Best ${goal.name} so far, run after run`), figure((sheet) => drawBest(sheet, goal, time))))));
    repaint.forEach((paint) => paint());
  }

  /** Make a figure; `paint` draws on a sheet and returns where runs are: [{row, x, y, text}]. */
  function figure(paint) {
    const canvas = make("canvas", { role: "img" }), tip = make("div.tip", { hidden: true }), node = make("figure", canvas, tip);
    repaint.push(() => {
      const width = node.clientWidth || 600, height = node.clientHeight || 260, scale = window.devicePixelRatio || 1;
      canvas.width = width * scale;
      canvas.height = height * scale;
      const pen = canvas.getContext("2d"), style = getComputedStyle(root);
      pen.scale(scale, scale);
      const tone = Object.fromEntries(["text", "quiet", "line", "accent", "good", "base", "back"].map((name) => [name, style.getPropertyValue(`--mlnb-${name}`).trim()]));
      const sheet = {
        canvas, pen, width, height, tone,
        line(points, colour, thick = 1) {
          Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
          pen.beginPath();
          points.forEach(([px, py], i) => {
            if (!Number.isNaN(py)) pen[i && !Number.isNaN(points[i - 1][1]) ? "lineTo" : "moveTo"](px, py);
          });
          pen.stroke();
        },
        dot(px, py, size, colour) { pen.beginPath(); pen.arc(px, py, size, 0, 7); pen[colour ? "stroke" : "fill"](); },
        write(text, px, py, { align = "center", bold, colour = tone.text, room = Infinity } = {}) {
          Object.assign(pen, { font: `${bold ? "600 11px" : "10px"} ${style.fontFamily}`, textAlign: align, fillStyle: colour, strokeStyle: tone.back, lineWidth: 3 });
          let cut = text;
          while (cut.length > 2 && pen.measureText(cut).width > room) cut = `${cut.slice(0, -2)}…`;
          pen.strokeText(cut, px, py);
          pen.fillText(cut, px, py);
        },
      };
      const hits = paint(sheet) ?? [];
      canvas.onpointermove = ({ offsetX, offsetY }) => {
        const far = (hit) => (hit.x - offsetX) ** 2 + (hit.y - offsetY) ** 2;
        const near = hits.reduce((best, hit) => (far(hit) < (best ? far(best) : 18 ** 2) ? hit : best), null);
        tip.hidden = !near;
        canvas.onclick = near && (() => lookAt(near.row));
        if (!near) return;
        tip.textContent = near.text;
        Object.assign(tip.style, { left: `${Math.min(near.x + 10, width - 180)}px`, top: `${Math.max(0, near.y - 34)}px` });
      };
      canvas.onpointerleave = () => { tip.hidden = true; };
    });
    sized.observe(node);
    return node;
  }

  function endsOf({ values }, rows) {
    let low = Infinity, high = -Infinity;
    for (const row of rows) { const v = values[row]; if (v < low) low = v; if (v > high) high = v; }
    return [low, high];
  }

  /** Whether an axis is logarithmic: of itself from a factor of 100 on, and otherwise if a person wants. */
  const isLog = ({ key }, low, high) => low > 0 && (high / low >= 100) !== view.log_axes.includes(key);

  /** Return where values are between two ends of an axis, its ticks [[place, text]], and what is at a place. */
  function scaleOf(column, rows, from, to) {
    let { values, words } = column, used = [];
    if (words) {
      const there = new Set(Array.from(rows, (row) => values[row]));
      used = inOrder(words).filter((code) => there.has(code));
      const rank = new Map(used.map((code, i) => [code, i]));
      values = Array.from(values, (code) => rank.get(code) ?? NaN);
    }
    const [low, high] = endsOf({ values }, rows), log = !words && isLog(column, low, high);
    const turn = log ? Math.log10 : (v) => v, a = turn(low), b = turn(high);
    const at = (v) => from + (a === b ? 0.5 + 0 * v : (turn(v) - a) / (b - a)) * (to - from); // 0 * NaN stays NaN
    const says = (v) => (column.format === "moment" ? formatMoment(v).slice(5) : formatNumber(Number(v.toPrecision(10))));
    const ticks = words ? used.map((code, i) => [at(i), words[code]])
      : ticksOf(low, high, log, Math.abs(to - from) / 60).map((v) => [at(v), says(v)]);
    const invert = (place) => { const v = a + ((place - from) / (to - from)) * (b - a); return log ? 10 ** v : v; };
    return { at, ticks, invert, place: (row) => at(values[row]) };
  }

  function ticksOf(low, high, log, count) {
    const found = [];
    if (low >= high) return low === high ? [low] : found;
    if (log) {
      for (let e = Math.floor(Math.log10(low)); 10 ** e <= high; e += 1) found.push(...(high / low > 300 ? [1] : [1, 2, 5]).map((m) => m * 10 ** e));
      return found.filter((v) => v >= low && v <= high);
    }
    const raw = (high - low) / Math.max(2, count), unit = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((m) => m * unit >= raw) * unit;
    for (let k = Math.ceil(low / step); k * step <= high + step * 1e-9; k += 1) found.push(k * step);
    return found;
  }

  /** Return [opacity, colour] by how good a run is: one hue, so that all can read it. */
  function shadeOf({ values, goal }, rows, tone) {
    const order = Array.from(rows).filter((row) => !Number.isNaN(values[row])).sort((a, b) => (goal === "min" ? values[b] - values[a] : values[a] - values[b]));
    const rank = new Map(order.map((row, i) => [row, order.length > 1 ? i / (order.length - 1) : 1]));
    return (row) => (rank.has(row) ? [0.12 + 0.75 * rank.get(row) ** 2, tone.accent] : [0.1, tone.quiet]);
  }

  function drawParallel({ canvas, pen, width, height, tone, line, write }, axes, goal) {
    const rows = filtered, top = 34, bottom = height - 12, left = 64, last = axes.length - 1;
    const step = last ? (width - 2 * left) / last : 0, keeps = brushed(), shade = shadeOf(goal, rows, tone);
    const scales = axes.map((c) => scaleOf(c, rows, bottom, top)), path = (row) => scales.map(({ place }, i) => [left + i * step, place(row)]);
    pen.lineJoin = "round";
    for (const row of [...rows].sort((a, b) => shade(a)[0] - shade(b)[0])) {
      const [alpha, colour] = keeps(row) ? shade(row) : [0.03, tone.quiet];
      pen.globalAlpha = alpha * (rows.length > 2000 ? 0.5 : 1);
      line(path(row), colour, 1.2);
    }
    pen.globalAlpha = 1;
    for (const row of chosen()) line(path(row), tone.text, 2);
    pen.setLineDash([6, 3]);
    if (baseline >= 0) line(path(baseline), tone.base, 2.5);
    pen.setLineDash([]);
    axes.forEach(({ key, name }, i) => {
      const px = left + i * step, { at, ticks } = scales[i], outer = i === 0 || i === last, brush = view.brushes[key];
      line([[px, top], [px, bottom]], tone.line);
      write(name, px, i % 2 && step < 70 ? 26 : 14, { bold: true, room: Math.max(40, step - 8) });
      let before = Infinity;
      for (const [py, text] of ticks) {
        if (Math.abs(before - py) < 11) continue;
        before = py;
        write(text, px + (i === last ? 6 : -6), py + 3, { align: i === last ? "left" : "right", room: outer ? 56 : Math.max(24, step - 16) });
      }
      if (!brush) return;
      Object.assign(pen, { fillStyle: tone.accent, globalAlpha: 0.25 });
      pen.fillRect(px - 7, at(brush[1]), 14, Math.max(2, at(brush[0]) - at(brush[1])));
      pen.globalAlpha = 1;
    });
    canvas.setAttribute("aria-label", `Parallel coordinates of ${axes.map((c) => c.name).join(", ")} for ${rows.length} runs; the filter box keeps a part as dragging does`);
    canvas.onpointerdown = ({ offsetX, offsetY: y0, pointerId }) => {
      const i = step ? Math.round((offsetX - left) / step) : 0;
      if (!axes[i] || Math.abs(offsetX - left - i * step) > 16 || !isNumber(axes[i])) return;
      canvas.setPointerCapture(pointerId);
      const value = (py) => scales[i].invert(Math.max(top, Math.min(bottom, py)));
      canvas.onpointerup = ({ offsetY: y1 }) => {
        canvas.onpointerup = null;
        const { [axes[i].key]: gone, ...brushes } = view.brushes;
        if (Math.abs(y1 - y0) >= 4) brushes[axes[i].key] = [value(y0), value(y1)].sort((a, b) => a - b);
        put("brushes", brushes);
        refresh();
      };
    };
    return rows.slice(0, 3000).map((row) => ({ row, x: left + last * step, y: scales[last].place(row), text: `${nameOf(row)}: ${textOf(goal, row)}` }));
  }

  /** Draw runs as points over two axes; return them. */
  function drawPoints({ canvas, pen, width, height, tone, line, dot, write }, xs, ys, names, points, says) {
    const left = 62, bottom = height - 34;
    let edge = -Infinity;
    for (const [px, text] of xs.ticks) {
      const half = pen.measureText(text).width / 2;
      line([[px, 10], [px, bottom]], tone.line);
      if (px - half < edge + 6) continue;
      edge = px + half;
      write(text, px, bottom + 13, { colour: tone.quiet });
    }
    for (const [py, text] of ys.ticks) {
      line([[left, py], [width - 10, py]], tone.line);
      write(text, left - 6, py + 3, { align: "right", colour: tone.quiet });
    }
    write(names[0], (left + width) / 2, height - 5, { bold: true });
    pen.save();
    pen.translate(11, bottom / 2);
    pen.rotate(-Math.PI / 2);
    write(names[1], 0, 0, { bold: true, room: bottom });
    pen.restore();
    const marked = new Set([...chosen(), baseline]), hits = points.filter(({ x, y }) => !Number.isNaN(x + y));
    for (const { row, x, y } of hits) {
      Object.assign(pen, { fillStyle: tone.accent, globalAlpha: hits.length > 2000 ? 0.25 : 0.6 });
      dot(x, y, 3);
      Object.assign(pen, { globalAlpha: 1, lineWidth: 2, strokeStyle: row === baseline ? tone.base : tone.text });
      if (marked.has(row)) dot(x, y, 5.5, true);
    }
    canvas.setAttribute("aria-label", says);
    return hits;
  }

  function drawScatter(sheet, x, y) {
    const { width, height } = sheet, xs = scaleOf(x, ordered, 70, width - 18), ys = scaleOf(y, ordered, height - 42, 16);
    const points = Array.from(ordered, (row) => ({ row, x: xs.place(row), y: ys.place(row), text: `${nameOf(row)}: ${textOf(x, row)}, ${textOf(y, row)}` }));
    return drawPoints(sheet, xs, ys, [x.name, y.name], points, `${y.name} over ${x.name}, ${points.length} runs`);
  }

  function drawBest(sheet, goal, time) {
    const found = bestSoFar(table, ordered, goal, time), { width, height, tone } = sheet, many = found.length - 1;
    if (many < 0) return [];
    const ys = scaleOf(goal, found.map(({ row }) => row), height - 42, 16);
    const at = (i) => 70 + (width - 88) * (many ? i / many : 0.5), count = Math.min(5, many);
    const ticks = Array.from({ length: count + 1 }, (_, k) => Math.round((k * many) / (count || 1))).map((i) => [at(i), String(i + 1)]);
    const points = found.map(({ row }, i) => ({ row, x: at(i), y: ys.place(row), text: `${nameOf(row)}: ${textOf(goal, row)}` }));
    const hits = drawPoints(sheet, { ticks }, ys, ["run", goal.name], points, `Best ${goal.name} so far over ${found.length} runs: ${formatNumber(found[many].best)}`);
    const levels = found.map(({ best }) => ys.at(best));
    sheet.line(levels.flatMap((y, i) => [[at(i), levels[Math.max(0, i - 1)]], [at(i), y]]), tone.good, 2);
    return hits;
  }

  // ------------------------------------------------ life
  const painted = debounced(() => view.tab === "chart" && root.isConnected && repaint.forEach((paint) => paint()), 80);
  const sized = new ResizeObserver((entries) => {
    root.classList.toggle("mlnb-narrow", root.clientWidth <= NARROW);
    if (entries.some(({ target: { tagName } }) => tagName === "FIGURE")) painted();
    else layOut();
  });
  const stop = [
    host.on("data", () => { load(); refresh(); }),
    host.on("live", () => { message = null; refresh(); follow(); }),
    ...Object.keys(VIEW).map((name) => host.on(name, () => {
      const value = host.get(name);
      if (value === undefined || JSON.stringify(value) === JSON.stringify(view[name])) return;
      view[name] = value;
      if (name === "query") input.value = value;
      if (name === "only_differences") differences.checked = value;
      refresh();
    })),
  ];
  const themed = new MutationObserver(painted);
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  const outside = (event) => { if (!chooser.contains(event.target)) chooser.open = false; };
  document.addEventListener("pointerdown", outside);

  load();
  root.classList.toggle("mlnb-narrow", root.clientWidth > 0 && root.clientWidth <= NARROW);
  refresh();
  sized.observe(root);
  follow();
  return () => {
    clearTimeout(timer);
    themed.disconnect();
    sized.disconnect();
    document.removeEventListener("pointerdown", outside);
    root.removeEventListener("keydown", own);
    stop.forEach((end) => end());
    root.replaceChildren();
  };
}

// ---------------------------------------------------------------- the pipeline, for a side bar

const STAGES = {
  fresh: ["✓", "pass", "up to date"], stale: ["≠", "inconclusive", "stale"], running: ["…", "inconclusive", "running"],
  failed: ["✗", "fail", "failed"], never: ["·", "not-judged", "never run"],
};

/** Show the stages: which are stale, what they gave last, their reports; return what takes it away. */
export function mountPipeline(root, { ask, open }) {
  root.classList.add("mlnb-compare", "mlnb-narrow", "mlnb-pipeline");
  const list = make("ol.stages"), note = make("p.quiet", { role: "status" }, ASKING);
  let timer = null, gone = false;
  root.replaceChildren(bar(make("h3", "Pipeline"), button("Look again", look)), note, region("Stages", list));
  const say = (text, look_) => { if (!gone) { note.className = `mlnb-${look_}`; note.textContent = text; } };
  const fail = (error) => say(error.message, "fault");
  function line({ name, state, why, figures = [], report }) {
    const [sign, tone, says] = STAGES[state] ?? STAGES.never;
    const run = (event) => {
      event.target.disabled = true;
      ask("run", { stage: name }).then(({ words }) => { say(words.join(" "), "quiet"); look(); }, fail);
    };
    return make("li",
      make("div", make(`span.${tone}`, { role: "img", label: says, title: says }, sign), " ", make("b", make("bdi", name)), make("small.quiet", ` ${says}${why ? `: ${why}` : ""}`)),
      figures.length > 0 && make("div.quiet.figures", figures.map(([of, value]) => make("span", `${of} `, make("b", typeof value === "number" ? formatNumber(value) : String(value))))),
      bar(report && link(open(report), "Open report"), button("Run", run, { disabled: state === "running", label: `Run stage ${name}` })));
  }
  function look() {
    clearTimeout(timer);
    ask("pipeline").then(({ stages, words }) => {
      if (gone) return;
      if (words || note.textContent === ASKING) say(words ?? "", "quiet");
      refill(list, ...stages.map(line));
      if (stages.some(({ state }) => state === "running")) timer = setTimeout(look, 1500);
    }, fail);
  }
  look();
  return () => { gone = true; clearTimeout(timer); root.replaceChildren(); };
}

// ---------------------------------------------------------------- hosts

/** Return who listens to what, by name: on(name, call) returns what ends it; tell(name) calls all. */
function listeners() {
  const ears = new Map();
  return {
    tell: (name) => ears.get(name)?.forEach((call) => call()),
    on(name, call) {
      ears.set(name, (ears.get(name) ?? new Set()).add(call));
      return () => ears.get(name).delete(call);
    },
  };
}

/** Return a host around an anywidget model: Python's object is its other end. */
export function notebookHost(model) {
  const waiting = new Map(), { tell, on } = listeners(), turns = new Map();
  let number = 0, live = false;
  const hear = (event, call) => { turns.set(event, call); model.on(event, call); };
  hear("msg:custom", (content) => {
    if (content.kind === "here") { live = true; tell("live"); return; }
    const [resolve, reject] = waiting.get(content.id) ?? [];
    waiting.delete(content.id);
    if (content.ok) resolve?.(content.result);
    else reject?.(new Error(content.message));
  });
  // The kernel was restarted, or is gone: nothing that was asked will be answered.
  hear("comm_live_update", () => {
    if (!live) return;
    live = false;
    for (const [, reject] of waiting.values()) reject(new Error("Python is gone: run the cell again."));
    waiting.clear();
    tell("live");
  });
  hear("change:_taken", () => tell("data"));
  return {
    name: "notebook", get live() { return live; },
    data: () => ({ header: model.get("_header"), buffers: model.get("_buffers") }),
    get: (name) => model.get(name),
    set: (name, value) => { model.set(name, value); model.save_changes(); },
    on(name, call) {
      if (!["data", "live"].includes(name) && !turns.has(`change:${name}`)) hear(`change:${name}`, () => tell(name));
      return on(name, call);
    },
    call: (verb, words) => new Promise((resolve, reject) => {
      if (!live) { reject(new Error("Python does not answer: run the cell again.")); return; }
      const id = `${(number += 1)}-${Math.random().toString(36).slice(2)}`;
      waiting.set(id, [resolve, reject]);
      model.send({ kind: "ask", id, verb, words });
    }),
    greet: () => model.send({ kind: "hello" }),
    close: () => { for (const [event, call] of turns) model.off(event, call); },
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
    call: async (verb, { run } = {}) => {
      if (verb === "details" && header.details?.[run]) return header.details[run];
      throw new Error("This page was saved; it has no more than it shows.");
    },
  };
}

/** Return a host that asks a Jupyter server: { state() -> {header, buffers}, ask(verb, words), open(report) }. */
export function serverHost({ state, ask, open }, first, view, keep) {
  const { tell, on } = listeners();
  let now = first;
  return {
    name: "lab", live: true, open, on,
    renew: async () => { now = await state(); tell("data"); },
    data: () => now,
    get: (name) => view[name],
    set: (name, value) => { view[name] = value; keep(view); },
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
    parts.push(body.slice(at, at += view.getUint32(8 + 4 * i, true)));
  }
  return { header: JSON.parse(new TextDecoder().decode(parts[0])), buffers: parts.slice(1) };
}

/** Return buffers that travelled as base64 in JSON. */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0)).buffer;

/** Be anywidget's render. */
function render({ model, el }) {
  const host = notebookHost(model), inside = document.createElement("div");
  el.append(inside);
  const end = mount(inside, host);
  host.greet();
  return () => { end(); host.close(); };
}

export default { render };
