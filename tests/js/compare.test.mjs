// The logic of the comparison, without a page.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  FilterError, bestOf, bestSoFar, compileFilter, formatDifference, formatMoment, formatNumber, isMissing, notebookHost, openTable, orderOf, reportHost,
  separate, textOf, valueOf, varyingColumns,
} from "../../mlnb/widget/static/compare.js";

const numbers = (...values) => Float64Array.from(values, (v) => v ?? NaN).buffer;
const codes = (...values) => Int32Array.from(values).buffer;

function table() {
  const header = {
    rows: 4,
    columns: [
      { key: "metrics.auc", name: "auc", kind: "metric", type: "number", goal: "max", buffer: 0 },
      { key: "params.model", name: "model", kind: "param", type: "word", words: ["xgb", "logistic", "a10", "a9"], buffer: 1 },
      { key: 'metrics.a.b/c "x"', name: 'a.b/c "x"', kind: "metric", type: "number", goal: "min", buffer: 2 },
      { key: "started", name: "started", kind: "meta", type: "number", format: "moment", buffer: 3 },
      { key: "params.auc", name: "auc", kind: "param", type: "word", words: ["yes"], buffer: 4 },
    ],
  };
  return openTable(header, [numbers(0.9, null, 0.7, 0.8), codes(0, 1, -1, 0), numbers(3, 1, 2, null), numbers(30, 10, 20, 40), codes(0, 0, 0, 0)]);
}
const rows = (text, of = table()) => [0, 1, 2, 3].filter(compileFilter(text, of));

test("columns open from buffers, also from views into a larger one", () => {
  const whole = new Float64Array([9, 0.5, 0.25]);
  const header = { rows: 2, columns: [{ key: "metrics.m", name: "m", kind: "metric", type: "number", buffer: 0 }] };
  const opened = openTable(header, [new DataView(whole.buffer, 8, 16)]);
  assert.deepEqual([...opened.columns[0].values], [0.5, 0.25]);
});

test("a value that a run does not have is missing, not zero", () => {
  const { byKey } = table();
  assert.equal(valueOf(byKey.get("metrics.auc"), 1), null);
  assert.equal(valueOf(byKey.get("params.model"), 2), null);
  assert.equal(textOf(byKey.get("params.model"), 0), "xgb");
  assert.ok(isMissing(byKey.get("metrics.auc"), 1));
});

for (const [text, wanted] of [
  ["", [0, 1, 2, 3]],
  ['metrics.auc > 0.75 and params.model = "xgb"', [0, 3]],
  ["metrics.auc>=.7", [0, 2, 3]],
  ['model in ("logistic", "xgb") and not metrics.auc is null', [0, 3]],
  ["model is null or metrics.auc is missing", [1, 2]],
  ["model is not null", [0, 1, 3]],
  ["(model = xgb or model = logistic) and started < 35", [0, 1]],
  ['metrics.`a.b/c "x"` < 2.5', [1, 2]],
  ['model like "x%"', [0, 3]],
  ['model ilike "LOG_STIC"', [1]],
  ["model not in (xgb)", [1]],
  ["model ~ gist", [1]],
  ["xgb", [0, 3]],
  ["metrics.auc > -1e-3", [0, 2, 3]],
  ['params.auc = "yes" AND metrics.auc != 0.9', [2, 3]],
  ["not (metrics.auc > 0.75)", [1, 2]],
]) test(`the filter ${text || "(empty)"} keeps ${wanted}`, () => assert.deepEqual(rows(text), wanted));

for (const [text, says] of [
  ["metrics.auk > 1", /no column metrics\.auk; is auc meant\?/],
  ["auc > 1", /metrics\.auc and params\.auc: say which/],
  ['metrics.auc > "x"', /holds numbers/],
  ["(metrics.auc > 0.75", /closing bracket is missing at the end/],
  ["metrics.auc > 0.7 model = xgb", /`and` or `or` may be missing/],
  ["metrics.auc >", /a value is missing/],
  ["model not > 3", /after `not` comes/],
  ["model = xgb §", /what is "§"/],
]) test(`the filter ${text} says what is wrong`, () => assert.throws(() => rows(text), (error) => error instanceof FilterError && says.test(error.message)));

test("missing values come last in both directions, and further keys decide among equals", () => {
  const t = table();
  assert.deepEqual([...orderOf(t, [0, 1, 2, 3], [{ key: "metrics.auc", down: true }])], [0, 3, 2, 1]);
  assert.deepEqual([...orderOf(t, [0, 1, 2, 3], [{ key: "metrics.auc", down: false }])], [2, 3, 0, 1]);
  assert.deepEqual([...orderOf(t, [0, 1, 2, 3], [{ key: "params.model", down: false }, { key: "metrics.auc", down: false }])], [1, 3, 0, 2]);
  assert.deepEqual([...orderOf(t, [3, 1], [])], [1, 3]);
  assert.deepEqual([...orderOf(t, [0, 1], [{ key: "gone", down: false }])], [0, 1]);
});

