import assert from "node:assert/strict";
import { KernelCallError } from "../../src/base/errors.ts";
import { decodeTcpInfo, TCP_INFO_BYTES } from "../../src/kernel/tcp_info.ts";

/** What Linux 6.18 returns. */
const KERNEL_BYTES = 280;

/** Every byte differs from its neighbours, so that a wrong offset or width shows. */
function crafted(): Uint8Array {
  return Uint8Array.from({ length: KERNEL_BYTES }, (_, index) => (index * 7 + 3) & 0xff);
}

function u32(offset: number): number {
  return Number(u64(offset) & 0xffff_ffffn);
}

function u64(offset: number): bigint {
  return new DataView(crafted().buffer).getBigUint64(offset, true);
}

Deno.test("TCP_INFO: every field is taken from its own offset", () => {
  const bytes = crafted();
  bytes.fill(0, 126, 128); // keeps bytes_acked and rwnd_limited below 2^53
  bytes.fill(0, 182, 184);
  assert.deepEqual(decodeTcpInfo(bytes, KERNEL_BYTES), {
    state: crafted()[0],
    retransmits: crafted()[2],
    probes: crafted()[3],
    sendMssBytes: u32(16),
    unackedSegments: u32(24),
    lastAckMs: u32(56),
    rttUs: u32(68),
    totalRetransmits: u32(100),
    bytesAcked: Number(u64(120) & 0xffff_ffff_ffffn),
    notSentBytes: u32(144),
    windowLimitedUs: Number(u64(176) & 0xffff_ffff_ffffn),
    sendWindowBytes: u32(228),
  });
});

Deno.test("TCP_INFO: 64-bit counters beyond 32 bits are exact", () => {
  const bytes = new Uint8Array(KERNEL_BYTES);
  new DataView(bytes.buffer).setBigUint64(120, 5_000_000_001n, true);
  assert.equal(decodeTcpInfo(bytes, KERNEL_BYTES).bytesAcked, 5_000_000_001);
});

Deno.test("TCP_INFO: a view into a larger buffer is decoded at its own offset", () => {
  const bytes = new Uint8Array(KERNEL_BYTES + 8);
  bytes[8] = 7;
  assert.equal(decodeTcpInfo(bytes.subarray(8), KERNEL_BYTES).state, 7);
});

Deno.test("TCP_INFO: before Linux 5.4 there is no window, which is not a window of 0", () => {
  assert.equal(decodeTcpInfo(crafted(), 231).sendWindowBytes, undefined);
  assert.equal(decodeTcpInfo(crafted(), 184).sendWindowBytes, undefined);
  assert.equal(decodeTcpInfo(crafted(), 232).sendWindowBytes, u32(228));
});

Deno.test("TCP_INFO: an answer too short for a field is refused, not read as 0", () => {
  for (const length of [0, 1, 104, 127, 128, 147, 148, 183]) {
    assert.throws(() => decodeTcpInfo(crafted(), length), KernelCallError);
  }
  assert.throws(() => decodeTcpInfo(new Uint8Array(100), 232), KernelCallError);
});

Deno.test("TCP_INFO: a length that was not touched is no answer, whatever lies in the buffer", () => {
  assert.throws(
    () => decodeTcpInfo(new Uint8Array(TCP_INFO_BYTES).fill(1), TCP_INFO_BYTES),
    (error: unknown) =>
      error instanceof KernelCallError && /has written nothing/.test(error.message),
  );
});
