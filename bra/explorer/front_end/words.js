// What is said: numbers for people, and the sentences below the controls. No element of a page is touched here.

/** @import { Layer } from "./layer.js" */
/** @import { Now } from "./now.js" */

const MOST_NAMED = 16; // regions in one sentence

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
/** @param {number} value */
const number = (value) => (Number.isFinite(value) ? value.toPrecision(4) : "none (padding)");
/** @param {number} n */
export const ordinal = (n) => n + (["th", "st", "nd", "rd"][n % 100 > 10 && n % 100 < 14 ? 0 : n % 10] ?? "th");
/** Two significant digits, but all of those before the point: 4.2, 0.28, 130. @param {number} value */
export const short = (value) => value.toFixed(value > 0 ? clamp(1 - Math.floor(Math.log10(value)), 0, 9) : 0);
/** @param {number} share */
export const percent = (share) => `${short(100 * share)}%`;
/** @param {number} n @param {string} what */
const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** What is chosen, and whom it reads. @param {Now} now */
export function sayState(now) {
  const { layer, step, steps, token, inward, routed } = now;
  const text = token !== null ? sayToken(now) : inward ? sayReaders(now) : `${where(now)} reads ${routed.join(", ")}`;
  return `${layer.label}${steps.length > 1 ? `, step ${steps[step]}` : ""}: ${text}${sayTruth(now)}.`;
}

/** @param {{layer: Layer, query: number}} now */
function where({ layer, query }) {
  const [row, column] = layer.place(query);
  return `region ${query} (row ${row}, column ${column})`;
}

/** @param {Now} now */
function sayReaders(now) {
  const { readers } = now;
  const named = readers.slice(0, MOST_NAMED).map(({ region, rank }) => `${region} (${ordinal(rank)} choice)`).join(", ");
  const more = readers.length > MOST_NAMED ? ` and ${readers.length - MOST_NAMED} more` : "";
  const all = readers.length ? `${plural(readers.length, "region")}: ${named}${more}` : "nobody";
  return `${where(now)} is read by ${all}`;
}

/** @param {Now} now */
function sayToken(now) {
  const { layer, step, steps, query, token, head, attention, largest } = now, last = steps.length - 1;
  const [row, column] = layer.at(token ?? 0), at = `token (row ${row}, column ${column}) of ${where(now)}`;
  if (!attention && step !== last) return `${at}: token weights are stored for the last step only, ${steps[last]}`;
  if (!attention) return `${at}: the token weights of this layer were not asked for, or are too many to store`;
  if (!largest) return `${at} reads nothing but padding`;
  const [y, x] = layer.at(attention.indexOf(largest)), whose = head < 0 ? "on average over its heads" : `in head ${head}`;
  const about = layer.packed.levels === 255 ? "" : "about ", n = layer.tokensRead(step, query);
  return `${at} reads most, ${whose}, of the token (row ${y}, column ${x}) of region ${layer.regionAt(y, x)}: `
    + `${about}${percent(largest)} of its attention, ${short(largest * n)} times an even share (1/${n})`;
}

/** @param {Now} now */
function sayTruth({ layer, step, truth, partner }) {
  if (!truth || !partner) return "";
  const [asked, answer] = truth, rank = layer.reads(step, asked).indexOf(answer) + 1;
  const said = partner.kind === "should" ? `. It should read ${answer}` : `. Region ${asked}, which asks, should read it`;
  return said + (rank ? `: a hit, its ${ordinal(rank)} choice` : ": a miss");
}

/** What a region is, and how much it reads. @param {Layer} layer @param {number} step */
export function sayRegions(layer, step) {
  const { k } = layer.table(step), { rows, columns, regions } = layer;
  return `The network cuts the image into ${plural(regions, "region")}, the fields of this ${rows} × ${columns} grid. `
    + `In each of its blocks a region reads only a few of them, here ${k} of ${regions}: there its attention looks, `
    + "and nowhere else.";
}

/** The pair that is pointed at. @param {Now} now */
export function sayPair({ layer, step, over }) {
  if (!over || over.from >= layer.regions || over.to >= layer.regions) return "";
  const { from, to } = over, rank = layer.reads(step, from).indexOf(to) + 1;
  return `Affinity of region ${from} to region ${to}: ${number(layer.affinity(step, from, to))}, `
    + (rank ? `its ${ordinal(rank)} choice.` : "not read.");
}

/** Whether region `from` reads `to`. @param {Layer} layer @param {number} step @param {number} from @param {number} to */
export function sayHit(layer, step, from, to) {
  if (Math.max(from, to) >= layer.regions) return "another grid";
  const rank = layer.reads(step, from).indexOf(to) + 1;
  return rank ? `hit (${ordinal(rank)} choice)` : "miss";
}
