/**
 * One of several servers, and how it stands.
 *
 * @module
 */

import type { Dialer } from "../base/ports.ts";

/** The longest that returns which came to nothing put off the next one. */
const MAX_RETURN_MS = 3_600_000;

/** What is known of a server. */
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

  /** @param dialer Makes connections to it. */
  constructor(dialer: Dialer) {
    this.dialer = dialer;
  }

  /** An attempt at it has failed, or a connection to it. */
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

  /**
   * How long it has to be there before a connection is left for it.
   *
   * @param leastMs The same for one that was of use when it was returned to.
   */
  returnAfterMs(leastMs: number): number {
    return Math.max(leastMs, Math.min(leastMs * 2 ** this.returns, MAX_RETURN_MS));
  }

  /** It has refused us: it is left alone for so long after as many refusals as there were. */
  refused(nowMs: number, pauseMs: (refusals: number) => number): void {
    this.pausedUntilMs = nowMs + pauseMs(this.refusals++);
  }
}