test("words with numbers in them sort as a person would", () => {
  const header = { rows: 3, columns: [{ key: "params.w", name: "w", kind: "param", type: "word", words: ["a10", "a9", "b"], buffer: 0 }] };
  assert.deepEqual([...orderOf(openTable(header, [codes(0, 1, 2)]), [0, 1, 2], [{ key: "params.w", down: false }])], [1, 0, 2]);
});

test("columns in which runs differ, a missing value being one more value", () => {
  const t = table();
  assert.deepEqual([...varyingColumns(t, [0, 3])], ["metrics.auc", 'metrics.a.b/c "x"', "started"]);
  assert.deepEqual([...varyingColumns(t, [1])], []);
  assert.ok(!varyingColumns(t, [0, 1, 2, 3]).has("params.auc"));
});

test("the best is by the direction of the metric, and never a missing one", () => {
  const { columns } = table();
  assert.equal(bestOf(columns[0], [0, 1, 2, 3]), 0);
  assert.equal(bestOf(columns[2], [0, 1, 2, 3]), 1);
  assert.equal(bestOf(columns[0], [1]), -1);
  assert.equal(bestOf(columns[3], [0, 1]), -1);
});

test("best so far goes by time", () => {
  const t = table();
  assert.deepEqual(bestSoFar(t, [0, 1, 2, 3], t.columns[0], t.columns[3]).map(({ row, best }) => [row, best]), [[2, 0.7], [0, 0.9], [3, 0.9]]);
});

test("numbers are as long as they must be", () => {
  assert.deepEqual([0, 3, 0.12345678, 12.345678, 123.456, 12345.678, 0.000123, 1e9, NaN].map(formatNumber), ["0", "3", "0.1235", "12.346", "123.46", "12345.7", "1.23e-4", "1.00e+9", ""]);
  assert.deepEqual([[0.0009, 0.7], [-0.01, 0.7], [0, 0.7], [3, 12]].map(([by, of]) => formatDifference(by, of)), ["+0.0009", "−0.0100", "±0", "+3"]);
  assert.match(formatMoment(1.79e9), /^2026-09-2\d \d\d:\d\d$/);
});

test("header and buffers of one body come apart", () => {
  const header = new TextEncoder().encode('{"rows": 2, "name": "ä"}'), buffer = new Uint8Array(numbers(1, 2));
  const parts = [header, buffer], bytes = [1, 0, 0, 0, 2, 0, 0, 0];
  for (const part of parts) bytes.push(part.length, 0, 0, 0);
  for (const part of parts) { while (bytes.length % 8) bytes.push(0); bytes.push(...part); }
  const told = separate(Uint8Array.from(bytes).buffer);
  assert.equal(told.header.name, "ä");
  assert.deepEqual([...new Float64Array(told.buffers[0])], [1, 2]);
  bytes[0] = 9;
  assert.throws(() => separate(Uint8Array.from(bytes).buffer), /newer format/);
});

function model() {
  const values = new Map(), ears = new Map(), sent = [];
  return {
    sent, ears, get: (n) => values.get(n), set: (n, v) => values.set(n, v), save_changes() {},
    on: (n, f) => ears.set(n, f), off: (n) => ears.delete(n), send: (m) => sent.push(m),
    hear: (m) => ears.get("msg:custom")(m),
  };
}

test("a notebook without Python promotes nothing, and says so", async () => {
  const host = notebookHost(model());
  assert.equal(host.live, false);
  await assert.rejects(host.call("promote", {}), /Python does not answer/);
});

test("answers come to who asked, whatever their order", async () => {
  const other = model(), host = notebookHost(other);
  other.hear({ kind: "here" });
  assert.equal(host.live, true);
  const first = host.call("details", { run: "a" }), second = host.call("details", { run: "b" });
  other.hear({ id: other.sent[1].id, ok: true, result: 2 });
  other.hear({ id: "of somebody else", ok: true, result: 0 });
  other.hear({ id: other.sent[0].id, ok: false, message: "no" });
  assert.equal(await second, 2);
  await assert.rejects(first, /no/);
  host.close();
  assert.equal(other.ears.size, 0);
});

test("a saved page knows the details that were saved, and no more", async () => {
  const host = reportHost({ details: { a: { gates: [] } } }, []);
  assert.deepEqual(await host.call("details", { run: "a" }), { gates: [] });
  await assert.rejects(host.call("promote", { run: "a" }), /saved/);
});
