/** Decodes `struct tcp_info` of include/uapi/linux/tcp.h. Pure: bytes in, fields out. */

import { KernelCallError } from "../base/errors.ts";
import type { SocketSample } from "../base/ports.ts";

/**
 * Room for twice of what Linux 6.18 returns (280). A shorter answer is normal; one
 * that fills it means that the length was not touched, so nothing was written.
 */
export const TCP_INFO_BYTES = 560;

/** The part of `SocketSample` that comes from TCP_INFO. */
export type TcpInfo = Omit<SocketSample, "sendQueueBytes" | "hangup">;

// Offsets: kernel_facts, section 10. All fields have fixed widths and natural
// alignment, so they are the same on x86_64 and aarch64, both little-endian.
const STATE = 0;
const RETRANSMITS = 2;
const PROBES = 3;
const SND_MSS = 16;
const UNACKED = 24;
const LAST_ACK_RECV = 56;
const RTT = 68;
const TOTAL_RETRANS = 100;
const BYTES_ACKED = 120;
const NOTSENT_BYTES = 144;
const RWND_LIMITED = 176;
const SND_WND = 228;

/** Up to and including `tcpi_rwnd_limited`, the newest field that is not optional. */
const REQUIRED_BYTES = RWND_LIMITED + 8;

/**
 * Decodes what `getsockopt(TCP_INFO)` wrote.
 *
 * @param bytes The buffer given to getsockopt.
 * @param length The length that getsockopt returned: nothing beyond it is read,
 *   because what the kernel did not write would read as 0.
 * @throws {KernelCallError} Nothing was written, or the kernel is older than Linux 4.10
 *   and leaves out a field.
 */
export function decodeTcpInfo(bytes: Uint8Array, length: number): TcpInfo {
  if (length === TCP_INFO_BYTES) {
    throw new KernelCallError(
      "getsockopt(TCP_INFO)",
      "getsockopt(TCP_INFO) says that it worked and has written nothing: a sandbox pretends. " +
        "Without it nothing can be confirmed.",
    );
  }
  if (length < REQUIRED_BYTES || bytes.byteLength < length) {
    throw new KernelCallError(
      "getsockopt(TCP_INFO)",
      `The kernel returned ${length} bytes of struct tcp_info, ${REQUIRED_BYTES} are needed ` +
        `(Linux 4.10 or newer). Without them nothing can be confirmed.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  return {
    state: view.getUint8(STATE),
    notSentBytes: view.getUint32(NOTSENT_BYTES, true),
    bytesAcked: getUint64(view, BYTES_ACKED),
    unackedSegments: view.getUint32(UNACKED, true),
    sendMssBytes: view.getUint32(SND_MSS, true),
    sendWindowBytes: length >= SND_WND + 4 ? view.getUint32(SND_WND, true) : undefined,
    windowLimitedUs: getUint64(view, RWND_LIMITED),
    rttUs: view.getUint32(RTT, true),
    lastAckMs: view.getUint32(LAST_ACK_RECV, true),
    probes: view.getUint8(PROBES),
    retransmits: view.getUint8(RETRANSMITS),
    totalRetransmits: view.getUint32(TOTAL_RETRANS, true),
  };
}

/** A 64-bit counter as a number: exact up to 2^53, 9 petabytes on one connection. */
function getUint64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}
