/** Readings of a socket for `watch` and `drained`, and what an end was. */

import { type SocketSample, TcpState } from "../base/ports.ts";
import { SocketSampler } from "../kernel/tcp_wire.ts";
import { readTcpInfo } from "./tcp_info.ts";

/** One reading. */
export interface Counters extends SocketSample {
  /** `tcpi_bytes_received`: counts the peer's FIN, too. */
  readonly bytesReceived: number;
  /** An error waits for whoever reads or writes next. */
  readonly errorPending: boolean;
}

const sampler = new SocketSampler();

/**
 * Reads the counters and takes nothing away: the pending error stays for the owner.
 *
 * @throws {KernelCallError} The kernel refuses a call.
 */
export function readCounters(fd: number): Counters {
  // Before the state: a FIN that is counted here shows in the state as well.
  const bytesReceived = readTcpInfo(fd).bytesReceived ?? 0;
  const sample = sampler.sample(fd);
  return { ...sample, bytesReceived, errorPending: sampler.hasPendingError(fd) };
}

/** So often is tried for a moment in which no acknowledgement arrives. */
const ATTEMPTS = 16;

/**
 * Bytes that the kernel has been given, on the scale of `tcpi_bytes_acked`. An acknowledgement
 * that comes between the two calls that make this sum would be counted twice or not at all:
 * only one with the same `bytesAcked` before and after it counts.
 *
 * @returns `undefined`: acknowledgements come too fast just now.
 */
export function bytesGiven(fd: number): number | undefined {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const { bytesAcked, sendQueueBytes } = sampler.sample(fd);
    if (sampler.sample(fd).bytesAcked === bytesAcked) return bytesAcked + sendQueueBytes;
  }
  return undefined;
}

/** In these states our FIN has left. */
const OURS_SENT: ReadonlySet<number> = new Set([
  TcpState.FIN_WAIT1,
  TcpState.FIN_WAIT2,
  TcpState.CLOSING,
  TcpState.TIME_WAIT,
  TcpState.LAST_ACK,
]);
/** In these the peer's has come. */
const THEIRS_HERE: ReadonlySet<number> = new Set([
  TcpState.CLOSE_WAIT,
  TcpState.CLOSING,
  TcpState.TIME_WAIT,
  TcpState.LAST_ACK,
]);

/**
 * Whether a connection that is over has been closed by both sides in order. The state alone does
 * not say: it is CLOSE after a reset as well, whose error is gone once the owner's own read has
 * been told. In order means that
 *
 * - no error waits, and every byte was acknowledged, and
 * - both FINs have been on their way: seen in a state, or counted, as a byte of `bytesAcked` and
 *   `bytesReceived` since the connection was last seen open.
 */
export class EndWitness {
  #oursSent = false;
  #theirsHere = false;
  #lastOpen: Counters | undefined;

  /** Takes a reading of a connection that is not over. */
  note(counters: Counters): void {
    this.#oursSent ||= OURS_SENT.has(counters.state);
    this.#theirsHere ||= THEIRS_HERE.has(counters.state);
    this.#lastOpen = counters;
  }

  /** Judges the reading of one that is; never in order where it has not been seen open. */
  endedInOrder(counters: Counters): boolean {
    const before = this.#lastOpen;
    if (before === undefined || counters.errorPending || counters.sendQueueBytes > 0) return false;
    const ours = this.#oursSent || counters.bytesAcked > before.bytesAcked;
    const theirs = this.#theirsHere || counters.bytesReceived > before.bytesReceived;
    return ours && theirs;
  }
}
