// The explorer's data and geometry, and its words, run by Node: `node --test`. tests/test_explorer_front_end.py says with
// what: the file FRONT_END_CASES holds packed layers beside what Python says of them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { Layer } from "../../bra/explorer/front_end/layer.js";
import { brightest, linked } from "../../bra/explorer/front_end/now.js";
import { ordinal, percent, sayHit, sayPair, sayRegions, sayState, short } from "../../bra/explorer/front_end/words.js";

const cases = JSON.parse(readFileSync(process.env.FRONT_END_CASES, "utf-8"));

for (const { packed, regions, tokens, table } of cases) {
  const layer = new Layer(packed), about = `${packed.grid} regions on ${packed.size} tokens`;

  test(`${about}: each region is where Python has it`, () => {
    assert.equal(layer.regions, regions.length);
    regions.forEach(({ box, real, middle, reads, readers, tokensRead }, region) => {
      const { x, y, width, height } = layer.box(region);
      assert.deepEqual([y, x, height, width], box);
      assert.equal(layer.isReal(region), real);
      assert.equal(layer.middle(region), middle);
      assert.deepEqual(layer.reads(0, region), reads);
      assert.deepEqual(layer.readers(0, region).map((found) => [found.region, found.rank]), readers);
      assert.equal(layer.tokensRead(0, region), tokensRead);
    });
  });

  test(`${about}: each token lies in the region and looks where Python says`, () => {
    const [h, w] = packed.size;
    assert.equal(tokens.length, h * w);
    tokens.forEach(({ region, maps }, token) => {
      assert.equal(layer.regionAt(...layer.at(token)), region);
      maps.forEach((map, head) => close(layer.attention(0, token, head), map, 0.01));
      const mean = maps[0].map((_, i) => maps.reduce((sum, map) => sum + map[i], 0) / maps.length);
      close(layer.attention(0, token, -1), mean, 0.01);
    });
  });

  test(`${about}: affinities come back, padding's as -Infinity`, () => {
    table.forEach((row, from) => row.forEach((value, to) => {
      const found = layer.affinity(0, from, to);
      if (value === null) assert.equal(found, -Infinity);
      else assert.ok(Math.abs(found - value) < 1e-3, `${from} to ${to}: ${found}, not ${value}`);
    }));
  });

  test(`${about}: lines lie where a region ends and another begins`, () => {
    const owner = tokens.map(({ region }) => region), [h, w] = packed.size;
    const rows = [...Array(h).keys()].filter((y) => y && owner[y * w] !== owner[(y - 1) * w]);
    const columns = [...Array(w).keys()].filter((x) => x && owner[x] !== owner[x - 1]);
    assert.deepEqual(layer.inner(), [rows, columns]);
  });
}

function close(found, expected, tolerance) {
  assert.equal(found.length, expected.length);
  expected.forEach((value, i) => assert.ok(Math.abs(found[i] - value) < tolerance, `${i}: ${found[i]}, not ${value}`));
}

test("numbers are said as people say them", () => {
  assert.deepEqual([1, 2, 3, 4, 11, 12, 13, 21, 22, 101, 111].map(ordinal),
    ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "101st", "111th"]);
  assert.deepEqual([4.21, 0.284, 130.4, 0, 0.00456].map(short), ["4.2", "0.28", "130", "0", "0.0046"]);
  assert.equal(percent(0.284), "28%");
});

test("a sentence tells what is chosen", () => {
  const layer = new Layer({ ...cases[0].packed, label: "stage 0, block 1" });
  const now = { layer, step: 0, steps: [0], query: 1, token: null, inward: false, routed: [3, 0], readers: [], truth: null,
    partner: null, over: null, head: -1, attention: null, largest: 0 };
  assert.equal(sayState(now), `stage 0, block 1: region 1 (row 0, column 1) reads 3, 0.`);
  assert.match(sayState({ ...now, steps: [0, 20] }), /^stage 0, block 1, step 0: region 1/);
  assert.match(sayState({ ...now, inward: true }), /is read by nobody\.$/);
  const many = Array.from({ length: 18 }, (_, region) => ({ region, rank: 2 }));
  assert.match(sayState({ ...now, inward: true, readers: many }), /18 regions: 0 \(2nd choice\).* and 2 more\.$/);
  const truth = [1, layer.reads(0, 1)[0]];
  assert.match(sayState({ ...now, truth, partner: { kind: "should", region: truth[1] } }), /should read \d+: a hit, its 1st choice\.$/);
  assert.match(sayState({ ...now, token: 0 }), /token weights of this layer were not asked for/);
  assert.match(sayState({ ...now, token: 0, steps: [0, 20] }), /stored for the last step only, 20/);
  assert.equal(sayPair(now), "");
  const [read] = layer.reads(0, 1);
  assert.match(sayPair({ ...now, over: { from: 1, to: read } }), /^Affinity of region 1 to region \d+: -?[\d.]+, its 1st choice\.$/);
  assert.equal(sayPair({ ...now, over: { from: 99, to: 0 } }), "", "of another grid");
  assert.equal(sayHit(layer, 0, 1, read), "hit (1st choice)");
  assert.equal(sayHit(layer, 0, 99, 0), "another grid");
  assert.match(sayRegions(layer, 0), /^The network cuts the image into 15 regions, the fields of this 3 × 5 grid\..* here 3 of 15:/);
});

test("curves join what reads and what is read, the thickest last, by affinity or by attention", () => {
  const layer = new Layer(cases[0].packed), routed = layer.reads(0, 1), { table, tokens } = cases[0];
  const now = { layer, step: 0, query: 1, inward: false, routed, readers: layer.readers(0, 1), attention: null, largest: 0 };
  const found = linked(now), values = found.map(({ to }) => table[1][to]);
  assert.deepEqual(found.map(({ to }) => to).sort(), routed.filter((to) => layer.isReal(to)).sort());
  assert.deepEqual(values, [...values].sort((a, b) => a - b));
  assert.ok(found.every(({ from, share }) => from === 1 && share >= 0 && share <= 1));
  const inward = linked({ ...now, inward: true });
  assert.deepEqual(inward.map(({ from }) => from).sort(), cases[0].regions[1].readers.map(([from]) => from).sort());
  assert.ok(inward.every(({ to }) => to === 1));
  const attention = Float32Array.from(tokens[layer.middle(1)].maps[0]), sums = new Map();
  tokens.forEach(({ region }, i) => sums.set(region, (sums.get(region) ?? 0) + attention[i]));
  for (const { to, share } of linked({ ...now, attention })) assert.ok(Math.abs(share - sums.get(to)) < 1e-6);
  const n = layer.tokensRead(0, 1);
  close([brightest({ ...now, largest: 0.9 }), brightest({ ...now, largest: 1 / n })], [0.9, Math.min(1, 4 / n)], 1e-9);
});
