/** The kernel's send queue of a socket. */

import { libc } from "../kernel/libc.ts";
import { refusedCall } from "./tcp_info.ts";

const SIOCOUTQ = 0x5411n;
const SIOCOUTQNSD = 0x894Bn;

/** What was written and is not acknowledged. */
export interface SendQueue {
  /**
   * Bytes written and not acknowledged by the peer's TCP (SIOCOUTQ). Our own FIN counts as
   * one until it is acknowledged. After a death it stays at what never was.
   */
  readonly sendQueueBytes: number;
  /**
   * Those among them that were never put on the wire (SIOCOUTQNSD); `undefined` where the
   * kernel does not say.
   */
  readonly notSentBytes: number | undefined;
}

// One buffer for all: each call writes it and is read before the next one.
const answer = new Int32Array(1);

/** @throws {KernelCallError} The kernel refuses, as a sandbox may. */
export function readSendQueue(fd: number): SendQueue {
  const sendQueueBytes = ask(fd, SIOCOUTQ);
  if (sendQueueBytes === undefined) throw refusedCall("ioctl(SIOCOUTQ)");
  return { sendQueueBytes, notSentBytes: ask(fd, SIOCOUTQNSD) };
}

/** Untouched, a buffer would read as "everything delivered": it begins below any answer. */
function ask(fd: number, request: bigint): number | undefined {
  answer[0] = -1;
  const code = libc().ioctl(fd, request, answer);
  const bytes = answer[0];
  return code === 0 && bytes >= 0 ? bytes : undefined;
}
