/**
 * One of several servers, and how it stands.
 *
 * @module
 */

import type { Dialer } from "../base/ports.ts";

/** What is known of a server. */
export class Candidate {
  readonly dialer: Dialer;
  failedAtMs = -Infinity;
  /** Attempts and connections in a row that have come to nothing. */
  failures = 0;
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
  }
}
