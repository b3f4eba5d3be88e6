/**
 * The wish to stop: SIGTERM, SIGINT or SIGHUP once, and once more for those in a
 * hurry; SIGHUP as the wish to read anew; and SIGXFSZ as no wish at all.
 */

import { isSignalIgnored, SIGHUP } from "../../kernel/signal.ts";

/**
 * A terminal that is closed says SIGHUP; who wants to outlive it starts with
 * nohup, which ignores it. With the first listener for any signal Deno begins to
 * handle SIGHUP as if nobody had ignored it, so that a listener of ours has to
 * do nothing in its place. To be asked before; what was found then holds.
 */
let hupWasIgnored: boolean | undefined;

function hupIsIgnored(): boolean {
  try {
    return hupWasIgnored ??= isSignalIgnored(SIGHUP);
  } catch {
    return false; // A command without the C library.
  }
}

/**
 * While it is there, a file that may not grow any further (ulimit -f) ends no process without a
 * word: the write fails, as on a full disk. To be made before any file is opened.
 */
export class SizeLimit implements Disposable {
  readonly #listeners: readonly Deno.Signal[];

  constructor() {
    // Whatever comes first has to keep a SIGHUP ignored.
    this.#listeners = hupIsIgnored() ? ["SIGHUP", "SIGXFSZ"] : ["SIGXFSZ"];
    for (const signal of this.#listeners) Deno.addSignalListener(signal, doNothing);
  }

  [Symbol.dispose](): void {
    for (const signal of this.#listeners) Deno.removeSignalListener(signal, doNothing);
  }
}

function doNothing(): void {}

/**
 * SIGHUP as the wish that everything is read anew, from before it can be: without a listener it
 * ends the process. What comes too early is told to whoever listens first.
 */
export class HangUps implements Disposable {
  readonly #listener: () => void;
  #onHangUp: (() => void) | undefined;
  #isEarly = false;

  /** Begins to listen; the signal no longer ends the process by itself. */
  constructor() {
    this.#listener = hupIsIgnored() ? () => {} : () => {
      if (this.#onHangUp === undefined) this.#isEarly = true;
      else this.#onHangUp();
    };
    Deno.addSignalListener("SIGHUP", this.#listener);
  }

  /** @param onHangUp Called at each SIGHUP, and at once where there was one before. */
  listen(onHangUp: () => void): void {
    this.#onHangUp = onHangUp;
    if (this.#isEarly) onHangUp();
  }

  [Symbol.dispose](): void {
    Deno.removeSignalListener("SIGHUP", this.#listener);
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
   * @param hangUps Who listens for SIGHUP, which then is no wish to stop.
   */
  constructor(hangUps?: HangUps) {
    const waiting = [
      Promise.withResolvers<Deno.Signal>(),
      Promise.withResolvers<Deno.Signal>(),
    ] as const;
    let count = 0;
    this.first = waiting[0].promise;
    this.second = waiting[1].promise;
    const signals: readonly Deno.Signal[] = ["SIGTERM", "SIGINT"];
    const ignored = hangUps === undefined && hupIsIgnored();
    this.#listeners = (hangUps ? signals : [...signals, "SIGHUP" as const]).map((signal) => {
      const stop = () => waiting[count++]?.resolve(signal);
      const listener = signal === "SIGHUP" && ignored ? () => {} : stop;
      Deno.addSignalListener(signal, listener);
      return [signal, listener] as const;
    });
  }

  [Symbol.dispose](): void {
    for (const [signal, listener] of this.#listeners) Deno.removeSignalListener(signal, listener);
  }
}
