// Elements, pixels and colours: tools for all that draws.

import { clamp } from "./words.js";

// Cividis: even steps of lightness, for greyscale and every kind of colour vision.
export const HEAT = [[0, 34, 78], [26, 56, 111], [67, 78, 108], [97, 101, 111], [125, 124, 120], [155, 148, 118],
  [188, 174, 108], [222, 201, 88], [254, 232, 56]];
const SVG = ["svg", "rect", "path", "text", "g"];

/** Red, green and blue of a share between 0 and 1. @param {number} share */
export function heat(share) {
  const at = clamp(share, 0, 1) * (HEAT.length - 1), i = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[i].map((from, c) => from + (HEAT[i + 1][c] - from) * (at - i));
}

/**
 * An element of HTML or SVG. What it holds is text or elements, never HTML.
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 * @param {...(string | number | Node)} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const element = SVG.includes(tag)
    ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children.map((child) => (typeof child === "number" ? String(child) : child)));
  return element;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 * @param {(i: number) => number[]} colour red, green, blue and opacity of pixel i, 0..255
 */
export function paint(canvas, width, height, colour) {
  [canvas.width, canvas.height] = [width, height];
  const pixels = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) pixels.data.set(colour(i), 4 * i);
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")).putImageData(pixels, 0, 0);
}

/**
 * In which of `count` equal parts of the element the pointer is.
 * @param {MouseEvent} event @param {Element} element @param {number} count
 */
export function along(event, element, count, vertical = false) {
  const box = element.getBoundingClientRect();
  const share = vertical ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
  return clamp(Math.floor(share * count), 0, count - 1);
}

/** Keep a key from the page, which would scroll, and from a notebook, which would go to the next cell. @param {Event} event */
export function take(event) {
  event.preventDefault();
  event.stopPropagation();
}
