/**
 * The file `<spool>.reports`: how the senders of a spool stand, for other processes. Queue n has
 * the n-th place in it: the process that sends, and what its sender says, up to a NUL. It is
 * never synced, and says nothing without the lock.
 */

import type { Clock } from "../base/ports.ts";
import { writeAllSync } from "../base/write_all.ts";
import {
  encodeNotice,
  readSenderNotice,
  readTwice,
  type SenderNotice,
} from "../queue/lock_file.ts";
import { openBeside, openOrMakeBeside } from "../queue/sqlite/beside.ts";
import { toFileError } from "../queue/sqlite/file_error.ts";
import { identityOfLinkAt, isSameFile, isSymbolicLink } from "../queue/sqlite/file_identity.ts";
import { reportsPathOf } from "./address.ts";

/** As in a lock file: more than any sender has to say. A place that nobody uses takes no room. */
const PLACE_BYTES = 32 * 1024;

/** Writes the reports of this process. */
export class Reports {
  readonly #spool: string;
  readonly #path: string;
  #file: Deno.FsFile;
  /** What each sender has said last. */
  readonly #notices = new Map<number, Uint8Array<ArrayBuffer>>();

  /** @throws {QueueFileError} The file is a symbolic link. */
  constructor(path: string) {
    this.#spool = path;
    this.#path = reportsPathOf(path);
    this.#file = this.#open();
  }

  /** @throws {RangeError} The text is longer than 32 KiB. */
  write(queue: number, text: string): void {
    const notice = encodeNotice(text);
    this.#notices.set(queue, notice);
    put(this.#file, queue, notice);
  }

  /** A sender ends, and others of the process go on. */
  remove(queue: number): void {
    this.#notices.delete(queue);
    try {
      put(this.#file, queue, Uint8Array.of(0));
    } catch {
      // The disk is full, perhaps: what stands there is old, and says when it was written.
    }
  }

  close(): void {
    this.#file.close();
  }

  /**
   * Makes the file anew where it was removed or replaced: without it no sender of the spool would
   * seem to run, and one with nothing new to say would go on saying nothing. To be called only
   * while the lock is held, else it may be another process's.
   */
  restore(): void {
    try {
      if (isSameFile(this.#file.statSync(), identityOfLinkAt(this.#path))) return;
      const file = this.#open();
      this.#file.close();
      this.#file = file;
    } catch {
      // A link, or the disk is full: what senders say is worth less than what they deliver.
    }
  }

  #open(): Deno.FsFile {
    const file = openOrMakeBeside(this.#spool, this.#path);
    try {
      // A process that was killed may have had the number that this one has, as in a container.
      file.truncateSync();
      for (const [queue, notice] of this.#notices) put(file, queue, notice);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }
}

function put(file: Deno.FsFile, queue: number, bytes: Uint8Array<ArrayBuffer>): void {
  file.seekSync(queue * PLACE_BYTES, Deno.SeekMode.Start);
  writeAllSync(file, bytes);
}

/**
 * What a sender has published that runs on a queue of a spool, in whichever process.
 *
 * @returns `undefined`: no sender has the queue.
 * @throws {QueueFileError} The lock file cannot be read.
 */
export async function readSpoolNotice(
  path: string,
  queue: number,
  clock: Clock,
): Promise<SenderNotice | undefined> {
  const holder = await readSenderNotice(path, clock);
  if (holder === undefined) return undefined;
  const own = reportsPathOf(Deno.realPathSync(path));
  if (isSymbolicLink(own)) return undefined;
  try {
    using file = openBeside(path, own, { write: false });
    const begins = `${holder.pid}\n`;
    const place = { startByte: queue * PLACE_BYTES, maxBytes: PLACE_BYTES };
    const text = await readTwice(file, place, clock, (text) => text.startsWith(begins));
    // What a process has left that died is nobody's.
    if (text === undefined) return undefined;
    return { pid: holder.pid, text: text.slice(begins.length) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw toFileError(error, path);
  }
}
