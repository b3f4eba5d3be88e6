/**
 * What the running kernel says of TCP connections, read through sendq's own kernel layer
 * and held against what is written in docs/kernel_facts.md. Runs inside the virtual
 * machines of `deno task kernels`; prints one JSON object, and fails where one differs.
 *
 * @module
 */

import assert from "node:assert/strict";
import { duplicateDescriptor, nextDescriptorHint } from "../src/kernel/descriptor.ts";
import { closeDescriptor, getSocketInt, libc } from "../src/kernel/libc.ts";
import { resetConnection, SocketSampler } from "../src/kernel/tcp_wire.ts";
import { until } from "../tests/support/until.ts";

const SOL_TCP = 6;
const TCP_INFO = 11;
const TCP_RTO_MAX_MS = 44;
const CLOSED = 7;

/** Section 10: the length of `struct tcp_info`, by the first release that has it. */
const LENGTHS = [["6.18", 280], ["6.7", 248], ["6.2", 240], ["5.4", 232]] as const;
/** The first release with TCP_RTO_MAX_MS. */
const RTO_MAX_SINCE = "6.15";

/** What was read, for the table. */
export interface Facts {
  readonly release: string;
  readonly arch: string;
  readonly tcpInfoBytes: number;
  readonly hasRtoMax: boolean;
}

if (import.meta.main) {
  const release = Deno.osRelease();
  const of = await Promise.all(["127.0.0.1", "::1"].map(factsOf));
  const [first, second] = of;
  assert.deepEqual(first, second);
  assert.ok(first !== undefined);
  const expected = LENGTHS.find(([since]) => isAtLeast(release, since))?.[1];
  assert.equal(first.tcpInfoBytes, expected, `the length of tcp_info on ${release}`);
  assert.equal(first.hasRtoMax, isAtLeast(release, RTO_MAX_SINCE), `TCP_RTO_MAX_MS on ${release}`);
  const facts: Facts = { release, arch: Deno.build.arch, ...first };
  await Deno.stdout.write(new TextEncoder().encode(`${JSON.stringify(facts)}\n`));
}

async function factsOf(hostname: string): Promise<Omit<Facts, "release" | "arch">> {
  using listener = Deno.listen({ hostname, port: 0 });
  const accepting = listener.accept();
  const hint = nextDescriptorHint();
  using conn = await Deno.connect({ hostname, port: listener.addr.port });
  const server = await accepting;
  const found = duplicateDescriptor(conn, hint ?? 0);
  assert.ok(found.kind === "found");
  const { fd } = found;
  const sampler = new SocketSampler();

  const info = new Uint8Array(512);
  const length = new Uint32Array([info.byteLength]);
  assert.equal(libc().getsockopt(fd, SOL_TCP, TCP_INFO, info, length), 0);

  // bytes_acked begins at 1, our SYN, and counts every byte; Send-Q is what is left.
  const base = sampler.sample(fd);
  assert.equal(base.bytesAcked, 1);
  await conn.write(new Uint8Array(1000));
  await until("1000 acknowledged bytes", () => sampler.sample(fd).bytesAcked === 1001);
  assert.equal(sampler.sample(fd).sendQueueBytes, 0);

  // A server that does not read: the window closes, and the two counters make up the sum.
  let written = 1000;
  const writing = (async () => {
    try {
      for (;;) written += await conn.write(new Uint8Array(1 << 20));
    } catch {
      // The reset below.
    }
  })();
  await until("a closed window", () => {
    const { unackedSegments, sendWindowBytes = 0, sendMssBytes, notSentBytes } = sampler.sample(fd);
    return notSentBytes > 0 && unackedSegments === 0 && sendWindowBytes < sendMssBytes;
  });
  const full = sampler.sample(fd);
  assert.ok(full.bytesAcked - 1 + full.sendQueueBytes >= written);
  assert.ok(full.windowLimitedUs > 0);
  const hasRtoMax = getSocketInt(fd, SOL_TCP, TCP_RTO_MAX_MS) !== undefined;

  // A reset: the state says so, and the count of acknowledged bytes stays.
  const peer = duplicateDescriptor(server, 0);
  assert.ok(peer.kind === "found" && resetConnection(peer.fd));
  await until("the reset", () => sampler.sample(fd).state === CLOSED);
  const after = sampler.sample(fd);
  assert.ok(after.bytesAcked >= full.bytesAcked && after.hangup);
  await writing;
  closeDescriptor(peer.fd);
  closeDescriptor(fd);
  server.close();
  return { tcpInfoBytes: length[0] ?? 0, hasRtoMax };
}

/** Whether a release, such as `6.1.0-56-cloud-amd64`, is this one or a later one. */
function isAtLeast(release: string, other: string): boolean {
  const [major = 0, minor = 0] = release.split(".").map((part) => parseInt(part));
  const [wantedMajor = 0, wantedMinor = 0] = other.split(".").map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}
