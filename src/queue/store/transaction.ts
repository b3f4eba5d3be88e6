import { QueueFileError } from "../../base/errors.ts";
import { queueFileError, toFileError } from "../sqlite/file_error.ts";
import type { HandedOutCount, MakesWay, Moment, MovedPackets } from "./contract.ts";
import { DamagedRowError } from "./row.ts";
import { ContradictionError, type Counts } from "./state_table.ts";
import type { PacketCount } from "./types.ts";

/** Clocks that differ by less are the same: the wall clock is slewed, readings take time. */
export const SAME_CLOCK_MS = 1000;

export interface Draft {
  readonly counts: Counts;
  /** Whether the row of counts must be written: the rows of packets do not say it all. */
  writesState: boolean;
  /** Those of the packets that it stores. */
  storedBytes: number;
  /** Those of the dead letters that it makes, with their rows. */
  buriedBytes: number;
  readonly makesWay: MakesWay | undefined;
  /** Once packets were stored: when the oldest one was. */
  oldestAtMs: number | undefined;
  /** What had to go to make room. */
  readonly dropped: { packets: number; bytes: number; throughId: number };
  /** Rows that were not as they were stored. */
  readonly setAside: MovedPackets[];
}

/** @returns Whether it is news to the file that ids up to this one have been on a wire. */
export function rememberSent(counts: Counts, sentThrough: number): boolean {
  const before = counts.sentThrough;
  counts.sentThrough = Math.max(before, Math.min(sentThrough, counts.lastId));
  return counts.sentThrough > before;
}

/** @returns Whether the file has to be told of another offset of the clock. */
export function keepTime(draft: Draft, at: Moment): boolean {
  const { counts } = draft;
  counts.writtenAtMs = at.wallMs;
  // Another process may have told it already.
  const isTold = Math.abs(counts.clockOffsetMs - at.clockOffsetMs) <= SAME_CLOCK_MS;
  if (at.clockOffsetMs === at.knownOffsetMs || isTold) return false;
  counts.clockOffsetMs = at.clockOffsetMs;
  draft.writesState = true;
  return true;
}

/** @throws {ContradictionError} A removal has removed something else than it was to. */
export function checkRemoved(
  before: Counts,
  { packets, bytes }: PacketCount,
  { handedOut, removeThrough }: { handedOut: HandedOutCount | undefined; removeThrough: number },
): void {
  if (packets < 0 || packets > before.packets || bytes < packets || bytes > before.bytes) {
    throw new ContradictionError(
      `it counts ${before.packets} packets of ${before.bytes} bytes, and up to id ` +
        `${removeThrough} there are ${packets} of ${bytes}`,
    );
  }
  if (handedOut === undefined || handedOut.afterId !== before.removedThrough) return;
  if (handedOut.packets !== packets || handedOut.bytes !== bytes) {
    throw new ContradictionError(
      `${handedOut.packets} packets of ${handedOut.bytes} bytes up to id ${removeThrough} were ` +
        `given to the sender, and it finds ${packets} of ${bytes} to remove`,
    );
  }
}

export function countDropped(
  counts: Counts,
  dropped: { packets: number; bytes: number },
  { packets, bytes }: PacketCount,
): void {
  dropped.packets += packets;
  dropped.bytes += bytes;
  counts.droppedPackets += packets;
  counts.droppedBytes += bytes;
}

/** What a caller is told. */
export function fileError(error: unknown, path: string): unknown {
  if (!(error instanceof ContradictionError || error instanceof DamagedRowError)) {
    return toFileError(error, path);
  }
  return queueFileError("corrupt", path, error.message, {
    cause: error,
    advice: "Nothing was removed or changed. Keep a copy; sendq check says what is wrong, " +
      "sendq repair saves what can still be read into a new queue.",
  });
}

/**
 * A copy that is written over a file in use leaves its name and its place as they were: what goes
 * back shows that.
 *
 * @throws {QueueFileError} Ids above the highest one have been given out before.
 */
export function refuseGoneBack(
  { lastId }: Pick<Counts, "lastId">,
  lastIdAtLeast: number,
  path: string,
): void {
  if (lastId >= lastIdAtLeast) return;
  const what = `its file was overwritten while it was in use: the last id in it was ` +
    `${lastIdAtLeast}, and is ${lastId} now`;
  throw queueFileError("misplaced", path, what, {
    advice:
      "Nothing was stored. What it had and the copy has not is lost. Stop every program that " +
      "uses it before a file is put back, and remove its -wal and -shm; sendq check says whether " +
      "it is sound.",
  });
}

/** What a caller is told when COMMIT itself has failed. */
export function commitError(error: unknown, path: string): unknown {
  const translated = fileError(error, path);
  if (!(translated instanceof QueueFileError) || translated.reason !== "io") return translated;
  return queueFileError("io", path, "the disk reported an error while it stored a commit", {
    cause: error,
    outcome: "unknown",
    advice: "It is not known whether the commit is on the disk: as long as the machine runs " +
      "it does not count, after a crash it may. Look into the system's log for faults of the " +
      "disk; and whether files may not grow any further (ulimit -f).",
  });
}
