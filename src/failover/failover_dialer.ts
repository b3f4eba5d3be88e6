/**
 * Several servers for one queue, in order of preference. To the delivery they are one
 * dialer: each attempt goes to one of them.
 *
 * Invariants:
 * 1. An attempt goes to the first server that did not fail lately, and has not failed since
 *    one was of use; where all have, to the one that did so first. So each has its turn,
 *    however long the others take to fail, and of attempts that may take long as well.
 *    One that has refused us is left alone until its pause is over, and only it.
 * 2. Nothing is written to a server only to see whether it is there.
 */

import { OptionError, WireError } from "../base/errors.ts";
import type { Clock, Dialer, ServerChoice, Wire } from "../base/ports.ts";
import { onAbort } from "../base/waits.ts";
import { type WatchedEnd, WatchedWire } from "./watched_wire.ts";

/** So long a server that failed is passed over, while there is another. */
const AVOID_MS = 30_000;
/** A server that ends a connection sooner than this has no use for it, or nobody behind it. */
const SHORT_LIFE_MS = 10_000;
/** How often it is looked whether a preferred server can be reached again. */
const LOOK_EVERY_MS = 1000;
const LOOK_WITHIN_MS = 2000;
/** So long a proxy that has refused our credentials is not asked by a look. */
const PROXY_PAUSE_MS = 60_000;

/**
 * What a `failoverDialer` works with.
 *
 * @category Dialer
 */
export interface FailoverOptions {
  /** One for each server, the preferred one first; two or more. */
  readonly dialers: readonly Dialer[];
  /** Time. */
  readonly clock: Clock;
  /**
   * Once a preferred server could be reached for so long without a break, in milliseconds,
   * the connection to another is given up for it: when nothing is under way, at the latest
   * after the same time again. After each return that came to nothing it has to be there
   * twice as long, up to an hour. `Infinity`: not before that connection ends by itself.
   *
   * @default {Infinity}
   */
  readonly returnAfterMs?: number;
  /** Told in words when another server is connected to than before. */
  readonly tell?: (words: string) => void;
}

/**
 * A `Dialer` for several servers: where one cannot be reached, refuses, stalls or
 * is dead, the next attempt goes to another. What `Sender.open` does with several remotes.
 *
 * @category Dialer
 * @throws {OptionError} There are fewer than two.
 *
 * @example
 * ```ts
 * import { failoverDialer, systemClock, tcpDialer } from "@sendq/sendq/advanced";
 *
 * const dialer = failoverDialer({
 *   dialers: [4000, 4001].map((port) => tcpDialer({ hostname: "127.0.0.1", port })),
 *   clock: systemClock,
 * });
 * console.log(dialer.remote); // "tcp://127.0.0.1:4000,tcp://127.0.0.1:4001"
 * ```
 */
export function failoverDialer(options: FailoverOptions): Dialer {
  return new Failover(options);
}

class Failover implements Dialer {
  readonly remote: string;
  readonly choice: ServerChoice = {
    failuresOfNext: () => this.#choose().failures,
    refused: (pauseMs) => this.#refused(pauseMs),
  };
  readonly #candidates: readonly Candidate[];
  /** Those that have failed since one of all was of use. */
  readonly #failed = new Set<Candidate>();
  readonly #clock: Clock;
  readonly #returnAfterMs: number;
  readonly #tell: (words: string) => void;
  /** The server of the last attempt. */
  #tried: Candidate | undefined;
  /** The one that the last connection was left for. */
  #returnsTo: Candidate | undefined;
  /** The server of the last connection; before the first one, the preferred. */
  #last: Candidate | undefined;

  constructor(
    { dialers, clock, returnAfterMs = Infinity, tell }: FailoverOptions,
  ) {
    if (dialers.length < 2) {
      throw new OptionError("dialers", dialers.length, "must be two or more");
    }
    this.remote = dialers.map(({ remote }) => remote).join(",");
    this.#candidates = dialers.map((dialer) => new Candidate(dialer));
    this.#clock = clock;
    this.#returnAfterMs = returnAfterMs;
    this.#tell = tell ?? (() => {});
  }

  async dial(
    signal: AbortSignal,
    onLookedUp?: () => void,
    onHandshake?: (withinMs: number) => void,
  ): Promise<Wire> {
    const candidate = this.#tried = this.#choose();
    this.#returnsTo = undefined;
    const { dialer } = candidate;
    const fails = (): void => this.#fails(candidate);
    // Whoever gives it up begins the next one at once, before this one has ended.
    const forget = onAbort(signal, fails);
    try {
      const wire = await dialer.dial(signal, onLookedUp, onHandshake);
      const last = this.#last ?? this.#candidates[0];
      if (last !== undefined && candidate !== last) {
        this.#tell(`turned from ${last.dialer.remote} to ${dialer.remote}`);
      }
      this.#last = candidate;
      return this.#watched(wire, candidate);
    } catch (error) {
      if (!signal.aborted) fails();
      throw error instanceof WireError ? named(error, dialer.remote) : error;
    } finally {
      forget();
    }
  }

  #choose(): Candidate {
    if (this.#returnsTo !== undefined) return this.#returnsTo;
    const nowMs = this.#clock.nowMs();
    const free = this.#candidates.filter(({ pausedUntilMs }) => pausedUntilMs <= nowMs);
    if (free.length === 0) {
      return this.#candidates.reduce((a, b) => b.pausedUntilMs < a.pausedUntilMs ? b : a);
    }
    const well = free.find((candidate) =>
      !this.#failed.has(candidate) && nowMs - candidate.failedAtMs >= AVOID_MS
    );
    return well ?? free.reduce((a, b) => b.failedAtMs < a.failedAtMs ? b : a);
  }

