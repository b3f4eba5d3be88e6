/**
 * Takes a recorder's file into the tally while it grows, and forgets it.
 *
 * @module
 */

import { ENTRY_HEADER_BYTES, EntryKind } from "../lab/record.ts";
import type { ConnectionTally, Tally } from "./tally.ts";

const READ_BYTES = 1024 * 1024;

/** The record of one life of a server. */
export class RecordTail implements Disposable {
  /** When the server last read something, or began: milliseconds since 1970. */
  lastReadAtMs = 0;
  readonly #path: string;
  readonly #tally: Tally;
  readonly #file: Deno.FsFile;
  readonly #connections: Map<number, ConnectionTally> = new Map();
  readonly #buffer = new Uint8Array(READ_BYTES);
  /** Bytes at the front of the buffer that are not a whole entry yet. */
  #filled = 0;

  /** @param path A file that a recorder has begun. */
  constructor(path: string, tally: Tally) {
    this.#path = path;
    this.#tally = tally;
    this.#file = Deno.openSync(path);
  }

  /**
   * Takes in what was appended since the last time.
   *
   * @param final Also an entry that is cut short at the end; only once the server is dead.
   */
  update(final = false): void {
    for (;;) {
      const read = this.#file.readSync(this.#buffer.subarray(this.#filled)) ?? 0;
      this.#filled += read;
      this.#takeEntries(final && read === 0);
      if (read === 0) return;
    }
  }

  /** Closes and removes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
    Deno.removeSync(this.#path);
  }

  #takeEntries(cutShort: boolean): void {
    const bytes = this.#buffer.subarray(0, this.#filled);
    const view = new DataView(this.#buffer.buffer, 0, this.#filled);
    let at = 0;
    while (bytes.length - at >= ENTRY_HEADER_BYTES) {
      const bodyStart = at + ENTRY_HEADER_BYTES;
      const bodyEnd = bodyStart + view.getUint32(at + 16, true);
      if (bodyEnd > bytes.length && !cutShort) break;
      this.lastReadAtMs = view.getFloat64(at + 8, true);
      this.#take(
        view.getUint32(at, true),
        view.getUint32(at + 4, true),
        bytes.subarray(bodyStart, bodyEnd),
      );
      at = Math.min(bodyEnd, bytes.length);
    }
    this.#buffer.copyWithin(0, at, this.#filled);
    this.#filled -= at;
  }

  #take(kind: number, number: number, body: Uint8Array): void {
    switch (kind) {
      case EntryKind.OPEN:
        this.#connections.set(number, this.#tally.connection());
        return;
      case EntryKind.DATA:
        this.#connections.get(number)?.take(body);
        return;
      case EntryKind.FIN:
      case EntryKind.RESET:
      case EntryKind.CLOSED:
        this.#connections.delete(number);
        return;
    }
  }
}
