import fc from "../support/properties.ts";
import assert from "node:assert/strict";
import { KernelCallError } from "../../src/base/errors.ts";
import { TCP_INFO_BYTES } from "../../src/kernel/tcp_info.ts";
import { decodeWholeTcpInfo, type TcpInfo } from "../../src/tcp/tcp_info.ts";

/** Lengths that kernels return, with the newest field that each has. */
const KERNELS: readonly [length: number, newest: keyof TcpInfo, missing: keyof TcpInfo][] = [
  [104, "totalRetransmits", "pacingBytesPerSecond"],
  [160, "dataSegmentsSent", "deliveryBytesPerSecond"],
  [192, "sendBufferLimitedUs", "deliveredSegments"],
  [200, "deliveredMarkedSegments", "bytesSent"],
  [224, "reorderingsSeen", "outOfOrderSegmentsReceived"],
  [232, "sendWindowBytes", "receiveWindowBytes"],
  [240, "rehashes", "totalTimeouts"],
  [248, "totalTimeoutMs", "receivedMarkedSegments"],
];

/** Each byte tells where it stands, so that a field read elsewhere is another number. */
function crafted(): Uint8Array {
  return new Uint8Array(280).map((_, index) => (index * 7 + 3) % 251);
}

for (const [length, newest, missing] of KERNELS) {
  Deno.test(`tcpInfo: ${length} bytes have ${newest}, and ${missing} is undefined`, () => {
    const info = decodeWholeTcpInfo(crafted(), length);
    assert.equal(typeof info[newest], "number");
    assert.equal(info[missing], undefined);
    const whole = decodeWholeTcpInfo(crafted(), 280);
    assert.equal(info[newest], whole[newest]);
    assert.equal(typeof whole[missing], "number");
  });
}

Deno.test("tcpInfo: each field is read from its own place", () => {
  const bytes = new Uint8Array(280);
  const view = new DataView(bytes.buffer);
  const u32: readonly (readonly [keyof TcpInfo, number])[] = [
    ["rtoUs", 8],
    ["sendMssBytes", 16],
    ["unackedSegments", 24],
    ["lastDataSentMs", 44],
    ["lastDataReceivedMs", 52],
    ["lastAckMs", 56],
    ["pathMtuBytes", 60],
    ["rttUs", 68],
    ["rttVarianceUs", 72],
    ["congestionWindowSegments", 80],
    ["totalRetransmits", 100],
    ["segmentsSent", 136],
    ["segmentsReceived", 140],
    ["notSentBytes", 144],
    ["minRttUs", 148],
    ["deliveredSegments", 192],
    ["dsackDuplicates", 216],
    ["reorderingsSeen", 220],
    ["outOfOrderSegmentsReceived", 224],
    ["sendWindowBytes", 228],
    ["receiveWindowBytes", 232],
    ["totalTimeoutMs", 244],
    ["receivedMarkedSegments", 248],
    ["receivedCeBytes", 272],
  ];
  const u64: readonly (readonly [keyof TcpInfo, number])[] = [
    ["pacingBytesPerSecond", 104],
    ["bytesAcked", 120],
    ["bytesReceived", 128],
    ["deliveryBytesPerSecond", 160],
    ["busyUs", 168],
    ["windowLimitedUs", 176],
    ["sendBufferLimitedUs", 184],
    ["bytesSent", 200],
    ["bytesRetransmitted", 208],
  ];
  for (const [, offset] of u32) view.setUint32(offset, 1_000_000 + offset, true);
  for (const [, offset] of u64) view.setBigUint64(offset, 5_000_000_000n + BigInt(offset), true);
  view.setUint16(240, 640, true);
  view.setUint16(242, 642, true);
  bytes.set([8, 4, 2, 3, 5, 1 | 4 | 8, 0x7a, 1], 0);
  const info = decodeWholeTcpInfo(bytes, 280);
  for (const [name, offset] of u32) assert.equal(info[name], 1_000_000 + offset, name);
  for (const [name, offset] of u64) assert.equal(info[name], 5_000_000_000 + offset, name);
  assert.deepEqual([info.totalTimeouts, info.totalTimeoutRecoveries], [640, 642]);
  assert.deepEqual([info.state, info.congestionState], ["CLOSE_WAIT", "loss"]);
  assert.deepEqual([info.retransmits, info.probes, info.backoff], [2, 3, 5]);
  assert.deepEqual([info.timestamps, info.selectiveAcks, info.ecn], [true, false, true]);
  assert.deepEqual([info.sendWindowScale, info.receiveWindowScale], [10, 7]);
  assert.equal(info.deliveryRateAppLimited, true);
});

Deno.test("tcpInfo: what stands for nothing known is no number", () => {
  const bytes = new Uint8Array(280);
  const view = new DataView(bytes.buffer);
  view.setUint32(76, 0x7fff_ffff, true);
  view.setUint32(148, 0xffff_ffff, true);
  view.setBigUint64(104, 0xffff_ffffn, true);
  view.setBigUint64(112, 0xffff_ffff_ffff_ffffn, true);
  bytes.set([77, 9], 0);
  const info = decodeWholeTcpInfo(bytes, 280);
  assert.equal(info.slowStartThresholdSegments, Infinity);
  assert.equal(info.minRttUs, undefined);
  assert.deepEqual([info.pacingBytesPerSecond, info.maxPacingBytesPerSecond], [Infinity, Infinity]);
  assert.deepEqual([info.state, info.congestionState], ["UNKNOWN", "unknown"]);
  assert.deepEqual([info.sendWindowScale, info.receiveWindowScale], [undefined, undefined]);
});

Deno.test("tcpInfo: nothing beyond the length is read, whatever lies in the buffer", () => {
  fc.assert(fc.property(
    fc.uint8Array({ minLength: 280, maxLength: 280 }),
    fc.integer({ min: 104, max: 280 }),
    fc.integer({ min: 0, max: 255 }),
    (bytes, length, rest) => {
      const info = decodeWholeTcpInfo(bytes, length);
      assert.deepEqual(info, decodeWholeTcpInfo(bytes.slice().fill(rest, length), length));
    },
  ));
});

Deno.test("tcpInfo: an answer without the oldest fields is refused, and one that fills the room", () => {
  for (const length of [0, 1, 103, TCP_INFO_BYTES]) {
    assert.throws(
      () => decodeWholeTcpInfo(new Uint8Array(TCP_INFO_BYTES), length),
      KernelCallError,
    );
  }
  assert.throws(() => decodeWholeTcpInfo(new Uint8Array(100), 232), KernelCallError);
});
