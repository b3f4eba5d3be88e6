/**
 * The file `<queue>.lock`: its name, and what stands in it.
 *
 * Its first line is the sender's process id; what the sender publishes about
 * itself, for other processes, stands behind it, up to a NUL. From
 * `RESERVE_START` on lies the sender's reserve of disk space (`reserve.ts`).
 */

import { systemClock } from "../base/clock.ts";
import type { QueueFileReason } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import { rest } from "../base/waits.ts";
import { openBeside } from "./sqlite/beside.ts";
import { codeOf, queueFileError, toFileError } from "./sqlite/file_error.ts";

/** Where the sender's reserve of disk space begins. */
export const RESERVE_START: number = 32 * 1024;
/** Before it, in digits, how large the reserve should be. */
export const RESERVE_SIZE_BYTES = 16;
/** Room for the process id and what the sender publishes; more than any sender does. */
export const NOTICE_BYTES: number = RESERVE_START - RESERVE_SIZE_BYTES;

/** A loser reads the holder's pid until two readings agree, this far apart. */
const PID_READ_MS = 5;
const PID_READS = 20;
const PID_LINE_BYTES = 32;

export function lockPathOf(queuePath: string): string {
  let path = queuePath;
  try {
    // The same file under two names must have one lock.
    path = Deno.realPathSync(queuePath);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw toFileError(error, queuePath);
  }
  return `${path}.lock`;
}

/** How Deno ends the message of an error that it has no class and no code for. */
const OS_ERROR = /\(os error \d+\)$/;
/** ENOLCK, ENOSYS and EOPNOTSUPP: what flock(2) says on a network filesystem. */
const NO_FLOCK = /\(os error (?:37|38|95)\)$/;
const NEEDS_FLOCK = "The queue itself was not touched. It must lie on a filesystem that has " +
  "locks (flock), such as a local disk.";

/** As `toFileError`, for an error that is about the lock file. */
export function toLockFileError(error: unknown, queuePath: string, lockPath: string): unknown {
  const code = codeOf(error);
  const make = (reason: QueueFileReason, what: string, advice?: string) =>
    queueFileError(reason, queuePath, `its lock file ${lockPath} ${what}`, {
      cause: error,
      advice,
    });
  switch (code) {
    case "EACCES":
    case "EPERM":
      return make(
        "read-only",
        `cannot be opened (${code})${ownerWords(lockPath)}`,
        "The queue itself was not touched. The user who sends must own the lock file: give it " +
          "to that user (chown), or remove it while no sender runs.",
      );
    case "EROFS":
      return make("read-only", "cannot be written (EROFS)");
    case "EISDIR":
      return make("io", "is a directory", "Remove it; sendq makes a file of its own there.");
    case undefined:
      if (!(error instanceof Error) || !OS_ERROR.test(error.message)) break;
      return NO_FLOCK.test(error.message)
        ? make("io", `cannot be locked: ${error.message}`, NEEDS_FLOCK)
        : make("io", `cannot be used: ${error.message}`);
  }
  return toFileError(error, queuePath);
}

function ownerWords(path: string): string {
  try {
    const { uid } = Deno.lstatSync(path);
    return uid === null ? "" : `: it belongs to user ${uid}`;
  } catch {
    return "";
  }
}

/** What a running sender says about itself. */
export interface SenderNotice {
  readonly pid: number;
  /** What it published last; empty when nothing yet. */
  readonly text: string;
}

/** @throws {RangeError} It is longer than 32 KiB. */
export function encodeNotice(text: string): Uint8Array<ArrayBuffer> {
  const notice = new TextEncoder().encode(`${Deno.pid}\n${text}\0`);
  if (notice.length > NOTICE_BYTES) throw new RangeError("The notice is longer than 32 KiB");
  return notice;
}

/**
 * Asks whether a sender runs on a queue, in whichever process, and reads what
 * it has published. Needs the right to read the lock file, nothing else.
 *
 * @returns `undefined`: no sender has the queue.
 * @throws {QueueFileError} The lock file cannot be read.
 * @throws {Deno.errors.NotCapable} With the flags to add.
 */
export async function readSenderNotice(
  queuePath: string,
  clock: Clock = systemClock,
): Promise<SenderNotice | undefined> {
  let file: Deno.FsFile | undefined;
  let path = queuePath;
  try {
    path = lockPathOf(queuePath);
    file = openBeside(queuePath, path, { write: false });
    if (file.tryLockSync(false)) {
      file.unlockSync();
      return undefined;
    }
    const text = await readTwice(
      file,
      { startByte: 0, maxBytes: NOTICE_BYTES },
      clock,
      (text) => /^[1-9][0-9]*\n/.test(text),
    );
    if (text === undefined) return undefined;
    const line = text.indexOf("\n");
    return { pid: Number(text.slice(0, line)), text: text.slice(line + 1) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw toLockFileError(error, queuePath, path);
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
  const line = { startByte: 0, maxBytes: PID_LINE_BYTES };
  const text = await readTwice(file, line, clock, (text) => pidOf(text) !== undefined);
  return text === undefined ? undefined : Number(pidOf(text));
}

/** Reads a part of a file until two readings agree: one alone may be half written. */
export async function readTwice(
  file: Deno.FsFile,
  { startByte, maxBytes }: { readonly startByte: number; readonly maxBytes: number },
  clock: Clock,
  isWhole: (text: string) => boolean,
): Promise<string | undefined> {
  const buffer = new Uint8Array(maxBytes);
  let previous: string | undefined;
  for (let i = 0; i < PID_READS; i++) {
    file.seekSync(startByte, Deno.SeekMode.Start);
    const length = file.readSync(buffer) ?? 0;
    const read = buffer.subarray(0, length);
    const end = read.indexOf(0);
    const text = new TextDecoder().decode(end === -1 ? read : read.subarray(0, end));
    if (isWhole(text) && text === previous) return text;
    previous = text;
    await rest(clock, PID_READ_MS);
  }
  return undefined;
}
