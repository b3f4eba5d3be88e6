/**
 * The last values of a figure as one line of bars.
 *
 * @module
 */

const BARS = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"] as const;

/** Values as they come, the oldest forgotten. */
export class History {
  readonly #maxValues: number;
  readonly #values: number[] = [];

  /** @param maxValues How many are kept. */
  constructor(maxValues: number) {
    this.#maxValues = maxValues;
  }

  /** Takes in the next value; 0 or more. */
  add(value: number): void {
    this.#values.push(value);
    if (this.#values.length > this.#maxValues) this.#values.shift();
  }

  /** The highest value kept. */
  get highest(): number {
    return Math.max(0, ...this.#values);
  }

  /**
   * One bar a value, the oldest first. The highest has the tallest; only 0 has
   * the lowest, so that little is told from nothing.
   */
  bars(): string {
    const { highest } = this;
    return this.#values.map((value) =>
      BARS[value === 0 ? 0 : Math.max(1, Math.round(value / highest * (BARS.length - 1)))]
    ).join("");
  }
}
