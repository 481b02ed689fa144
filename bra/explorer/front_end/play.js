// The training steps one after another, as a film: begun by the reader, and not where motion is not wanted.

/** @import { Explorer } from "./explorer.js" */

const SHOWN = 900; // milliseconds of a step

/** @returns {boolean} whether the reader has asked her system for less motion: then each press shows the next step */
export const isStill = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export class Player {
  /** @param {Explorer} explorer */
  constructor(explorer) {
    this.explorer = explorer;
    this.timer = 0;
  }

  /** Begin, or pause. */
  press() {
    if (this.timer) return this.stop();
    const { explorer } = this, last = explorer.payload.steps.length - 1, { step } = explorer.chosen();
    if (isStill()) return this.show(step === last ? 0 : step + 1);
    explorer.playing = true;
    this.show(step === last ? 0 : step + 1);
  }

  /** This step, and then the next ones, up to the last. @param {number} step */
  show(step) {
    const { explorer } = this, { steps } = explorer.payload;
    this.timer = 0;
    if (step === steps.length - 1) explorer.playing = false;
    if (explorer.playing) this.timer = setTimeout(() => this.show(step + 1), SHOWN);
    explorer.share({ step: steps[step] });
  }

  stop() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.explorer.playing = false;
    this.explorer.update();
  }
}
