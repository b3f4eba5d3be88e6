/**
 * While something is always due, the runtime looks after its sockets in every 61st turn of the
 * loop only (deno_facts, The event loop). Where those turns are long, commits in this thread
 * leave it that many short ones from time to time.
 */

import type { Clock } from "../../base/ports.ts";

const PAUSE_AFTER_MS = 100;
/** So many turns that do nothing take 0.25 ms; a timer of the shortest delay takes 2 ms. */
const TURNS_WITHOUT_SOCKETS = 61;

export class LoopPauses {
  readonly #clock: Clock;
  /** Commits in this thread since the runtime has surely looked after its sockets. */
  #commits = 0;
  #ms = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  schedule(run: () => void): void {
    if (this.#ms < PAUSE_AFTER_MS) return this.#clock.defer(run);
    this.#commits = this.#ms = 0;
    this.#pause(TURNS_WITHOUT_SOCKETS, run);
  }

  #pause(turns: number, run: () => void): void {
    this.#clock.defer(turns === 1 ? run : () => this.#pause(turns - 1, run));
  }

  /** A commit has held the loop for so long. */
  take(ms: number): void {
    this.#commits++;
    this.#ms += ms;
    if (this.#commits === TURNS_WITHOUT_SOCKETS) this.#commits = this.#ms = 0;
  }
}
