/**
 * What the server's program owes: the answer to a packet, where that confirms it, the answer
 * to a heartbeat, any byte at all where it always responds. Who owes for too long is given up;
 * but after a pause of our own the answer may lie in the socket, so that before anybody is called
 * late, the reader has its turn.
 */

import { MAX_COUNTED_GAP_MS, type Verdict } from "./liveness.ts";

/** While something is owed it is looked so often, also by a timer that is late: no gap is too long. */
const LOOK_MS = 0.8 * MAX_COUNTED_GAP_MS;
/**
 * So many looks more, and so far apart, before a debt is called late: a timer lets the loop come
 * to rest, in which it looks after sockets (deno_facts, The event loop).
 */
const READER_TURNS = 4;
const READER_TURN_MS = 10;

/** What is owed since a moment, and for so long at most, in watched time (`WatchedTime`). */
export class Debt {
  readonly #limitMs: number;
  /** Undefined: nothing is owed. */
  sinceMs: number | undefined;

  constructor(limitMs: number) {
    this.#limitMs = limitMs;
  }

  /** How long it has been due; 0: nothing is. */
  unansweredMs(watchedMs: number): number {
    return this.sinceMs === undefined ? 0 : watchedMs - this.sinceMs;
  }

  /** When it is too late. */
  overdueInMs(watchedMs: number): number {
    return this.sinceMs === undefined
      ? Infinity
      : Math.max(0, this.sinceMs + this.#limitMs - watchedMs);
  }
}

/** To whom something may be owed. */
interface Claim {
  readonly to: "answers" | "heartbeat" | "packets";
  readonly debt: Debt | undefined;
}

/** The debts of one connection's server. */
export class Owed {
  readonly #claims: readonly Claim[];
  #dueInMs = Infinity;
  #turns = 0;
  #turnAtMs = 0;

  /** @param claims Where several are late, the first one is told of. */
  constructor(claims: readonly Claim[]) {
    this.#claims = claims;
  }

  /** When to look again at the latest; `Infinity`: nothing is owed. */
  get lookInMs(): number {
    if (this.#dueInMs === Infinity) return Infinity;
    return this.#dueInMs <= 0 ? READER_TURN_MS : Math.min(this.#dueInMs, LOOK_MS);
  }

  /** Looks who is late. Says why the connection is to be given up; undefined: it is not. */
  late(watchedMs: number): Verdict | undefined {
    let late: Claim | undefined;
    this.#dueInMs = Infinity;
    for (const claim of this.#claims) {
      const dueInMs = claim.debt?.overdueInMs(watchedMs) ?? Infinity;
      if (dueInMs <= 0) late ??= claim;
      this.#dueInMs = Math.min(this.#dueInMs, dueInMs);
    }
    if (late === undefined) this.#turns = 0;
    if (late === undefined || !this.#readerHadTurns(watchedMs)) return undefined;
    const unansweredMs = late.debt?.unansweredMs(watchedMs) ?? 0;
    return { kind: "no-response", unansweredMs, to: late.to };
  }

  #readerHadTurns(watchedMs: number): boolean {
    if (this.#turns > 0 && watchedMs - this.#turnAtMs < READER_TURN_MS) return false;
    this.#turnAtMs = watchedMs;
    return this.#turns++ >= READER_TURNS;
  }
}
