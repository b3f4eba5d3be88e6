/** Waits until the peer's TCP has acknowledged what was written. */

import { type Clock, TcpState } from "../base/ports.ts";
import { restUnlessAborted } from "../base/waits.ts";
import { bytesGiven, type Counters, EndWitness, readCounters } from "./counters.ts";
import { closed, type LocatedSocket } from "./located_socket.ts";
import { DeadConnectionError } from "./verdict.ts";

const MIN_POLL_MS = 1;
const MAX_POLL_MS = 50;

/** What {@linkcode waitUntilDrained} is given. */
export interface DrainedOptions {
  readonly socket: LocatedSocket;
  readonly clock: Clock;
  readonly signal: AbortSignal | undefined;
  /** Bytes that were written and that the kernel has not been given yet. */
  readonly bytesNotHandedOver: () => number;
}

/**
 * The mark is what the kernel had been given, on the scale of `bytesAcked`, which a death does
 * not change. `unackedSegments` reads 0 after one, and Send-Q may, too (kernel_facts, sections 1
 * and 2): a connection that is over counts only if both sides have closed it in order.
 *
 * @throws {DeadConnectionError} The connection died before.
 * @throws {ClosedError} It was closed before.
 * @throws The signal's reason.
 */
export async function waitUntilDrained(options: DrainedOptions): Promise<void> {
  const { socket, clock, signal } = options;
  const startedAtMs = clock.nowMs();
  const witness = new EndWitness();
  let markBytes: number | undefined;
  for (;;) {
    signal?.throwIfAborted();
    const reading = socket.read((fd) => {
      if (markBytes === undefined && options.bytesNotHandedOver() === 0) {
        markBytes = bytesGiven(fd);
      }
      return readCounters(fd);
    });
    if (reading === undefined) throw closed(socket.addresses);
    const counters = reading.value;
    if (counters.state === TcpState.CLOSE) {
      if (markBytes !== undefined && witness.endedInOrder(counters)) return;
      throw new DeadConnectionError({ kind: "died" });
    }
    witness.note(counters);
    if (markBytes !== undefined && counters.bytesAcked >= markBytes) return;
    await restUnlessAborted(clock, pollInMs(counters, clock.nowMs() - startedAtMs), signal);
  }
}

/** A fraction of the round trip at first, coarser the longer it takes. */
function pollInMs({ rttUs }: Counters, waitedMs: number): number {
  const rttMs = rttUs / 1000;
  const overdueMs = waitedMs - rttMs;
  return Math.min(MAX_POLL_MS, Math.max(MIN_POLL_MS, rttMs / 32, overdueMs / 8));
}
