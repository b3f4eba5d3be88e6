interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Those who wait until everything has drained. A wait can be ended by its
 * signal, one of the supervisor cannot: it is shared by all who wait for the
 * same packet, so that asking again and again during an outage costs nothing
 * that stays.
 */
export class DrainWaits {
  readonly #drained: () => Promise<void>;
  readonly #byLastId = new Map<number, Set<Waiter>>();

  /** @param drained The supervisor's wait for what is on disk now. */
  constructor(drained: () => Promise<void>) {
    this.#drained = drained;
  }

  /**
   * Resolves once every packet up to `lastId` has drained.
   *
   * @param lastId The highest id on disk now.
   * @param signal Ends the wait.
   * @throws {ClosedError} The sender was closed before.
   */
  async wait(lastId: number, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiters = this.#waitersFor(lastId);
    const waiter = { resolve, reject };
    waiters.add(waiter);
    const onAbort = () => {
      waiters.delete(waiter);
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  #waitersFor(lastId: number): Set<Waiter> {
    const known = this.#byLastId.get(lastId);
    if (known !== undefined) return known;
    const waiters = new Set<Waiter>();
    this.#byLastId.set(lastId, waiters);
    this.#drained().finally(() => this.#byLastId.delete(lastId)).then(
      () => waiters.forEach(({ resolve }) => resolve()),
      (error) => waiters.forEach(({ reject }) => reject(error)),
    );
    return waiters;
  }
}
