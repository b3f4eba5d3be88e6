/**
 * Waits until a connection carries nothing more of a login or a proxy's handshake: what is
 * acknowledged from then on is the packets'.
 */

import { KernelCallError, wireError } from "./errors.ts";
import { type Clock, TcpState, type Wire } from "./ports.ts";

const MIN_PAUSE_MS = 1;
const MAX_PAUSE_MS = 50;
const CONTRADICTION_AFTER_MS = 1000;
const CONTRADICTION_READINGS = 3;

/** The kernel's two counters may differ for as long as an acknowledgement is between two calls. */
export class Difference {
  #sinceMs: number | undefined;
  #readings = 0;

  /** They differ in this reading; returns whether they have for too long. */
  lasts(nowMs: number): boolean {
    this.#sinceMs ??= nowMs;
    return ++this.#readings >= CONTRADICTION_READINGS &&
      nowMs - this.#sinceMs >= CONTRADICTION_AFTER_MS;
  }

  /** They agree, or differ in another way. */
  end(): void {
    this.#sinceMs = undefined;
    this.#readings = 0;
  }
}

/** What was said on a connection beside packets. */
export interface Said {
  /** `bytes_acked` before it. */
  readonly baseBytes: number;
  readonly writtenBytes: number;
  /** For messages: `"the session"`. */
  readonly of: string;
  /** For messages: `"the session was opened"`. */
  readonly doing: string;
}

/**
 * Waits until every byte is acknowledged: Send-Q is 0, and `bytes_acked` has moved by
 * exactly that many. Either alone may be read while an acknowledgement is under way.
 *
 * @param wire Nobody else writes to it.
 * @param pause Waits between two readings; throws where there is no more time.
 * @throws {WireError} The connection has ended.
 * @throws {KernelCallError} The counters cannot be read, or contradict each other.
 */
export async function acknowledged(
  wire: Wire,
  { baseBytes, writtenBytes, of, doing }: Said,
  clock: Clock,
  pause: (ms: number) => Promise<void>,
): Promise<void> {
  if (writtenBytes === 0) return;
  const startedAtMs = clock.nowMs();
  const difference = new Difference();
  for (;;) {
    const sample = wire.sample();
    if (sample.state === TcpState.CLOSE) {
      const code = wire.takeSocketError() ?? "EPIPE";
      throw wireError(code, `the connection ended while ${doing}`);
    }
    const ackedBytes = sample.bytesAcked - baseBytes;
    if (sample.sendQueueBytes === 0 && ackedBytes === writtenBytes) return;
    const nowMs = clock.nowMs();
    if (sample.sendQueueBytes > 0) difference.end();
    const lasts = sample.sendQueueBytes === 0 && difference.lasts(nowMs);
    if (ackedBytes > writtenBytes || lasts) {
      throw new KernelCallError(
        "TCP_INFO",
        `tcpi_bytes_acked says that ${ackedBytes} bytes of ${of} were acknowledged, ` +
          `written were ${writtenBytes}, and SIOCOUTQ says that ${sample.sendQueueBytes} are ` +
          `not. Nothing was sent behind it. Please report it with your kernel's version.`,
      );
    }
    await pause(Math.min(MAX_PAUSE_MS, Math.max(MIN_PAUSE_MS, (nowMs - startedAtMs) / 8)));
  }
}
