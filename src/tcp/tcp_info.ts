/** The whole of `struct tcp_info` (include/uapi/linux/tcp.h), with units in the names. */

import { KernelCallError } from "../base/errors.ts";
import { TcpState } from "../base/ports.ts";
import { IPPROTO_TCP, TCP_INFO } from "../kernel/constants.ts";
import { libc } from "../kernel/libc.ts";
import { TCP_INFO_BYTES } from "../kernel/tcp_info.ts";

/** A state of TCP by its name in RFC 9293; `"CLOSE"` is over, for whatever reason. */
export type TcpStateName =
  | "ESTABLISHED"
  | "SYN_SENT"
  | "SYN_RECV"
  | "FIN_WAIT1"
  | "FIN_WAIT2"
  | "TIME_WAIT"
  | "CLOSE"
  | "CLOSE_WAIT"
  | "LAST_ACK"
  | "LISTEN"
  | "CLOSING"
  | "UNKNOWN";

/** How the congestion control sees the path. */
export type CongestionState = "open" | "disorder" | "cwr" | "recovery" | "loss" | "unknown";

/**
 * What the kernel knows about a connection. A field is `undefined` where the kernel is older
 * than the Linux named with it. A segment is a packet on the wire. Counters are exact up to 2^53.
 */
export interface TcpInfo {
  /** Its state. */
  readonly state: TcpStateName;
  /** How congestion control sees the path: `"loss"` after a retransmission timeout. */
  readonly congestionState: CongestionState;
  /** Retransmissions of the oldest segment since the last progress. */
  readonly retransmits: number;
  /** Keepalive or zero-window probes that were not answered. */
  readonly probes: number;
  /** How often the retransmission timeout has doubled. */
  readonly backoff: number;
  /** Whether both ends use timestamps. */
  readonly timestamps: boolean;
  /** Whether both ends use selective acknowledgements. */
  readonly selectiveAcks: boolean;
  /** Whether ECN was agreed on. */
  readonly ecn: boolean;
  /** Whether a segment with an ECN mark has been seen. */
  readonly ecnSeen: boolean;
  /** Whether data that went with our SYN was acknowledged (TCP Fast Open). */
  readonly synData: boolean;
  /** Power of two by which the peer's windows are scaled; `undefined`: they are not. */
  readonly sendWindowScale: number | undefined;
  /** The same of ours. */
  readonly receiveWindowScale: number | undefined;
  /** Whether the program limited the delivery rate (Linux 4.9; `false` before). */
  readonly deliveryRateAppLimited: boolean;
  /** Retransmission timeout, in microseconds. */
  readonly rtoUs: number;
  /** Time by which an acknowledgement may be delayed, in microseconds. */
  readonly ackTimeoutUs: number;
  /** Largest segment that is sent, in bytes. */
  readonly sendMssBytes: number;
  /** Largest segment that has been received, in bytes. */
  readonly receiveMssBytes: number;
  /** Segments in flight. 0 after death, so never proof of delivery. */
  readonly unackedSegments: number;
  /** Segments acknowledged selectively. */
  readonly sackedSegments: number;
  /** Segments believed lost. */
  readonly lostSegments: number;
  /** Segments retransmitted and not acknowledged. */
  readonly retransmittedInFlightSegments: number;
  /** Milliseconds since data was last sent. */
  readonly lastDataSentMs: number;
  /** Milliseconds since data was last received. */
  readonly lastDataReceivedMs: number;
  /** Milliseconds since any acknowledgement arrived, by the kernel's clock. */
  readonly lastAckMs: number;
  /** Largest packet that the path takes, in bytes. */
  readonly pathMtuBytes: number;
  /** Threshold of the receiving window, in bytes. */
  readonly receiveThresholdBytes: number;
  /** Smoothed round-trip time, in microseconds. */
  readonly rttUs: number;
  /** Its mean deviation, in microseconds. */
  readonly rttVarianceUs: number;
  /** Where slow start ends, in segments; `Infinity`: not known yet. */
  readonly slowStartThresholdSegments: number;
  /** Congestion window, in segments. */
  readonly congestionWindowSegments: number;
  /** Largest segment that we announced, in bytes. */
  readonly advertisedMssBytes: number;
  /** By how many segments the path reorders. */
  readonly reorderingSegments: number;
  /** Round-trip time as the receiver sees it, in microseconds; 0: not known. */
  readonly receiveRttUs: number;
  /** Bytes that the program has lately read in a round trip. */
  readonly receiveSpaceBytes: number;
  /** Segments retransmitted in this connection's life. */
  readonly totalRetransmits: number;
  /** Rate at which segments are paced, bytes a second; `Infinity`: not paced (Linux 3.15). */
  readonly pacingBytesPerSecond: number | undefined;
  /** Limit of that rate; `Infinity`: none (Linux 3.15). */
  readonly maxPacingBytesPerSecond: number | undefined;
  /**
   * Bytes that the peer's TCP has acknowledged, our SYN and FIN counted as one each; kept when
   * the connection dies (Linux 4.1).
   */
  readonly bytesAcked: number | undefined;
  /** Bytes received in order, the peer's FIN counted as one (Linux 4.1). */
  readonly bytesReceived: number | undefined;
  /** Segments sent (Linux 4.2). */
  readonly segmentsSent: number | undefined;
  /** Segments received (Linux 4.2). */
  readonly segmentsReceived: number | undefined;
  /** Bytes written and never put on the wire (Linux 4.6). */
  readonly notSentBytes: number | undefined;
  /** Smallest round-trip time of late, in microseconds (Linux 4.6); also without a sample yet. */
  readonly minRttUs: number | undefined;
  /** Segments with data received (Linux 4.6). */
  readonly dataSegmentsReceived: number | undefined;
  /** Segments with data sent (Linux 4.6). */
  readonly dataSegmentsSent: number | undefined;
  /** Rate at which the peer lately received, bytes a second (Linux 4.9). */
  readonly deliveryBytesPerSecond: number | undefined;
  /** Time with data to send, in microseconds (Linux 4.10). */
  readonly busyUs: number | undefined;
  /** Time limited by the peer's window, in microseconds (Linux 4.10). */
  readonly windowLimitedUs: number | undefined;
  /** Time limited by the send buffer, in microseconds (Linux 4.10). */
  readonly sendBufferLimitedUs: number | undefined;
  /** Segments delivered, retransmissions included (Linux 4.18). */
  readonly deliveredSegments: number | undefined;
  /** Segments delivered with a mark of congestion (Linux 4.18). */
  readonly deliveredMarkedSegments: number | undefined;
  /** Bytes sent, retransmissions included (Linux 4.19). */
  readonly bytesSent: number | undefined;
  /** Bytes retransmitted (Linux 4.19). */
  readonly bytesRetransmitted: number | undefined;
  /** Segments that the peer reports to have received twice (Linux 4.19). */
  readonly dsackDuplicates: number | undefined;
  /** How often reordering was seen (Linux 4.19). */
  readonly reorderingsSeen: number | undefined;
  /** Segments received out of order (Linux 5.4). */
  readonly outOfOrderSegmentsReceived: number | undefined;
  /** How many bytes the peer is ready to take (Linux 5.4). */
  readonly sendWindowBytes: number | undefined;
  /** How many bytes we are ready to take (Linux 6.2). */
  readonly receiveWindowBytes: number | undefined;
  /** How often another path was tried after timeouts (Linux 6.2). */
  readonly rehashes: number | undefined;
  /** Retransmission timeouts (Linux 6.7). */
  readonly totalTimeouts: number | undefined;
  /** Recoveries from them (Linux 6.7). */
  readonly totalTimeoutRecoveries: number | undefined;
  /** Time spent in them, in milliseconds (Linux 6.7). */
  readonly totalTimeoutMs: number | undefined;
  /** Segments received with a mark of congestion (Linux 6.18). */
  readonly receivedMarkedSegments: number | undefined;
  /** Bytes delivered in packets marked ECT(1) (Linux 6.18). */
  readonly deliveredEct1Bytes: number | undefined;
  /** Bytes delivered in packets marked ECT(0) (Linux 6.18). */
  readonly deliveredEct0Bytes: number | undefined;
  /** Bytes delivered in packets marked CE (Linux 6.18). */
  readonly deliveredCeBytes: number | undefined;
  /** Bytes received in packets marked ECT(1) (Linux 6.18). */
  readonly receivedEct1Bytes: number | undefined;
  /** Bytes received in packets marked ECT(0) (Linux 6.18). */
  readonly receivedEct0Bytes: number | undefined;
  /** Bytes received in packets marked CE (Linux 6.18). */
  readonly receivedCeBytes: number | undefined;
}

