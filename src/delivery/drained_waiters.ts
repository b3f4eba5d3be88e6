/** Those who wait until what was on disk when they asked has drained. */

import { unlessAborted } from "../base/waits.ts";
import { ClosedError } from "../base/errors.ts";

interface Waiter {
  readonly throughId: number;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/** In the order in which they asked, which is that of what they wait for. */
export class DrainedWaiters {
  readonly #waiters = new Set<Waiter>();

  /**
   * Waits for every packet up to this id.
   *
   * @throws {ClosedError} The sender was closed before.
   */
  async wait(throughId: number, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { throughId, resolve, reject };
    this.#waiters.add(waiter);
    try {
      await unlessAborted(promise, signal);
    } finally {
      this.#waiters.delete(waiter);
    }
  }

  /** Lets those go whose packets have drained. */
  resolve(hasDrained: (throughId: number) => boolean): void {
    for (const waiter of this.#waiters) {
      if (!hasDrained(waiter.throughId)) return;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }

  /** The sender is closed. */
  rejectAll(): void {
    for (const { reject } of this.#waiters) {
      reject(new ClosedError("The sender was closed before everything had drained."));
    }
  }
}
