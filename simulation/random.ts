/**
 * Seeded chance: the same seed draws the same world, on every machine.
 *
 * @module
 */

/** xoshiro128** (Blackman and Vigna, 2018), seeded through splitmix32. */
export class SeededRandom {
  readonly #state: Uint32Array;

  /** @param seed Any integer. */
  constructor(seed: number) {
    this.#state = new Uint32Array(4);
    let z = seed >>> 0;
    for (let i = 0; i < 4; i++) {
      z = (z + 0x9e3779b9) >>> 0;
      let x = z ^ (z >>> 16);
      x = Math.imul(x, 0x21f0aaad);
      x ^= x >>> 15;
      x = Math.imul(x, 0x735a2d97);
      this.#state[i] = x ^ (x >>> 15);
    }
  }

  /** Uniform in [0, 1). */
  next(): number {
    const s = this.#state;
    const [a = 0, b = 0, c = 0, d = 0] = s;
    const x = Math.imul(b, 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    s[2] = c ^ a;
    s[3] = d ^ b;
    s[1] = b ^ c ^ a;
    s[0] = a ^ d ^ b;
    s[2] = (c ^ a) ^ (b << 9);
    const e = d ^ b;
    s[3] = (e << 11) | (e >>> 21);
    return result / 4294967296;
  }

  /** A source of its own, so that one part's draws do not shift another's. */
  fork(): SeededRandom {
    return new SeededRandom(this.int(0, 0xffffffff));
  }

  /** Uniform in [low, high). */
  between(low: number, high: number): number {
    return low + this.next() * (high - low);
  }

  /** A whole number from `low` to `high`, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** Each order of magnitude between `low` and `high` is as likely as the next. */
  logBetween(low: number, high: number): number {
    return low * Math.exp(this.next() * Math.log(high / low));
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability;
  }

  /** One of the items, each as likely. */
  pick<T>(items: readonly T[]): T {
    const item = items[Math.floor(this.next() * items.length)];
    if (item === undefined) throw new RangeError("pick() from nothing");
    return item;
  }
}
