/** What a session is to do, before anything of it is opened. */

import { systemClock } from "../../base/clock.ts";
import type { Remote } from "../../base/remote.ts";
import { within } from "../../base/waits.ts";
import type { Needs } from "../../permissions/permissions.ts";
import type { Sender } from "../../sender/sender.ts";
import type { DeliveryCommandOptions } from "../arguments/options.ts";
import { formatBytes, formatPackets } from "../terminal/figures.ts";
import type { RouteLog } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";

/** Where a session's packets come from, beside other processes. */
export interface Intake {
  /** For messages: `"the pipe"`, `"clients"`. */
  readonly origin: string;
  /** Resolves at a natural end, after which the session delivers everything and ends. */
  run(): Promise<void>;
  /** Takes no more in; resolves once what was taken in is stored, or cannot be. */
  stop(): Promise<void>;
  /** Resolves once what was taken in is stored, or cannot be; nothing is taken in any more. */
  settled(): Promise<void>;
  /** Packets that were read and are not on disk. */
  readonly unstoredPackets: number;
  /** Bytes that were read of a packet that did not become whole. */
  readonly unfinishedBytes: number;
}

/** How long lines that nobody reads, and a store that does not answer, keep a command from ending. */
export const LAST_WORDS_MS = 1000;

/** Waits a short time until what was read is stored, or cannot be. */
export function settled(intake: Intake | undefined): Promise<void> {
  return within(LAST_WORDS_MS, intake?.settled() ?? Promise.resolve());
}

/**
 * Reads no more, and stores what was read before delivery ends.
 *
 * @param timeoutMs How long delivery may still take.
 * @returns What is left of that, in milliseconds.
 */
export async function stopIntake(intake: Intake | undefined, timeoutMs: number): Promise<number> {
  const deadlineMs = systemClock.nowMs() + timeoutMs;
  await within(timeoutMs, intake?.stop() ?? Promise.resolve());
  // To store it is not to deliver it: a short time for that costs nothing that was read.
  await settled(intake);
  return Math.max(0, deadlineMs - systemClock.nowMs());
}

/**
 * Says what was read and is nowhere.
 *
 * @returns Whether there is any.
 */
export function tellLost(log: RouteLog, intake: Intake | undefined): boolean {
  const { unfinishedBytes = 0, unstoredPackets = 0, origin = "" } = intake ?? {};
  if (unstoredPackets > 0) {
    log.error(
      `${formatPackets(unstoredPackets)} read from ${origin} could not be stored: ` +
        `lost, unless they are sent to sendq again`,
    );
  }
  if (unfinishedBytes > 0) {
    log.error(
      `${formatBytes(unfinishedBytes)} read from ${origin} are no whole packet: ` +
        `lost, unless it is sent to sendq again`,
    );
  }
  return unstoredPackets > 0 || unfinishedBytes > 0;
}

export interface SessionPlan {
  /** What it is called among several; undefined: it is the only one. */
  readonly name?: string | undefined;
  readonly remote: Remote;
  readonly options: DeliveryCommandOptions;
  readonly io: Stdio;
  /** What has to be had before the queue is opened; given back where it cannot be. */
  readonly acquire?: () => Promise<Disposable>;
  /** Makes what takes packets in; without it only other processes enqueue. */
  readonly openIntake?: (sender: Sender, log: RouteLog) => Intake | undefined;
  /** Passes on or discards what the server sends; what it returns ends that, once the sender has. */
  readonly handleReceived: (sender: Sender, log: RouteLog) => () => Promise<void>;
}

export interface Planned {
  readonly plan: SessionPlan;
  readonly needs: Needs;
}
