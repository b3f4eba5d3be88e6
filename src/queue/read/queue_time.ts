/**
 * The time by which packets expire: it goes on as real time does, however the wall clock is set
 * meanwhile.
 *
 * It is the wall clock plus an offset: 0, until the wall clock jumps by more than a second against
 * the monotonic clock, and the offset by as much the other way. A slewed clock is followed. Whoever
 * notices a jump writes the offset into the file with its next commit, for others, too.
 *
 * Across a restart nobody has watched the clock. What has passed is then the wall clock's time since
 * the last commit, or none where `offsetAt` says that this cannot be. While a machine is suspended
 * its monotonic clock stands still: that time does not count.
 *
 * A database has one clock for all machines, whose own need not agree: a process says how long a
 * packet is still worth sending, and is told the same.
 */

import type { Clock } from "../../base/ports.ts";
import type { Moment } from "../store/contract.ts";
import { SAME_CLOCK_MS } from "../store/transaction.ts";

/** No clock that is right says less: a board without a battery begins in 1970 or 2000. */
const EARLIEST_MS = Date.UTC(2026, 0, 1);
/** A queue may lie about for so long. */
const LONGEST_REST_MS = 400 * 24 * 3600 * 1000;

/** What a file says of the time. */
export interface FileTime {
  readonly clockOffsetMs: number;
  /** The wall clock at its last commit; 0: not known. */
  readonly writtenAtMs: number;
}

/** The time of a queue, as one process knows it. */
export class QueueTime {
  readonly #clock: Pick<Clock, "nowMs" | "wallMs">;
  #offsetMs: number;
  /** What the file says. */
  #knownOffsetMs: number;
  /** Wall clock minus monotonic clock, when last looked at. */
  #aheadMs: number;
  /** What the whole milliseconds of the offset leave over of jumps. */
  #leftMs = 0;

  constructor(clock: Pick<Clock, "nowMs" | "wallMs">, { clockOffsetMs, writtenAtMs }: FileTime) {
    this.#clock = clock;
    const wallMs = clock.wallMs();
    this.#aheadMs = wallMs - clock.nowMs();
    this.#knownOffsetMs = clockOffsetMs;
    this.#offsetMs = offsetAt(wallMs, { clockOffsetMs, writtenAtMs });
  }

  /** Now, in the time by which packets expire. */
  nowMs(): number {
    this.#look();
    return this.#clock.wallMs() + this.#offsetMs - this.#leftMs;
  }

  /** Now, for a transaction. */
  moment(): Moment {
    this.#look();
    return {
      wallMs: Math.floor(this.#clock.wallMs() - this.#leftMs),
      clockOffsetMs: this.#offsetMs,
      knownOffsetMs: this.#knownOffsetMs,
    };
  }

  /** The wall clock's reading, as it goes now, at a moment of this time: never before it. */
  toWallMs(atMs: number): number {
    return Math.ceil(atMs - this.#offsetMs + this.#leftMs);
  }

  /** Whether the file should be told of a jump. */
  get isToBeNoted(): boolean {
    this.#look();
    return Math.abs(this.#offsetMs - this.#knownOffsetMs) > SAME_CLOCK_MS;
  }

  /** Takes over what the file says by now. What this process has seen itself comes first. */
  adopt({ clockOffsetMs }: FileTime): void {
    this.#look();
    const hasSeenNothing = this.#offsetMs === this.#knownOffsetMs;
    this.#knownOffsetMs = clockOffsetMs;
    if (hasSeenNothing || Math.abs(clockOffsetMs - this.#offsetMs) <= SAME_CLOCK_MS) {
      this.#offsetMs = clockOffsetMs;
    }
  }

  #look(): void {
    const aheadMs = this.#clock.wallMs() - this.#clock.nowMs();
    const jumpMs = aheadMs - this.#aheadMs;
    this.#aheadMs = aheadMs;
    if (Math.abs(jumpMs) <= SAME_CLOCK_MS) return;
    const wholeMs = Math.round(jumpMs + this.#leftMs);
    this.#leftMs += jumpMs - wholeMs;
    this.#offsetMs -= wholeMs;
  }
}

/** The time of a queue whose place keeps it: here it only counts how much of it passes. */
export class PassingTime extends QueueTime {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    const passing = { nowMs: () => clock.nowMs(), wallMs: () => clock.nowMs() };
    super(passing, { clockOffsetMs: 0, writtenAtMs: 0 });
    this.#clock = clock;
  }

  override toWallMs(atMs: number): number {
    return atMs - this.#clock.nowMs() + this.#clock.wallMs();
  }
}

/** What a queue's time is ahead of a wall clock that nobody has watched. */
export function offsetAt(wallMs: number, { clockOffsetMs, writtenAtMs }: FileTime): number {
  // At 0 nothing is known of the time before. Else the clock says what has passed, unless it
  // went back, was not set, or says that it was longer than anybody rests.
  const restMs = wallMs - writtenAtMs;
  const isCredible = writtenAtMs === 0 ||
    writtenAtMs >= EARLIEST_MS && restMs >= 0 && restMs <= LONGEST_REST_MS;
  return isCredible ? clockOffsetMs : clockOffsetMs - Math.round(restMs);
}
