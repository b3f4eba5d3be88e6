/** The right to remove packets: that of a sender, so that none is pulled from under one. */

import { systemClock } from "../../base/clock.ts";
import { QueueLockedError } from "../../base/errors.ts";
import { rest } from "../../base/waits.ts";
import { isQueueUrl } from "../../postgres/address.ts";
import type { Looker } from "../../postgres/look.ts";
import type { SpareSpace } from "../../queue/guarded_store.ts";
import { type OutboundQueue, sendingSideOf } from "../../queue/queue.ts";
import { makeRoomToOpen } from "../../queue/sender_lock.ts";
import { mayBeFull } from "../../queue/sqlite/file_error.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";
import {
  KEEPS_DEAD_LETTERS,
  nameOfQueue,
  openQueue,
  passwordOf,
} from "../arguments/queue_place.ts";
import { CommandError } from "../terminal/exit_code.ts";
import { formatDuration } from "../terminal/figures.ts";
import { openForLooking } from "./queue_view.ts";

/** How often it is looked whether the holder of a lease lives. */
const LOOK_MS = 100;
/** Until then, and for the lease of a holder besides, it is known, unless the database is away. */
const TIMEOUT_MS = 30_000;

/** A right that is held until it is disposed of. */
export interface QueueHold extends AsyncDisposable {
  /** Disk space for removals, where the disk is full; `undefined`: none is kept. */
  readonly spare: SpareSpace | undefined;
  /** Closed with the right. */
  readonly queue: OutboundQueue;
}

/**
 * Takes the right.
 *
 * @param timeoutMs For how long it is tried to find out whether a sender runs; longer by the lease
 *   of one that has it.
 * @throws {CommandError} A sender runs, or that cannot be told.
 */
export async function holdQueue(queue: string, timeoutMs = TIMEOUT_MS): Promise<QueueHold> {
  if (isQueueUrl(queue)) return await holdInDatabase(queue, timeoutMs);
  return await holdInFile(queue);
}

/** Opens a queue for what needs no right. */
export async function openWithoutHold(queue: string): Promise<QueueHold> {
  return holdOf(await openThere(queue), undefined, () => {});
}

/** Opens a queue that is there: on a full disk in the reserve, while nobody has its lock. */
async function openThere(queue: string): Promise<OutboundQueue> {
  if (isSpoolAddress(queue)) {
    // Whoever takes something away does not make a queue.
    try {
      (await openForLooking(queue))[Symbol.dispose]();
    } catch (error) {
      // Even a look takes a little room.
      if (!mayBeFull(error) || !makeRoomToOpen(parseSpoolAddress(queue).file)) throw error;
      (await openForLooking(queue))[Symbol.dispose]();
    }
  }
  return await openQueue(queue, KEEPS_DEAD_LETTERS);
}

function holdOf(
  queue: OutboundQueue,
  spare: SpareSpace | undefined,
  release: () => void | Promise<void>,
): QueueHold {
  return {
    spare,
    queue,
    async [Symbol.asyncDispose]() {
      try {
        await queue.close();
      } finally {
        await release();
      }
    },
  };
}

/** Whoever sends from any queue of a spool has all of it. */
async function holdInFile(address: string): Promise<QueueHold> {
  const queue = await openThere(address);
  try {
    const tenure = await sendingSideOf(queue).takeTenure(systemClock);
    return holdOf(queue, tenure.spare, () => tenure.release());
  } catch (error) {
    await queue.close();
    throw heldBy(address, error);
  }
}

function heldBy(path: string, error: unknown): unknown {
  if (!(error instanceof QueueLockedError)) return error;
  const pid = error.holderPid;
  return senderRuns(
    error.of === "spool" ? `the spool of ${path}` : path,
    pid === undefined ? undefined : `process ${pid}`,
    "Stop it first; start it again afterwards.",
    error,
  );
}

function senderRuns(
  queue: string,
  holder: string | undefined,
  advice: string,
  cause?: unknown,
): CommandError {
  return new CommandError(
    `a sender runs on ${queue}${holder === undefined ? "" : ` (${holder})`}, ` +
      `and packets are not pulled from under it. ${advice} ` +
      "Dead letters (--dead) can be removed while it runs.",
    { cause },
  );
}

/** A holder that has died is waited for until its lease is over; one that lives is not. */
async function holdInDatabase(url: string, timeoutMs: number): Promise<QueueHold> {
  {
    // Who may not look may not remove either, and is told so before a lease is waited for.
    using inspector = await openForLooking(url);
    await inspector.countDeadLetters({ toId: 0 });
  }
  // Where the answer is lost that it has the lease, it sees its own beat, and must know it.
  const ownName = `sendq remove, process ${Deno.pid}, ${crypto.randomUUID()}`;
  const [{ postgresQueue }, { lookerAt }] = await Promise.all([
    import("../../postgres/postgres.ts"),
    import("../../postgres/look.ts"),
  ]);
  const own = { ...KEEPS_DEAD_LETTERS, holder: ownName };
  const queue = await postgresQueue({ url, ...passwordOf(url), ...own });
  const looker = lookerAt({ url, ...passwordOf(url) });
  const path = nameOfQueue(url);
  const giveUp = new AbortController();
  const giveUpIn = (delayMs: number) =>
    systemClock.setTimer(delayMs, () => {
      const words =
        `for ${formatDuration(delayMs)} it could not be told whether a sender runs on ` +
        `${path}, and packets are not pulled from under one. Nothing was removed; try again`;
      giveUp.abort(new CommandError(words));
    });
  let cancel = giveUpIn(timeoutMs);
  const watching = watchHolder(looker, giveUp.signal, ownName, {
    onSeen(ttlMs) {
      cancel();
      cancel = giveUpIn(timeoutMs + ttlMs);
    },
    onAlive(holder) {
      const advice = "Stop it first, and those that stand by; start them again afterwards.";
      giveUp.abort(senderRuns(path, holder, advice));
    },
  });
  try {
    const tenure = await sendingSideOf(queue).takeTenure(systemClock, giveUp.signal);
    return holdOf(queue, undefined, () => tenure.release());
  } catch (error) {
    await queue.close();
    throw error;
  } finally {
    cancel();
    giveUp.abort();
    looker.close();
    await watching;
  }
}

/** Looks until somebody else counts the beat of a lease up, or until it is told to end. */
async function watchHolder(
  looker: Looker,
  signal: AbortSignal,
  ownName: string,
  { onSeen, onAlive }: {
    /** There is a holder, whose beats are good for so long. */
    readonly onSeen: (ttlMs: number) => void;
    readonly onAlive: (holder: string) => void;
  },
): Promise<void> {
  let firstBeat: number | undefined;
  let longestMs = 0;
  while (!signal.aborted) {
    try {
      const { holder, beat, ttlMs } = (await looker.look()).lease;
      if (signal.aborted) return;
      if (holder !== undefined && holder !== ownName && ttlMs > longestMs) {
        longestMs = ttlMs;
        onSeen(ttlMs);
      }
      // What others do is counted from the last beat that was not theirs.
      if (firstBeat === undefined || holder === ownName) firstBeat = beat;
      if (holder !== undefined && beat > firstBeat) return onAlive(holder);
    } catch {
      // Who takes the lease is told what is wrong.
    }
    await rest(systemClock, LOOK_MS);
  }
}
