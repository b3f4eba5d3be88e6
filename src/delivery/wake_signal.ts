import type { Clock } from "../base/ports.ts";

/**
 * News that need not be acted upon at once share a step, for each step costs
 * readings of the kernel, a write and a timer: while they come turn after turn of
 * the event loop, they wait up to this long. The first after a pause does not.
 */
const STEP_INTERVAL_MS = 1;
/** So many turns without news end the wait. */
const QUIET_TURNS = 2;

/** Wakes a loop: at a ring, or at the latest when the time is up. */
export class WakeSignal {
  readonly #clock: Clock;
  #woken = false;
  #resolveWait: (() => void) | undefined;
  #wokenAtMs = -Infinity;
  #listening = false;
  #quietTurns = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Wakes the loop at once, or, while it runs, as soon as it waits. */
  wake(): void {
    this.#woken = true;
    this.#wokenAtMs = this.#clock.nowMs();
    this.#resolveWait?.();
  }

  /** Rings once no more news come, or `STEP_INTERVAL_MS` after the last ring. */
  wakeSoon(): void {
    this.#quietTurns = 0;
    if (this.#woken || this.#listening) return;
    if (this.#isLate()) this.wake();
    else this.#listen();
  }

  #listen(): void {
    this.#listening = true;
    this.#clock.defer(() => {
      this.#listening = false;
      if (this.#woken) return;
      if (this.#quietTurns++ >= QUIET_TURNS || this.#isLate()) this.wake();
      else this.#listen();
    });
  }

  #isLate(): boolean {
    return this.#clock.nowMs() - this.#wokenAtMs >= STEP_INTERVAL_MS;
  }

  /** Waits for a ring, so long at most; one that came since the last wait counts. */
  async wait(timeoutMs: number): Promise<void> {
    if (!this.#woken) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = timeoutMs === Infinity
        ? undefined
        : this.#clock.setTimer(Math.ceil(timeoutMs), resolve);
      this.#resolveWait = resolve;
      await promise;
      this.#resolveWait = undefined;
      cancel?.();
    }
    this.#woken = false;
  }
}
