import type { Clock } from "../base/ports.ts";

/** How things stand, as {@linkcode Progress} looks at them. */
export interface Standing {
  /** Grows with whatever gets through. */
  readonly reached: number;
  /** Whether there is anything that could get through. */
  readonly isWaiting: boolean;
  /** Whether this process cannot store what it is given. */
  readonly failsToStore: boolean;
}

/** For how long nothing has got through, and nothing could be stored. */
export class Progress {
  readonly #clock: Clock;
  #reached: number;
  #waitingSinceMs: number | undefined;
  #unstorableSinceMs: number | undefined;

  constructor(clock: Clock, reached: number) {
    this.#clock = clock;
    this.#reached = reached;
  }

  /** Both lengths of time; 0: nothing waits, everything could be stored. */
  measure({ reached, isWaiting, failsToStore }: Standing): {
    readonly undeliverableMs: number;
    readonly unstorableMs: number;
  } {
    const nowMs = this.#clock.nowMs();
    const progressed = reached > this.#reached;
    this.#reached = reached;
    this.#unstorableSinceMs = failsToStore ? this.#unstorableSinceMs ?? nowMs : undefined;
    if (!isWaiting) this.#waitingSinceMs = undefined;
    else if (progressed) this.#waitingSinceMs = nowMs;
    else this.#waitingSinceMs ??= nowMs;
    return {
      undeliverableMs: nowMs - (this.#waitingSinceMs ?? nowMs),
      unstorableMs: nowMs - (this.#unstorableSinceMs ?? nowMs),
    };
  }
}