  #fails(candidate: Candidate): void {
    candidate.fails(this.#clock.nowMs());
    this.#failed.add(candidate);
  }

  #served(candidate: Candidate): void {
    candidate.served();
    this.#failed.clear();
  }

  #refused(pauseMs: (refusals: number) => number): number {
    const nowMs = this.#clock.nowMs();
    this.#tried?.refused(nowMs, pauseMs);
    const untilMs = Math.min(...this.#candidates.map(({ pausedUntilMs }) => pausedUntilMs));
    return Math.max(0, untilMs - nowMs);
  }

  #watched(wire: Wire, candidate: Candidate): Wire {
    const sinceMs = this.#clock.nowMs();
    const watched = new WatchedWire(wire, this.#clock, (end) => {
      if (end.isOurs) {
        if (end.confirmedAny) this.#served(candidate);
        return;
      }
      const isShort = this.#clock.nowMs() - sinceMs < SHORT_LIFE_MS;
      const failed = hasFailed(end, isShort && !end.endIsUsual);
      if (!failed || end.confirmedAny) this.#served(candidate);
      if (failed) this.#fails(candidate);
    });
    if (this.#returnAfterMs < Infinity && candidate !== this.#candidates[0]) {
      this.#lookForBetter(watched, candidate);
    }
    return watched;
  }

  /** Looks now and then whether a server before this one can be reached. */
  #lookForBetter(wire: WatchedWire, candidate: Candidate): void {
    const better = this.#candidates.slice(0, this.#candidates.indexOf(candidate));
    for (const other of better) other.wellSinceMs = undefined;
    const look = async (): Promise<void> => {
      for (const other of better) {
        // What refuses us is of no use, although it can be reached.
        const isPaused = other.pausedUntilMs > this.#clock.nowMs();
        const isWell = !isPaused && await this.#isReachable(other, wire);
        if (wire.isOver) return;
        const nowMs = this.#clock.nowMs();
        other.wellSinceMs = isWell ? other.wellSinceMs ?? nowMs : undefined;
        const wellMs = nowMs - (other.wellSinceMs ?? nowMs);
        const returnAfterMs = other.returnAfterMs(this.#returnAfterMs);
        if (wellMs < returnAfterMs || (!wire.isQuiet && wellMs < 2 * returnAfterMs)) continue;
        other.returns++;
        this.#returnsTo = other;
        wire.leave(`${other.dialer.remote} is back, and preferred`);
        return;
      }
      lookLater();
    };
    const lookLater = () => wire.cancel = this.#clock.setTimer(LOOK_EVERY_MS, () => void look());
    lookLater();
  }

  /** Ends with the wire at the latest. */
  async #isReachable(other: Candidate, wire: WatchedWire): Promise<boolean> {
    const controller = new AbortController();
    const end = (): void => controller.abort();
    const cancel = this.#clock.setTimer(LOOK_WITHIN_MS, end);
    wire.cancel = () => {
      cancel();
      end();
    };
    try {
      // A handshake has a limit of its own, which may be longer.
      (await other.dialer.dial(controller.signal, undefined, cancel)).abort();
      return true;
    } catch (error) {
      // A proxy counts wrong passwords, too.
      if (error instanceof WireError && error.code === "PROXY_AUTH") {
        other.pausedUntilMs = this.#clock.nowMs() + PROXY_PAUSE_MS;
      }
      return false;
    } finally {
      cancel();
    }
  }
}

/**
 * Whether a server is of no use at present, by how its connection has ended. That it has
 * acknowledged everything says nothing for it: so does one that has nobody behind it.
 */
function hasFailed(end: WatchedEnd, isShort: boolean): boolean {
  if (end.isAborted || end.unconfirmedPackets > 0) return true;
  return end.hasPeerFin ? isShort : !end.hasOurFin;
}

function named(error: WireError, remote: string): WireError {
  return new WireError(error.code, `${remote}: ${error.message}`, { cause: error });
}

/** The longest that returns which came to nothing put off the next one. */
const MAX_RETURN_MS = 3_600_000;

export class Candidate {
  readonly dialer: Dialer;
  failedAtMs = -Infinity;
  /** Attempts and connections in a row that have come to nothing. */
  failures = 0;
  /** It has refused us so often in a row. */
  refusals = 0;
  /** It is not asked before, for it has refused us. */
  pausedUntilMs = -Infinity;
  /** Connections that were left for it since it was of use last. */
  returns = 0;
  /** Since when it could be reached each time that was looked, while another is in use. */
  wellSinceMs: number | undefined;

  constructor(dialer: Dialer) {
    this.dialer = dialer;
  }

  fails(nowMs: number): void {
    this.failedAtMs = nowMs;
    this.failures++;
  }

  /** A connection to it has confirmed something, or has ended as it should. */
  served(): void {
    this.failures = 0;
    this.refusals = 0;
    this.returns = 0;
  }

  /** How long it has to be there before it is returned to; so long at least. */
  returnAfterMs(leastMs: number): number {
    return Math.max(leastMs, Math.min(leastMs * 2 ** this.returns, MAX_RETURN_MS));
  }

  /** It has refused us: it is left alone for so long after as many refusals as there were. */
  refused(nowMs: number, pauseMs: (refusals: number) => number): void {
    this.pausedUntilMs = nowMs + pauseMs(this.refusals++);
  }
}
