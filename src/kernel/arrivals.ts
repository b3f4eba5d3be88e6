/**
 * Which of the connections that come in is used.
 *
 * Invariants:
 * 1. One at a time is in use.
 * 2. A further one takes its place, whose user is told; or it is closed, where further ones
 *    are refused.
 * 3. Of those that nobody has asked for yet the newest is kept, and the others are closed.
 */

import { WireError } from "../base/errors.ts";
import { onAbort } from "../base/waits.ts";

/** A connection in use that another one may take the place of. */
export interface Replaceable {
  /** Whoever reads or writes it learns of it; what it carries is theirs to give up. */
  replace(): void;
}

/** The connections of one listener. */
export class Arrivals<Arrival extends { close(): void }> {
  readonly #refusesSecond: boolean;
  /** Nobody has asked for it yet. */
  #waiting: Arrival | undefined;
  #inUse: Replaceable | undefined;
  #onArrival: () => void = () => {};
  #giveUp: (error: WireError) => void = () => {};

  /** @param refusesSecond A further one is closed while one is in use. */
  constructor(refusesSecond: boolean) {
    this.#refusesSecond = refusesSecond;
  }

  /** One has come. */
  take(arrival: Arrival): void {
    if (this.#refusesSecond && this.#inUse !== undefined) return arrival.close();
    this.#waiting?.close();
    this.#waiting = arrival;
    this.#inUse?.replace();
    this.#onArrival();
  }

  /** Resolves with the newest, or the next one; rejects with the signal's reason. */
  next(signal: AbortSignal): Promise<Arrival> {
    return new Promise((resolve, reject) => {
      const take = () => {
        const arrival = this.#waiting;
        if (arrival === undefined) return;
        this.#waiting = undefined;
        settle();
        resolve(arrival);
      };
      const fail = (reason: unknown) => {
        settle();
        reject(reason);
      };
      const settle = () => {
        this.#onArrival = this.#giveUp = () => {};
        forget();
      };
      const forget = onAbort(signal, () => fail(signal.reason));
      this.#onArrival = take;
      this.#giveUp = fail;
      take();
    });
  }

  /** It is in use from now on. */
  use(connection: Replaceable): void {
    this.#inUse = connection;
  }

  /** It is not in use any more; harmless for one that is not. */
  ended(connection: Replaceable): void {
    if (this.#inUse === connection) this.#inUse = undefined;
  }

  /** Closes what nobody has asked for, and fails for whoever waits for the next one. */
  close(): void {
    this.#waiting?.close();
    this.#waiting = undefined;
    this.#giveUp(new WireError("ECANCELED", "nobody is waited for any more"));
  }
}
