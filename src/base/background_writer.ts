/**
 * Writing to somebody who may read slowly, or has gone away, and holds nobody up.
 *
 * @module
 */

/** Beyond this, what waits for a reader that has stopped reading is dropped. */
const MAX_WAITING_BYTES = 256 * 1024;

/** Where bytes go: `Deno.stderr`, `Deno.stdout`, a connection. */
export interface ByteSink {
  /** Writes some of the bytes. */
  write(bytes: Uint8Array): Promise<number>;
}

/**
 * Writes in the background, in order, within bounded memory. A sink that is
 * gone (a broken pipe) swallows what comes after, silently.
 */
export class BackgroundWriter {
  readonly #sink: ByteSink;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #droppedWrites = 0;
  #broken = false;
  #writing: Promise<void> | undefined;

  /** @param sink Where to write. */
  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  /** Whether the sink is gone for good. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Writes that were dropped because the reader did not keep up. */
  get droppedWrites(): number {
    return this.#droppedWrites;
  }

  /** Takes text, to be written soon. */
  write(text: string): void {
    this.writeBytes(new TextEncoder().encode(text));
  }

  /** Takes bytes, to be written soon; they must not be changed any more. */
  writeBytes(bytes: Uint8Array): void {
    if (this.#broken) return;
    if (this.#waitingBytes + bytes.length > MAX_WAITING_BYTES && this.#waitingBytes > 0) {
      this.#droppedWrites++;
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#writing ??= this.#writeAll();
  }

  /** Resolves once everything is written, or the sink is gone. */
  async flushed(): Promise<void> {
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    try {
      for (let bytes = this.#waiting.shift(); bytes !== undefined; bytes = this.#waiting.shift()) {
        for (let at = 0; at < bytes.length;) at += await this.#sink.write(bytes.subarray(at));
        this.#waitingBytes -= bytes.length;
      }
    } catch {
      this.#broken = true;
      this.#waiting = [];
    } finally {
      this.#writing = undefined;
    }
  }
}