/** Up to tcpi_total_retrans: what every kernel has on which Deno runs. */
const REQUIRED_BYTES = 104;

// Bits of tcpi_options.
const TIMESTAMPS = 1;
const SACK = 2;
const WINDOW_SCALE = 4;
const ECN = 8;
const ECN_SEEN = 16;
const SYN_DATA = 32;

/** TCP_INFINITE_SSTHRESH */
const NO_THRESHOLD = 0x7fff_ffff;
const NO_MIN_RTT = 0xffff_ffff;
/** sk_pacing_rate and its limit stand at ~0 where there is none, of 32 or of 64 bits. */
const UNLIMITED_RATES = [2 ** 32 - 1, 2 ** 64];

const STATE_NAMES: ReadonlyMap<number, TcpStateName> = new Map(
  (Object.keys(TcpState) as (keyof typeof TcpState)[]).map((name) => [TcpState[name], name]),
);
const CONGESTION_STATES = ["open", "disorder", "cwr", "recovery", "loss"] as const;

/**
 * Decodes what `getsockopt(TCP_INFO)` wrote. The last four bytes of Linux 6.18 (the modes of
 * accurate ECN) are left out: the next kernels have cut them up in other ways.
 *
 * @param length What getsockopt returned: nothing beyond it is read.
 * @throws {KernelCallError} Not even the oldest fields were written.
 */
