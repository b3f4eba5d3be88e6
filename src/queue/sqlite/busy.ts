import { QueueFileError } from "../../base/errors.ts";
import type { Clock } from "../../base/ports.ts";
import { rest } from "../../base/waits.ts";

const BUSY_FIRST_WAIT_MS = 1;
const BUSY_LONGEST_WAIT_MS = 50;

/** Waiting for another process, in growing steps, up to a limit. */
export class BusyRetry {
  readonly #clock: Clock;
  readonly #limitMs: number;
  #deadlineMs: number | undefined;
  #waitMs = BUSY_FIRST_WAIT_MS;

  /** @param limitMs Counted from the first wait. */
  constructor(clock: Clock, limitMs: number) {
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  /** Waits if `error` says that the file is busy and there is time left; else throws it. */
  async waitOrThrow(error: unknown): Promise<void> {
    if (!(error instanceof QueueFileError) || error.reason !== "busy") throw error;
    const nowMs = this.#clock.nowMs();
    this.#deadlineMs ??= nowMs + this.#limitMs;
    if (nowMs >= this.#deadlineMs) throw error;
    const waitMs = Math.min(this.#waitMs, this.#deadlineMs - nowMs);
    this.#waitMs = Math.min(2 * this.#waitMs, BUSY_LONGEST_WAIT_MS);
    await rest(this.#clock, waitMs);
  }
}

/**
 * Does something once another process has let go of the file.
 *
 * @param limitMs How long that is waited for.
 * @param work Is called again where the file was busy.
 */
export async function onceNotBusy<T>(
  clock: Clock,
  limitMs: number,
  work: () => T | Promise<T>,
): Promise<T> {
  const busyRetry = new BusyRetry(clock, limitMs);
  for (;;) {
    try {
      return await work();
    } catch (error) {
      await busyRetry.waitOrThrow(error);
    }
  }
}
