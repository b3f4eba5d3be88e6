/**
 * The wish to stop: SIGTERM or SIGINT once, and once more for those in a hurry.
 *
 * @module
 */

const SIGNALS = ["SIGTERM", "SIGINT"] as const;

/** Listens for the wish to stop until disposed of. */
export class StopSignals implements Disposable {
  /** Resolves with the first signal's name. */
  readonly first: Promise<Deno.Signal>;
  /** Resolves with the second. */
  readonly second: Promise<Deno.Signal>;
  readonly #listeners: readonly (readonly [Deno.Signal, () => void])[];

  /** Begins to listen; the signals no longer end the process by themselves. */
  constructor() {
    const waiting = [
      Promise.withResolvers<Deno.Signal>(),
      Promise.withResolvers<Deno.Signal>(),
    ] as const;
    let count = 0;
    this.first = waiting[0].promise;
    this.second = waiting[1].promise;
    this.#listeners = SIGNALS.map((signal) => {
      const listener = () => waiting[count++]?.resolve(signal);
      Deno.addSignalListener(signal, listener);
      return [signal, listener] as const;
    });
  }

  /** Gives the signals back. */
  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}
