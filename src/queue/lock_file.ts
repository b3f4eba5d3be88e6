/**
 * The file `<queue>.lock`: its name, and what stands in it.
 *
 * Its first line is the sender's process id; what the sender publishes about
 * itself, for other processes, stands behind it.
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import type { Clock } from "../base/ports.ts";
import { toFileError } from "./sqlite/file_error.ts";

/** A loser reads the holder's pid until two readings agree, this far apart. */
const PID_READ_MS = 5;
const PID_READS = 20;
const PID_LINE_BYTES = 32;

/** More than any sender publishes. */
const MAX_NOTICE_BYTES = 64 * 1024;

/** The lock file of a queue. */
export function lockPathOf(queuePath: string): string {
  let path = queuePath;
  try {
    // The same file under two names must have one lock.
    path = Deno.realPathSync(queuePath);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return `${path}.lock`;
}

/** What a running sender says about itself. */
export interface SenderNotice {
  /** Its process. */
  readonly pid: number;
  /** What it published last; empty when nothing yet. */
  readonly text: string;
}

/**
 * Asks whether a sender runs on a queue, in whichever process, and reads what
 * it has published. Needs the right to read the lock file, nothing else.
 *
 * @param queuePath The queue's own path.
 * @param clock Time.
 * @returns `undefined`: no sender has the queue.
 * @throws {QueueFileError} The lock file cannot be read.
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export async function readSenderNotice(
  queuePath: string,
  clock: Clock = systemClock,
): Promise<SenderNotice | undefined> {
  let file: Deno.FsFile | undefined;
  try {
    file = Deno.openSync(lockPathOf(queuePath), { read: true });
    if (file.tryLockSync(false)) {
      file.unlockSync();
      return undefined;
    }
    const text = await readTwice(
      file,
      MAX_NOTICE_BYTES,
      clock,
      (text) => /^[1-9][0-9]*\n/.test(text),
    );
    if (text === undefined) return undefined;
    const line = text.indexOf("\n");
    return { pid: Number(text.slice(0, line)), text: text.slice(line + 1) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw toFileError(error, queuePath);
  } finally {
    file?.close();
  }
}

/**
 * Reads who holds the lock. Between taking it and writing its pid a holder
 * leaves the old text, or none, for a moment: only two equal readings count.
 */
export async function readPid(file: Deno.FsFile, clock: Clock): Promise<number | undefined> {
  const pidOf = (text: string) => /^([1-9][0-9]*)\n/.exec(text)?.[1];
  const text = await readTwice(file, PID_LINE_BYTES, clock, (text) => pidOf(text) !== undefined);
  return text === undefined ? undefined : Number(pidOf(text));
}

/** Reads the file's beginning until two readings agree: one alone may be half written. */
async function readTwice(
  file: Deno.FsFile,
  maxBytes: number,
  clock: Clock,
  isWhole: (text: string) => boolean,
): Promise<string | undefined> {
  const buffer = new Uint8Array(maxBytes);
  let previous: string | undefined;
  for (let i = 0; i < PID_READS; i++) {
    file.seekSync(0, Deno.SeekMode.Start);
    const length = file.readSync(buffer) ?? 0;
    const text = new TextDecoder().decode(buffer.subarray(0, length));
    if (isWhole(text) && text === previous) return text;
    previous = text;
    await new Promise<void>((resolve) => clock.setTimer(PID_READ_MS, resolve));
  }
  return undefined;
}
