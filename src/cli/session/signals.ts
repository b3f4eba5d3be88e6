/**
 * The wish to stop: SIGTERM, SIGINT or SIGHUP once, and once more for those in a
 * hurry.
 *
 * @module
 */

import { isSignalIgnored, SIGHUP } from "../../kernel/signal.ts";

/**
 * A terminal that is closed says SIGHUP; who wants to outlive it starts with
 * nohup, which ignores it. With the first listener for any signal Deno begins to
 * handle SIGHUP as if nobody had ignored it, so that a listener of ours has to
 * do nothing in its place. To be asked before.
 */
function hupIsIgnored(): boolean {
  try {
    return isSignalIgnored(SIGHUP);
  } catch {
    return false; // A command without the C library.
  }
}

/** Listens for the wish to stop until disposed of. */
export class StopSignals implements Disposable {
  readonly first: Promise<Deno.Signal>;
  readonly second: Promise<Deno.Signal>;
  readonly #listeners: readonly (readonly [Deno.Signal, () => void])[];

  /**
   * Begins to listen; the signals no longer end the process by themselves.
   *
   * @param onHangUp Called at each SIGHUP, which then is no wish to stop.
   */
  constructor(onHangUp?: () => void) {
    const waiting = [
      Promise.withResolvers<Deno.Signal>(),
      Promise.withResolvers<Deno.Signal>(),
    ] as const;
    let count = 0;
    this.first = waiting[0].promise;
    this.second = waiting[1].promise;
    const ignored = hupIsIgnored();
    this.#listeners = (["SIGTERM", "SIGINT", "SIGHUP"] as const).map((signal) => {
      const stop = () => waiting[count++]?.resolve(signal);
      const listener = signal === "SIGHUP" ? ignored ? () => {} : onHangUp ?? stop : stop;
      Deno.addSignalListener(signal, listener);
      return [signal, listener] as const;
    });
  }

  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}