export function decodeWholeTcpInfo(bytes: Uint8Array, length: number): TcpInfo {
  if (length < REQUIRED_BYTES || length >= TCP_INFO_BYTES || bytes.byteLength < length) {
    throw new KernelCallError(
      "getsockopt(TCP_INFO)",
      length >= TCP_INFO_BYTES
        ? "getsockopt(TCP_INFO) says that it worked and has written nothing: a sandbox pretends."
        : `The kernel returned ${length} bytes of struct tcp_info, and ${REQUIRED_BYTES} are the ` +
          `least that Linux has.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const u8 = (offset: number) => view.getUint8(offset);
  const u32 = (offset: number) => view.getUint32(offset, true);
  const later16 = (offset: number) =>
    offset + 2 <= length ? view.getUint16(offset, true) : undefined;
  const later32 = (offset: number) => offset + 4 <= length ? u32(offset) : undefined;
  const later64 = (offset: number) =>
    offset + 8 <= length ? u32(offset) + u32(offset + 4) * 2 ** 32 : undefined;
  const rate = (offset: number) => {
    const value = later64(offset);
    return value !== undefined && UNLIMITED_RATES.includes(value) ? Infinity : value;
  };
  const options = u8(5);
  const has = (bit: number) => (options & bit) !== 0;
  const threshold = u32(76);
  const minRtt = later32(148);
  return {
    state: STATE_NAMES.get(u8(0)) ?? "UNKNOWN",
    congestionState: CONGESTION_STATES[u8(1)] ?? "unknown",
    retransmits: u8(2),
    probes: u8(3),
    backoff: u8(4),
    timestamps: has(TIMESTAMPS),
    selectiveAcks: has(SACK),
    ecn: has(ECN),
    ecnSeen: has(ECN_SEEN),
    synData: has(SYN_DATA),
    sendWindowScale: has(WINDOW_SCALE) ? u8(6) & 0xf : undefined,
    receiveWindowScale: has(WINDOW_SCALE) ? u8(6) >> 4 : undefined,
    deliveryRateAppLimited: (u8(7) & 1) !== 0,
    rtoUs: u32(8),
    ackTimeoutUs: u32(12),
    sendMssBytes: u32(16),
    receiveMssBytes: u32(20),
    unackedSegments: u32(24),
    sackedSegments: u32(28),
    lostSegments: u32(32),
    retransmittedInFlightSegments: u32(36),
    // At 40 tcpi_fackets and at 48 tcpi_last_ack_sent, which Linux no longer fills.
    lastDataSentMs: u32(44),
    lastDataReceivedMs: u32(52),
    lastAckMs: u32(56),
    pathMtuBytes: u32(60),
    receiveThresholdBytes: u32(64),
    rttUs: u32(68),
    rttVarianceUs: u32(72),
    slowStartThresholdSegments: threshold === NO_THRESHOLD ? Infinity : threshold,
    congestionWindowSegments: u32(80),
    advertisedMssBytes: u32(84),
    reorderingSegments: u32(88),
    receiveRttUs: u32(92),
    receiveSpaceBytes: u32(96),
    totalRetransmits: u32(100),
    pacingBytesPerSecond: rate(104),
    maxPacingBytesPerSecond: rate(112),
    bytesAcked: later64(120),
    bytesReceived: later64(128),
    segmentsSent: later32(136),
    segmentsReceived: later32(140),
    notSentBytes: later32(144),
    minRttUs: minRtt === NO_MIN_RTT ? undefined : minRtt,
    dataSegmentsReceived: later32(152),
    dataSegmentsSent: later32(156),
    deliveryBytesPerSecond: later64(160),
    busyUs: later64(168),
    windowLimitedUs: later64(176),
    sendBufferLimitedUs: later64(184),
    deliveredSegments: later32(192),
    deliveredMarkedSegments: later32(196),
    bytesSent: later64(200),
    bytesRetransmitted: later64(208),
    dsackDuplicates: later32(216),
    reorderingsSeen: later32(220),
    outOfOrderSegmentsReceived: later32(224),
    sendWindowBytes: later32(228),
    receiveWindowBytes: later32(232),
    rehashes: later32(236),
    totalTimeouts: later16(240),
    totalTimeoutRecoveries: later16(242),
    totalTimeoutMs: later32(244),
    receivedMarkedSegments: later32(248),
    deliveredEct1Bytes: later32(252),
    deliveredEct0Bytes: later32(256),
    deliveredCeBytes: later32(260),
    receivedEct1Bytes: later32(264),
    receivedEct0Bytes: later32(268),
    receivedCeBytes: later32(272),
  };
}

// One buffer for all: a call writes it and its answer is decoded before the next one.
const buffer = new Uint8Array(TCP_INFO_BYTES);
const length = new Uint32Array(1);

export function refusedCall(call: string): KernelCallError {
  return new KernelCallError(
    call,
    `The kernel refuses ${call}, as a sandbox may (seccomp, gVisor): permit it.`,
  );
}

/** @throws {KernelCallError} The kernel refuses, as a sandbox may. */
export function readTcpInfo(fd: number): TcpInfo {
  length[0] = TCP_INFO_BYTES;
  if (libc().getsockopt(fd, IPPROTO_TCP, TCP_INFO, buffer, length) !== 0) {
    throw refusedCall("getsockopt(TCP_INFO)");
  }
  return decodeWholeTcpInfo(buffer, length[0]);
}
