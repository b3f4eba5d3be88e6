/**
 * What the server's program owes: the answer to a packet, where that confirms it, the answer
 * to a heartbeat, any byte at all where it always responds. Who owes for too long is given up;
 * but after a pause of our own the answer may lie in the socket, so that before anybody is called
 * late, the reader has its turn.
 *
 * @module
 */

import type { Answers } from "./answers.ts";
import type { Heartbeats } from "./heartbeats.ts";
import { MAX_COUNTED_GAP_MS, type Verdict } from "./liveness.ts";
import type { Outgoing } from "./outgoing.ts";

/** While something is owed it is looked so often, also by a timer that is late: no gap is too long. */
const LOOK_MS = 0.8 * MAX_COUNTED_GAP_MS;
/**
 * So many looks more, and so far apart, before a debt is called late: a timer lets the loop come
 * to rest, in which it looks after sockets (deno_facts, The event loop).
 */
const READER_TURNS = 4;
const READER_TURN_MS = 10;

/** Who may owe something; times are watched ones, see `WatchedTime`. */
export interface OwedParts {
  readonly answers: Pick<Answers, "overdueInMs" | "unansweredMs"> | undefined;
  readonly heartbeats: Pick<Heartbeats, "overdueInMs" | "unansweredMs"> | undefined;
  readonly outgoing: Pick<Outgoing, "unansweredSinceMs">;
  /** How long bytes may stay without any byte of response. */
  readonly responseTimeoutMs: number | undefined;
}

/** The debts of one connection's server. */
export class Owed {
  readonly #parts: OwedParts;
  #dueInMs = Infinity;
  #turns = 0;
  #turnAtMs = 0;

  constructor(parts: OwedParts) {
    this.#parts = parts;
  }

  /** When to look again at the latest; `Infinity`: nothing is owed. */
  get lookInMs(): number {
    if (this.#dueInMs === Infinity) return Infinity;
    return this.#dueInMs <= 0 ? READER_TURN_MS : Math.min(this.#dueInMs, LOOK_MS);
  }

  /**
   * Looks who is late.
   *
   * @param watchedMs Now, in watched time.
   * @returns Why the connection is to be given up; undefined: it is not.
   */
  late(watchedMs: number): Verdict | undefined {
    const { answers, heartbeats } = this.#parts;
    const answersInMs = answers?.overdueInMs(watchedMs) ?? Infinity;
    const heartbeatInMs = heartbeats?.overdueInMs(watchedMs) ?? Infinity;
    const unansweredMs = this.#unansweredMs(watchedMs);
    const responseInMs = unansweredMs === undefined
      ? Infinity
      : (this.#parts.responseTimeoutMs ?? Infinity) - unansweredMs;
    this.#dueInMs = Math.min(answersInMs, heartbeatInMs, responseInMs);
    if (this.#dueInMs > 0) {
      this.#turns = 0;
      return undefined;
    }
    if (!this.#readerHadTurns(watchedMs)) return undefined;
    const kind = "no-response";
    if (answersInMs <= 0) {
      return { kind, unansweredMs: answers?.unansweredMs(watchedMs) ?? 0, to: "answers" };
    }
    return heartbeatInMs <= 0
      ? { kind, unansweredMs: heartbeats?.unansweredMs(watchedMs) ?? 0, to: "heartbeat" }
      : { kind, unansweredMs: unansweredMs ?? 0, to: "packets" };
  }

  #unansweredMs(watchedMs: number): number | undefined {
    const sinceMs = this.#parts.outgoing.unansweredSinceMs;
    return sinceMs === undefined ? undefined : watchedMs - sinceMs;
  }

  #readerHadTurns(watchedMs: number): boolean {
    if (this.#turns > 0 && watchedMs - this.#turnAtMs < READER_TURN_MS) return false;
    this.#turnAtMs = watchedMs;
    return this.#turns++ >= READER_TURNS;
  }
}
