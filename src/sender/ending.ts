/**
 * How a sender or a forwarder ends: what it holds is given back, and an error that has ended it
 * reaches its user once. Where nobody was told it, the disposal throws it, and else it does not.
 */

import { CLOSE_OPTIONS } from "../base/option_table.ts";
import { checkFields, resolveOptions } from "../base/options.ts";

export interface EndingParts {
  /** Settles once it runs no more; rejects where an error has ended it. */
  readonly running: Promise<unknown>;
  /** Lets it end, at the latest after so many milliseconds. */
  readonly stop: (deliverTimeoutMs: number) => void | Promise<void>;
  /** What it holds until then. */
  readonly held: AsyncDisposableStack;
}

/** The end of one of them, also while it is still to come. */
export class Ending {
  /** Settles once it runs no more. */
  readonly ended: Promise<void>;
  /** The same, once what it held is given back. */
  readonly finished: Promise<void>;
  readonly #stop: EndingParts["stop"];
  /** How often the user was told each error. */
  readonly #told = new WeakMap<Error, number>();
  #ousted: Error | undefined;
  #isOver = false;
  #failure: { readonly error: unknown } | undefined;
  #closed: Promise<void> | undefined;

  constructor({ running, stop, held }: EndingParts) {
    this.#stop = stop;
    this.ended = running.then(() => {
      if (this.#ousted !== undefined) throw this.#ousted;
    });
    this.ended.then(() => this.#isOver = true, (error) => this.#failure = { error });
    this.finished = this.ended.finally(() => held.disposeAsync());
    this.finished.catch(() => {});
  }

  /** Why it may not go on, where that is so: its files are gone, or another one sends. */
  get ousted(): Error | undefined {
    return this.#ousted;
  }

  /** It may not go on; whoever says so stops it. */
  oust(error: Error): void {
    this.#ousted = error;
  }

  /** Whether it has ended without an error. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** The error that has ended it; undefined: none has. */
  get failure(): unknown {
    return this.#failure?.error;
  }

  /** For who asks something of it that an error has ended; undefined: none has. */
  get rejection(): Promise<never> | undefined {
    return this.#failure && Promise.reject(this.tell(this.#failure.error));
  }

  /** To be called with an error on its way to the user, by a rejection or a status. */
  tell<T>(error: T): T {
    this.#count(error, 1);
    return error;
  }

  /** Who was told it stands between the sender and its user, and has not passed it on. */
  keptBack(error: unknown): void {
    this.#count(error, -1);
  }

  #count(error: unknown, more: number): void {
    if (!(error instanceof Error)) return;
    this.#told.set(error, Math.max(0, (this.#told.get(error) ?? 0) + more));
  }

  /** One of the two promises, for the user: whoever waits for it is told, and nobody has to. */
  closed(promise: Promise<void>): Promise<void> {
    if (this.#closed === undefined) {
      this.#closed = promise.catch((error) => {
        throw this.tell(error);
      });
      this.#closed.catch(() => {});
    }
    return this.#closed;
  }

  /**
   * Ends it for a user who hears why.
   *
   * @throws {OptionError} The deadline is out of range.
   */
  async close(options: { readonly deliverTimeoutMs?: number }): Promise<void> {
    checkFields("", options, [CLOSE_OPTIONS]);
    const { deliverTimeoutMs } = resolveOptions(CLOSE_OPTIONS, options);
    try {
      await this.#end(deliverTimeoutMs);
    } catch (error) {
      throw this.tell(error);
    }
  }

  /** Ends it; thrown again, an error would hide what went wrong behind a `SuppressedError`. */
  async dispose(): Promise<void> {
    try {
      await this.#end(CLOSE_OPTIONS.deliverTimeoutMs.default);
    } catch (error) {
      if (!(error instanceof Error && this.#told.get(error))) throw this.tell(error);
    }
  }

  async #end(deliverTimeoutMs: number): Promise<void> {
    await this.#stop(deliverTimeoutMs);
    await this.finished;
  }
}
