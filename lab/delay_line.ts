/**
 * A delay line: a program that reads IP packets from a TUN device and writes
 * each back to it a fixed time later, in order. It stands in for the kernel's
 * netem, which not every kernel has.
 *
 * ```sh
 * deno run -A lab/delay_line.ts DEVICE DELAY_MS
 * ```
 *
 * It prints `ready` once it is attached and ends when standard input ends.
 *
 * @module
 */

import { checked, openLibc, Poller } from "./libc.ts";

const O_RDWR_NONBLOCK_CLOEXEC = 2 | 0x800 | 0x80000;
/** linux/if_tun.h: _IOW('T', 202, int) */
const TUNSETIFF = 0x400454CA;
const IFF_TUN_NO_PI = 0x1 | 0x1000;
const IFREQ_BYTES = 40;
const IFREQ_FLAGS_OFFSET = 16;
/** Above the MTU of the TUN device, 1500. */
const PACKET_BYTES = 2048;
/** What a line of 100 Mbit/s with a delay of 1 s holds; beyond it packets are dropped. */
const MAX_PACKETS = 8192;
const IDLE_WAIT_MS = 1000;

function main(device: string | undefined, delayText: string | undefined): void {
  const delayMs = Number(delayText);
  if (device === undefined || !(delayMs > 0)) {
    throw new RangeError("usage: delay_line.ts DEVICE DELAY_MS, with a delay above 0");
  }
  const libc = openLibc();
  const poller = new Poller(libc);
  const path = new TextEncoder().encode("/dev/net/tun\0");
  const tun = checked("open(/dev/net/tun)", libc.open(path, O_RDWR_NONBLOCK_CLOEXEC));
  const request = new Uint8Array(IFREQ_BYTES);
  new TextEncoder().encodeInto(device, request);
  new DataView(request.buffer).setUint16(IFREQ_FLAGS_OFFSET, IFF_TUN_NO_PI, true);
  checked("TUNSETIFF", libc.ioctl(tun, BigInt(TUNSETIFF), request));
  Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));

  // A ring: the same delay for all means that the first in is the first out.
  const packets = Array.from({ length: MAX_PACKETS }, () => new Uint8Array(PACKET_BYTES));
  const lengths = new Uint32Array(MAX_PACKETS);
  const dueAtMs = new Float64Array(MAX_PACKETS);
  const surplus = new Uint8Array(PACKET_BYTES);
  let head = 0;
  let count = 0;

  while (true) {
    const nextDueMs = count > 0 ? (dueAtMs[head] ?? 0) - performance.now() : IDLE_WAIT_MS;
    const [ended, readable] = poller.wait([0, tun], nextDueMs);
    if (ended) return;
    const nowMs = performance.now();
    if (readable) {
      while (true) {
        const at = (head + count) % MAX_PACKETS;
        const slot = count < MAX_PACKETS ? packets[at] ?? surplus : surplus;
        // A failure is "nothing there": poll() would have told of a lost device.
        const n = Number(libc.read(tun, slot, BigInt(PACKET_BYTES)));
        if (n <= 0) break;
        if (slot === surplus) continue;
        lengths[at] = n;
        dueAtMs[at] = nowMs + delayMs;
        count++;
      }
    }
    while (count > 0 && (dueAtMs[head] ?? 0) <= nowMs) {
      const packet = packets[head] ?? surplus;
      // A refused packet is lost, as on any line.
      libc.write(tun, packet, BigInt(lengths[head] ?? 0));
      head = (head + 1) % MAX_PACKETS;
      count--;
    }
  }
}

if (import.meta.main) main(Deno.args[0], Deno.args[1]);
