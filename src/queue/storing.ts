/**
 * Whether a queue takes packets.
 *
 * @module
 */

import { QueueFileError } from "../base/errors.ts";
import type { Clock } from "../base/ports.ts";
import type { StoreFailure } from "../base/queue_stats.ts";

/** Knows since when enqueues of this process fail, and why. */
export class Storing {
  readonly #clock: Clock;
  readonly #onChange: (failure: StoreFailure | undefined) => void;
  #failure: StoreFailure | undefined;
  #lastError: unknown;

  /**
   * @param clock The wall clock.
   * @param onChange Told of each failure, and with `undefined` once packets are stored again.
   */
  constructor(clock: Clock, onChange: (failure: StoreFailure | undefined) => void) {
    this.#clock = clock;
    this.#onChange = onChange;
  }

  /** Why nothing can be stored; undefined: it can, as far as is known. */
  get failure(): StoreFailure | undefined {
    return this.#failure;
  }

  /** Enqueues were rejected with this error. */
  refused(error: unknown): void {
    // Those that shared a commit share its error.
    if (!(error instanceof QueueFileError) || error === this.#lastError) return;
    this.#lastError = error;
    const { reason, message: words } = error;
    const sinceMs = this.#failure?.sinceMs ?? this.#clock.wallMs();
    this.#failure = { reason, words, sinceMs };
    this.#onChange(this.#failure);
  }

  /** Something was stored, by whichever process. */
  stored(): void {
    if (this.#failure === undefined) return;
    this.#failure = this.#lastError = undefined;
    this.#onChange(undefined);
  }
}
