/**
 * First in, first out, where much stands in line.
 *
 * @module
 */

/** Fewer that have gone are not worth a move. */
const LEAST_MOVE = 64;

/**
 * An array that lets go of its first elements without moving the others each time: those are
 * moved once as many have gone as are left, so that each is moved once on average.
 */
export class Fifo<T> {
  /** What has gone is `undefined`, so that it does not stay in memory. */
  #items: (T | undefined)[] = [];
  /** Everything before this index has gone. */
  #head = 0;

  /** How many there are. */
  get length(): number {
    return this.#items.length - this.#head;
  }

  /** The element with so many before it; `undefined`: there is none. */
  at(index: number): T | undefined {
    return this.#items[this.#head + index];
  }

  /** The newest; `undefined`: there is none. */
  get last(): T | undefined {
    return this.#items[this.#items.length - 1];
  }

  /** A new one behind all others. */
  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes the newest back. */
  pop(): T | undefined {
    return this.length === 0 ? undefined : this.#items.pop();
  }

  /** Takes the first one. */
  shift(): T | undefined {
    const first = this.at(0);
    if (this.length === 0) return undefined;
    this.#items[this.#head++] = undefined;
    if (this.#head >= LEAST_MOVE && 2 * this.#head >= this.#items.length) this.set(this.slice());
    return first;
  }

  /** Those with at least `from` and fewer than `to` before them, in an array of their own. */
  slice(from = 0, to = this.length): T[] {
    return this.#items.slice(this.#head + from, this.#head + to) as T[];
  }

  /** These in the place of all; the array is taken over. */
  set(items: T[]): void {
    this.#items = items;
    this.#head = 0;
  }
}
