/** Most connections have few packets under way. */
const FIRST_CAPACITY = 8;

/** First in, first out, of number pairs, in typed arrays: one costs 16 bytes. */
export class PairFifo {
  #keys = new Float64Array(FIRST_CAPACITY);
  #values = new Float64Array(FIRST_CAPACITY);
  #head = 0;
  #length = 0;

  /** How many pairs there are. */
  get length(): number {
    return this.#length;
  }

  /** The oldest pair's key. While there is no pair, this and what follows mean nothing. */
  get firstKey(): number {
    return this.#keys[this.#head] ?? NaN;
  }

  /** The oldest pair's value. */
  get firstValue(): number {
    return this.#values[this.#head] ?? NaN;
  }

  /** The newest pair's key. */
  get lastKey(): number {
    return this.keyAt(this.#length - 1);
  }

  /** The newest pair's value. */
  get lastValue(): number {
    return this.valueAt(this.#length - 1);
  }

  /** A pair's key; the oldest pair has index 0. */
  keyAt(index: number): number {
    return this.#keys[this.#at(index)] ?? NaN;
  }

  /** A pair's value; the oldest pair has index 0. */
  valueAt(index: number): number {
    return this.#values[this.#at(index)] ?? NaN;
  }

  /** Gives the newest pair another key. */
  extendLast(key: number): void {
    this.#keys[this.#at(this.#length - 1)] = key;
  }

  /** Adds a newest pair. */
  push(key: number, value: number): void {
    if (this.#length === this.#keys.length) this.#grow();
    const slot = this.#at(this.#length);
    this.#keys[slot] = key;
    this.#values[slot] = value;
    this.#length++;
  }

  /** Drops the newest pair. */
  pop(): void {
    this.#length--;
  }

  /** Drops the oldest pair. */
  shift(): void {
    this.#head = this.#at(1);
    this.#length--;
  }

  #at(index: number): number {
    return (this.#head + index) & (this.#keys.length - 1);
  }

  #grow(): void {
    const capacity = this.#keys.length * 2;
    const keys = new Float64Array(capacity);
    const values = new Float64Array(capacity);
    for (let index = 0; index < this.#length; index++) {
      const slot = this.#at(index);
      keys[index] = this.#keys[slot] ?? NaN;
      values[index] = this.#values[slot] ?? NaN;
    }
    this.#keys = keys;
    this.#values = values;
    this.#head = 0;
  }
}
