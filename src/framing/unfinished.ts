/** Gathers a packet that arrives in parts; each byte is copied twice at most, on average. */
export class Unfinished {
  #buffer = new Uint8Array(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  append(part: Uint8Array): void {
    const length = this.#length + part.length;
    if (length > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(length, 2 * this.#buffer.length));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(part, this.#length);
    this.#length = length;
  }

  /** Hands the bytes out for good and starts anew. */
  take(): Uint8Array {
    const { bytes } = this;
    this.#buffer = new Uint8Array(0);
    this.#length = 0;
    return bytes;
  }
}
