/**
 * What a peer sends, chunk by chunk, first for the session, then for the connection, which gets
 * the session's pending read and the bytes that it did not use.
 */

import { WireError } from "../base/errors.ts";
import type { Wire } from "../base/ports.ts";

/** Most servers say little or nothing, and each connection has a read pending. */
const FIRST_READ_BYTES = 1024;
const READ_BYTES = 16 * 1024;

/** Reads one wire; one call of `WireReader.next` at a time. */
export class WireReader {
  readonly #wire: Pick<Wire, "read">;
  #buffer = new Uint8Array(FIRST_READ_BYTES);
  #unused: Uint8Array | undefined;
  #reading: Promise<Uint8Array | null> | undefined;

  /** @param wire Nobody else reads from it. */
  constructor(wire: Pick<Wire, "read">) {
    this.#wire = wire;
  }

  /**
   * The next chunk, which stays the next one until it is taken; `null` at the end.
   *
   * @throws {WireError}
   */
  peek(): Promise<Uint8Array | null> {
    if (this.#unused !== undefined) return Promise.resolve(this.#unused);
    if (this.#reading === undefined) {
      this.#reading = this.#read();
      // Whoever has moved on is not ended by it.
      this.#reading.catch(() => {});
    }
    return this.#reading;
  }

  /** Takes the next chunk, which is the caller's; as `WireReader.peek` otherwise. */
  async next(): Promise<Uint8Array | null> {
    const chunk = await this.peek();
    this.drop();
    return chunk;
  }

  /** Takes what `WireReader.peek` has shown. */
  drop(): void {
    if (this.#unused !== undefined) this.#unused = undefined;
    else this.#reading = undefined;
  }

  /** Gives back what was taken and not used; it is the next chunk. */
  giveBack(bytes: Uint8Array): void {
    if (bytes.length > 0) this.#unused = bytes;
  }

  async #read(): Promise<Uint8Array | null> {
    const readBytes = await this.#wire.read(this.#buffer);
    if (readBytes === null) return null;
    if (!(readBytes > 0 && readBytes <= this.#buffer.length)) {
      // A wire of somebody's own: asked again and again it would leave the loop no turn.
      throw new WireError(
        "UNKNOWN",
        `A read that works gives something, and not ${readBytes} bytes.`,
      );
    }
    const chunk = this.#buffer.slice(0, readBytes);
    // There may be more than it takes at a time.
    const isFull = readBytes === this.#buffer.length && readBytes < READ_BYTES;
    if (isFull) this.#buffer = new Uint8Array(READ_BYTES);
    return chunk;
  }
}
