/** Bytes that mark a place in a stream: how they are written, and how they are found. */

/** Bytes as pairs of hexadecimal digits. */
export function hexOf(bytes: Iterable<number>): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Bytes from pairs of hexadecimal digits; `undefined` where it is none. */
export function fromHex(text: string): Uint8Array | undefined {
  if (!/^(?:[0-9a-f]{2})+$/i.test(text)) return undefined;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/**
 * A sequence of bytes to be found in a stream. How much of it has been matched
 * is one number, which the caller keeps, so that a stream may be cut anywhere
 * (Knuth, Morris, Pratt: no byte is looked at again).
 */
export class BytePattern {
  readonly bytes: Uint8Array;
  /** Where to go on matching when what follows the first `n` of them does not fit. */
  readonly #fallbacks: number[] = [0, 0];

  /** @param bytes At least one. */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    for (let length = 2; length <= bytes.length; length++) {
      this.#fallbacks.push(this.step(this.#fallbacks[length - 1] ?? 0, bytes[length - 1] ?? 0));
    }
  }

  get length(): number {
    return this.bytes.length;
  }

  /** How much is matched after one more byte; `length` is all of it. */
  step(matched: number, byte: number): number {
    for (let at = matched;; at = this.#fallbacks[at] ?? 0) {
      if (this.bytes[at] === byte) return at + 1;
      if (at === 0) return 0;
    }
  }

  /**
   * Whether a reader finds it behind these bytes, and not before: it is neither in
   * them, nor begun by their last ones.
   */
  endsOnlyBehind(payload: Uint8Array): boolean {
    if (this.length === 1) return !payload.includes(this.bytes[0] ?? 0);
    let matched = 0;
    for (let at = 0; at < payload.length; at++) {
      if (matched === 0) at = payload.indexOf(this.bytes[0] ?? 0, at);
      if (at < 0) break;
      matched = this.step(matched, payload[at] ?? 0);
      if (matched === this.length) return false;
    }
    return this.bytes.every((byte, i) => {
      matched = this.step(matched, byte);
      return matched < this.length || i === this.length - 1;
    });
  }

  /** The beginning of these bytes behind which it can stand, where they do not hold it. */
  clearOf(payload: Uint8Array): Uint8Array {
    let end = payload.length;
    while (!this.endsOnlyBehind(payload.subarray(Math.max(0, end - this.length + 1), end))) end--;
    return payload.subarray(0, end);
  }
}
