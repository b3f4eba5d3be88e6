/** Writing to somebody who may read slowly, or has gone away, and holds nobody up. */

/** Beyond this, what waits for a reader that has stopped reading is dropped. */
const MAX_WAITING_BYTES = 256 * 1024;

/** Where bytes go, perhaps not all of them. */
export interface ByteSink {
  write(bytes: Uint8Array): Promise<number>;
}

/**
 * Writes in the background, in order, within bounded memory.
 *
 * A sink whose reader is gone swallows what comes after. Any other failure, such as a full disk
 * under a log file, may pass: what waits is kept within the bound, and tried again with the next
 * write, from where the last one ended.
 */
export class BackgroundWriter {
  readonly #sink: ByteSink;
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #droppedWrites = 0;
  #broken = false;
  #writing: Promise<void> | undefined;

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  /** Whether the sink is gone for good. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Writes that were dropped because the sink did not take them in time. */
  get droppedWrites(): number {
    return this.#droppedWrites;
  }

  /** Bytes that are not written yet. */
  get waitingBytes(): number {
    return this.#waitingBytes;
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
    } else {
      this.#waiting.push(bytes);
      this.#waitingBytes += bytes.length;
    }
    this.#writing ??= this.#writeAll();
  }

  /** Resolves once everything is written, or the sink has failed once more. */
  async flushed(): Promise<void> {
    if (!this.#broken && this.#waitingBytes > 0) this.#writing ??= this.#writeAll();
    await this.#writing;
  }

  async #writeAll(): Promise<void> {
    try {
      for (let bytes = this.#waiting[0]; bytes !== undefined; bytes = this.#waiting[0]) {
        const written = await this.#sink.write(bytes);
        // As a full disk does: the next write tries again.
        if (written < 1) return;
        this.#waitingBytes -= written;
        if (written < bytes.length) this.#waiting[0] = bytes.subarray(written);
        else this.#waiting.shift();
      }
    } catch (error) {
      if (!isFinal(error)) return;
      this.#broken = true;
      this.#waiting.length = 0;
      this.#waitingBytes = 0;
    } finally {
      this.#writing = undefined;
    }
  }
}

/** Deno's names for: the reader has gone (EPIPE, ECONNRESET, ENOTCONN), the descriptor has (EBADF). */
const FINAL = [
  "BrokenPipe",
  "ConnectionReset",
  "ConnectionAborted",
  "NotConnected",
  "BadResource",
];

function isFinal(error: unknown): boolean {
  return error instanceof Error && FINAL.includes(error.name);
}
