/**
 * The kernel counts twice what a peer has acknowledged: in TCP_INFO, and by what it still keeps
 * in Send-Q. Where the two contradict each other, nothing is concluded from either. And what a
 * reading has to say before the first packet goes out on a connection.
 */

import { Difference } from "../base/acknowledged.ts";
import { KernelCallError, WireError } from "../base/errors.ts";
import { type SocketSample, TcpState } from "../base/ports.ts";

export interface AckedCounts {
  /** `tcpi_bytes_acked`, of the bytes that are compared. */
  readonly ackedBytes: number;
  /** Written − SIOCOUTQ. */
  readonly byQueueBytes: number;
  /** What an earlier reading has found acknowledged. */
  readonly knownBytes: number;
}

export class CrossCheck {
  /** Send-Q says that more is acknowledged than TCP_INFO does. */
  readonly #difference = new Difference();
  /** What TCP_INFO said then: the difference lasts only while that stands still. */
  #ackedBytes: number | undefined;

  /**
   * TCP_INFO is read before SIOCOUTQ, so an acknowledgement that arrives in between makes
   * Send-Q the smaller one. That is gone at the next reading: where it lasts, a kernel does not
   * count what it says it counts (gVisor leaves bytes_acked at 0), and nothing would ever be
   * confirmed.
   *
   * @throws {KernelCallError} The counts contradict each other.
   */
  check(counts: AckedCounts, nowMs: number): void {
    const { ackedBytes, byQueueBytes, knownBytes } = counts;
    if (
      ackedBytes > byQueueBytes || ackedBytes < knownBytes ||
      (ackedBytes < byQueueBytes && this.#disagrees(ackedBytes, nowMs))
    ) {
      throw new KernelCallError(
        "TCP_INFO",
        `tcpi_bytes_acked says that ${ackedBytes} bytes were acknowledged, written − SIOCOUTQ ` +
          `says ${byQueueBytes}. Nothing was confirmed by this reading. Please report it with ` +
          `your kernel's version.`,
      );
    }
    if (ackedBytes === byQueueBytes) this.#difference.end();
  }

  #disagrees(ackedBytes: number, nowMs: number): boolean {
    if (this.#ackedBytes !== ackedBytes) this.#difference.end();
    this.#ackedBytes = ackedBytes;
    return this.#difference.lasts(nowMs);
  }
}

/** @throws {WireError} The wire cannot tell what the peer's program has read, which is to confirm. */
export function assertTellsReads({ readBytes }: SocketSample): void {
  if (readBytes !== undefined) return;
  throw new WireError(
    "READS_UNKNOWN",
    `nothing on this connection tells what the server's program has read (READS_UNKNOWN): ` +
      `confirm "reader" needs a dialer whose connections do, as tls:// and unix: have one`,
  );
}

/**
 * What is acknowledged from now on has to be ours. A dead connection carries nothing.
 *
 * @throws {WireError} Bytes are under way that are no packet's.
 */
export function assertQuiet({ state, sendQueueBytes }: SocketSample): void {
  if (sendQueueBytes === 0 || state === TcpState.CLOSE) return;
  throw new WireError(
    "EBUSY",
    `${sendQueueBytes} bytes that are no packet's are not acknowledged yet: a dialer that writes ` +
      `something has to wait until it is, or to leave it to session.open`,
  );
}
