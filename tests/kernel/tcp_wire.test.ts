import assert from "node:assert/strict";
import { KernelCallError, WireError } from "../../src/base/errors.ts";
import { TcpState } from "../../src/base/ports.ts";
import { duplicateDescriptor, nextDescriptorHint } from "../../src/kernel/descriptor.ts";
import { tcpDialer } from "../../src/kernel/dialer.ts";
import { closeDescriptor, getSocketInt, libc } from "../../src/kernel/libc.ts";
import type { SocketOptions } from "../../src/kernel/socket_options.ts";
import { SocketSampler, type TcpWire } from "../../src/kernel/tcp_wire.ts";
import { until } from "../support/until.ts";
import { listen, openSockets, patience, resetBy, testUnless } from "./helpers.ts";

interface Pair {
  readonly wire: TcpWire;
  readonly server: Deno.TcpConn;
}

async function connectPair(socket: SocketOptions = {}): Promise<Pair> {
  using peer = listen();
  const accepted = peer.accept();
  const wire = await tcpDialer({ hostname: "127.0.0.1", port: peer.port, socket }).dial(patience());
  return { wire, server: await accepted };
}

/** Writes once more than fits, so that the rest stays in Send-Q; returns what was taken. */
async function overfill(wire: TcpWire): Promise<number> {
  const written = await wire.write(new Uint8Array(64 * 1024 * 1024));
  await until("zero window", () => {
    const { sendWindowBytes = 0, sendMssBytes, unackedSegments } = wire.sample();
    return sendWindowBytes < sendMssBytes && unackedSegments === 0;
  });
  return written;
}

async function readAll(conn: Deno.TcpConn, atLeast = Infinity): Promise<number> {
  const buffer = new Uint8Array(65_536);
  let total = 0;
  while (total < atLeast) {
    const count = await conn.read(buffer);
    if (count === null) break;
    total += count;
  }
  return total;
}

function hasCode(code: string): (error: unknown) => boolean {
  return (error) => error instanceof WireError && error.code === code;
}

Deno.test("wire: addresses, base 1, and nothing in flight on a fresh connection", async () => {
  const { wire, server } = await connectPair();
  const { hostname, port } = server.remoteAddr;
  assert.equal(wire.localAddress, `${hostname}:${port}`);
  assert.equal(wire.remoteAddress, `127.0.0.1:${server.localAddr.port}`);
  assert.equal(wire.device, "lo");
  const sample = wire.sample();
  assert.equal(sample.state, TcpState.ESTABLISHED);
  assert.equal(sample.bytesAcked, 1);
  assert.equal(sample.sendQueueBytes, 0);
  assert.equal(sample.hangup, false);
  assert.equal(wire.takeSocketError(), undefined);
  assert.equal(wire.localFault(), undefined);
  wire.abort();
  server.close();
});

Deno.test("wire: written - Send-Q is what was acked, also against a zero window", async () => {
  const { wire, server } = await connectPair();
  const written = await overfill(wire);
  const sample = wire.sample();
  assert.equal(sample.state, TcpState.ESTABLISHED);
  assert.ok(sample.sendQueueBytes > 0);
  assert.equal(sample.bytesAcked - 1, written - sample.sendQueueBytes);
  assert.equal(sample.notSentBytes, sample.sendQueueBytes);
  assert.equal(sample.hangup, false);
  // Once the peer reads, the queue empties and the sum still holds.
  assert.equal(await readAll(server, written), written);
  await until("all acked", () => wire.sample().sendQueueBytes === 0);
  assert.equal(wire.sample().bytesAcked, 1 + written);
  wire.abort();
  server.close();
});

Deno.test("wire: a reset keeps the counters readable, and its error comes once", async () => {
  const { wire, server } = await connectPair();
  const written = await overfill(wire);
  resetBy(server);
  await until("state 7", () => wire.sample().state === TcpState.CLOSE);
  const sample = wire.sample();
  assert.equal(sample.hangup, true);
  assert.equal(sample.unackedSegments, 0);
  assert.ok(sample.sendQueueBytes > 0);
  assert.equal(sample.bytesAcked - 1, written - sample.sendQueueBytes);
  assert.equal(wire.takeSocketError(), "ECONNRESET");
  assert.equal(wire.takeSocketError(), undefined);
  assert.equal(await wire.read(new Uint8Array(1)), null);
  await assert.rejects(wire.write(new Uint8Array(1)), hasCode("EPIPE"));
  assert.equal(wire.sample().hangup, true);
  wire.shutdownWrite(); // harmless on a dead connection
  wire.abort();
});

Deno.test("wire: acked bytes that died unread with the server leave an empty Send-Q", async () => {
  const { wire, server } = await connectPair();
  assert.equal(await wire.write(new Uint8Array(1000)), 1000);
  await until("acked", () => wire.sample().bytesAcked === 1001);
  resetBy(server);
  await until("state 7", () => wire.sample().state === TcpState.CLOSE);
  assert.equal(wire.sample().sendQueueBytes, 0);
  assert.equal(wire.sample().bytesAcked, 1001);
  assert.equal(wire.takeSocketError(), "ECONNRESET");
  wire.abort();
});

Deno.test("wire: a reset that follows a FIN is named EPIPE, and reads as an end", async () => {
  const { wire, server } = await connectPair();
  assert.equal(await wire.write(new Uint8Array(1000)), 1000);
  await until("acked", () => wire.sample().bytesAcked === 1001);
  server.close(); // unread data: Deno shuts down, then the kernel resets
  await until("state 7", () => wire.sample().state === TcpState.CLOSE);
  assert.equal(wire.sample().bytesAcked, 1001);
  assert.equal(wire.sample().hangup, true);
  assert.equal(await wire.read(new Uint8Array(1)), null);
  assert.equal(wire.takeSocketError(), "EPIPE");
  wire.abort();
});

Deno.test("wire: whoever reads first gets the reset's name", async () => {
  const { wire, server } = await connectPair();
  const reading = wire.read(new Uint8Array(1));
  await wire.write(new Uint8Array(10));
  await until("acked", () => wire.sample().bytesAcked === 11);
  resetBy(server);
  await assert.rejects(reading, hasCode("ECONNRESET"));
  assert.equal(wire.takeSocketError(), undefined);
  wire.abort();
});

Deno.test("wire: the peer's FIN is state 8 and null, and writing goes on", async () => {
  const { wire, server } = await connectPair();
  await server.closeWrite();
  assert.equal(await wire.read(new Uint8Array(1)), null);
  assert.equal(wire.sample().state, TcpState.CLOSE_WAIT);
  assert.equal(wire.sample().hangup, false);
  assert.equal(await wire.write(new Uint8Array(50)), 50);
  assert.equal(await readAll(server, 50), 50);
  await until("acked", () => wire.sample().bytesAcked === 51);
  wire.abort();
  server.close();
});

Deno.test("wire: closed in order by both: state 7, no error, our FIN counted", async () => {
  const { wire, server } = await connectPair();
  assert.equal(await wire.write(new Uint8Array(1234)), 1234);
  wire.shutdownWrite();
  assert.equal(await readAll(server), 1234);
  server.close();
  assert.equal(await wire.read(new Uint8Array(1)), null);
  await until("state 7", () => wire.sample().state === TcpState.CLOSE);
  const sample = wire.sample();
  assert.equal(sample.bytesAcked, 1 + 1234 + 1);
  assert.equal(sample.sendQueueBytes, 0);
  assert.equal(sample.hangup, true);
  assert.equal(wire.takeSocketError(), undefined);
  wire.close();
});

Deno.test("wire: our own FIN counts in Send-Q until it is acked", async () => {
  const { wire, server } = await connectPair();
  const written = await overfill(wire);
  wire.shutdownWrite();
  const sample = wire.sample();
  assert.equal(sample.state, TcpState.FIN_WAIT1);
  assert.equal(written - (sample.sendQueueBytes - 1), sample.bytesAcked - 1);
  wire.abort();
  server.close();
});

Deno.test("wire: abort resets the peer and settles what is pending", async () => {
  const { wire, server } = await connectPair();
  const reading = wire.read(new Uint8Array(1));
  await overfill(wire);
  const writing = wire.write(new Uint8Array(64 * 1024 * 1024));
  wire.abort();
  wire.abort();
  wire.close();
  await assert.rejects(reading, hasCode("ECANCELED"));
  await assert.rejects(writing, hasCode("ECANCELED"));
  await assert.rejects(readAll(server), Deno.errors.ConnectionReset);
  server.close();
  assert.throws(() => wire.sample(), KernelCallError);
  assert.throws(() => wire.takeSocketError(), KernelCallError);
  assert.throws(() => wire.shutdownWrite(), KernelCallError);
  await assert.rejects(wire.write(new Uint8Array(1)), hasCode("ECANCELED"));
});

Deno.test("wire: abort is a reset for a peer that has received everything, never an end", async () => {
  for (
    const [reading, halfClosed] of [[false, false], [true, false], [false, true], [true, true]]
  ) {
    const { wire, server } = await connectPair();
    if (reading) void wire.read(new Uint8Array(1));
    assert.equal(await wire.write(new Uint8Array(100)), 100);
    assert.equal(await readAll(server, 100), 100);
    await until("acked", () => wire.sample().bytesAcked === 101);
    if (halfClosed) {
      await server.closeWrite();
      await until("state 8", () => wire.sample().state === TcpState.CLOSE_WAIT);
    }
    wire.abort();
    if (halfClosed) await assert.rejects(server.write(new Uint8Array(1)));
    else await assert.rejects(readAll(server), Deno.errors.ConnectionReset);
    server.close();
  }
});

Deno.test("wire: an operation that nobody awaits any more rejects unnoticed", async () => {
  const { wire, server } = await connectPair();
  void wire.read(new Uint8Array(1));
  wire.abort();
  await assert.rejects(readAll(server), Deno.errors.ConnectionReset);
  server.close();
  // An unhandled rejection would fail this test at the latest here.
  await new Promise((resolve) => setTimeout(resolve, 0));
});

Deno.test("wire: close is orderly, and gives both descriptors back", async () => {
  const before = openSockets();
  const { wire, server } = await connectPair();
  await wire.write(new Uint8Array(10));
  wire.close();
  assert.equal(await readAll(server), 10);
  server.close();
  await until("descriptors", () => openSockets() === before);
});

Deno.test("sampler: the last reading is possible after Deno closed its own descriptor", async () => {
  using peer = listen();
  const accepted = peer.accept();
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: peer.port });
  const server = await accepted;
  const found = duplicateDescriptor(conn, 0);
  assert.ok(found.kind === "found");
  const sampler = new SocketSampler();
  await conn.write(new Uint8Array(100));
  await until("acked", () => sampler.sample(found.fd).bytesAcked === 101);
  conn.close(); // shuts down, so a FIN leaves although the duplicate is open
  await until("FIN acked", () => sampler.sample(found.fd).state === TcpState.FIN_WAIT2);
  assert.equal(sampler.sample(found.fd).bytesAcked, 102);
  resetBy(server);
  await until("state 7", () => sampler.sample(found.fd).state === TcpState.CLOSE);
  assert.equal(sampler.sample(found.fd).bytesAcked, 102);
  assert.equal(sampler.sample(found.fd).hangup, true);
  closeDescriptor(found.fd);
});

Deno.test("sampler: a failed call is an error and never reads as an empty Send-Q", () => {
  const sampler = new SocketSampler();
  const isCall = (call: RegExp) => (error: unknown) =>
    error instanceof KernelCallError && call.test(error.call);
  assert.throws(() => sampler.sample(-1), isCall(/TCP_INFO/));
  assert.throws(() => sampler.sample(100_000), isCall(/TCP_INFO/));
  // A listener has TCP_INFO, but its ioctl fails with EINVAL.
  const hint = nextDescriptorHint();
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  assert.throws(() => sampler.sample(hint ?? -1), isCall(/SIOCOUTQ/));
  listener.close();
  // A UDP socket has a Send-Q, but no TCP_INFO.
  const udp = libc().socket(2, 2, 0);
  assert.throws(() => sampler.sample(udp), isCall(/TCP_INFO/));
  closeDescriptor(udp);
  assert.throws(() => closeDescriptor(100_000), isCall(/close/));
  assert.equal(getSocketInt(-1, 1, 4), undefined);
});

for (
  const [kind, listenOn, hostname] of [
    ["IPv4", "127.0.0.1", "127.0.0.1"],
    ["IPv6", "::1", "::1"],
    ["IPv6 in brackets", "::1", "[::1]"],
    ["IPv4 on an IPv6 socket", "127.0.0.1", "::ffff:127.0.0.1"],
  ] as const
) {
  const host = hostname.includes(":") && !hostname.startsWith("[") ? `[${hostname}]` : hostname;
  const { state } = Deno.permissions.querySync({ name: "net", host });
  testUnless(
    state === "granted" ? undefined : `needs --allow-net=${host}`,
    `descriptor: found over ${kind}`,
    async () => {
      using peer = listen(listenOn);
      const accepted = peer.accept();
      const wire = await tcpDialer({ hostname, port: peer.port, socket: { tos: 16 } })
        .dial(patience());
      using server = await accepted;
      assert.equal(await wire.write(new Uint8Array(77)), 77);
      assert.equal(await readAll(server, 77), 77);
      await until("acked", () => wire.sample().bytesAcked === 78);
      assert.equal(wire.localFault(), undefined);
      assert.equal(wire.effectiveOptions.tos, 16);
      wire.abort();
    },
  );
}

Deno.test("descriptor: each of many connections gets its own, from any hint", async () => {
  using peer = listen();
  const pairs: Pair[] = [];
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port });
  for (let index = 0; index < 100; index++) {
    const accepted = peer.accept();
    pairs.push({ wire: await dialer.dial(patience()), server: await accepted });
  }
  // Each is told from the others by how much it has written.
  for (const [index, { wire }] of pairs.entries()) await wire.write(new Uint8Array(index + 1));
  for (const [index, { wire }] of pairs.entries()) {
    await until("acked", () => wire.sample().sendQueueBytes === 0);
    assert.equal(wire.sample().bytesAcked, 1 + index + 1);
  }
  const accepted = peer.accept();
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: peer.port });
  const server = await accepted;
  for (const hint of [0, 5, nextDescriptorHint() ?? 0, 60_000]) {
    const found = duplicateDescriptor(conn, hint);
    assert.ok(found.kind === "found");
    assert.equal(found.local.port, conn.localAddr.port);
    const FD_CLOEXEC = 1;
    assert.equal(libc().fcntl(found.fd, 1, 0n), FD_CLOEXEC);
    closeDescriptor(found.fd);
  }
  conn.close();
  server.close();
  for (const { wire, server } of pairs) {
    wire.abort();
    server.close();
  }
});

Deno.test("descriptor: a connection dialed by many at once is not mixed up", async () => {
  using peer = listen();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port });
  const dials = Array.from({ length: 20 }, () => dialer.dial(patience()));
  const servers: Deno.TcpConn[] = [];
  while (servers.length < dials.length) servers.push(await peer.accept());
  for (const [index, dial] of dials.entries()) {
    const wire = await dial;
    await wire.write(new Uint8Array(index + 1));
    const server = servers.find(({ remoteAddr: { hostname, port } }) =>
      wire.localAddress === `${hostname}:${port}`
    );
    assert.ok(server);
    assert.equal(await readAll(server, index + 1), index + 1);
    wire.abort();
    server.close();
  }
});

Deno.test("descriptor: one that died in between is told as dead, with its error", async () => {
  using peer = listen();
  const accepted = peer.accept();
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: peer.port });
  const server = await accepted;
  const watch = duplicateDescriptor(conn, 0);
  assert.ok(watch.kind === "found");
  await conn.write(new Uint8Array(1));
  const sampler = new SocketSampler();
  await until("acked", () => sampler.sample(watch.fd).bytesAcked === 2);
  resetBy(server);
  await until("state 7", () => sampler.sample(watch.fd).state === TcpState.CLOSE);
  assert.deepEqual(duplicateDescriptor(conn, 0), { kind: "dead", errorName: "ECONNRESET" });
  assert.deepEqual(duplicateDescriptor(conn, 0), { kind: "dead", errorName: undefined });
  closeDescriptor(watch.fd);
  conn.close();
  // Gone altogether: no descriptor has its address any more.
  assert.throws(() => duplicateDescriptor(conn, 0), KernelCallError);
});

Deno.test("dialer: failures have the kernel's names, mistakes and reasons stay as they are", async () => {
  const peer = listen();
  const { port } = peer;
  peer[Symbol.dispose](); // Nobody listens there any more.
  const dialer = tcpDialer({ hostname: "127.0.0.1", port });
  assert.equal(dialer.remote, `tcp://127.0.0.1:${port}`);
  await assert.rejects(dialer.dial(patience()), hasCode("ECONNREFUSED"));
  const reason = new Error("given up");
  await assert.rejects(dialer.dial(AbortSignal.abort(reason)), (error) => error === reason);
  assert.throws(() => tcpDialer({ hostname: "", port: 1 }), TypeError);
  for (const port of [0, 65_536, 1.5]) {
    assert.throws(() => tcpDialer({ hostname: "127.0.0.1", port }), RangeError);
  }
  assert.equal(tcpDialer({ hostname: "::1", port: 4000 }).remote, "tcp://[::1]:4000");
});

Deno.test("dialer: an attempt aborted at once leaves nothing behind", async () => {
  using peer = listen();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port });
  const before = openSockets();
  for (let round = 0; round < 20; round++) {
    const controller = new AbortController();
    const dial = dialer.dial(controller.signal);
    const reason = new Error(`round ${round}`);
    controller.abort(reason);
    await assert.rejects(dial, (error) => error === reason);
  }
  await until("descriptors", () => openSockets() === before);
});

Deno.test("dialer: a connection that is made although it was given up is closed", async () => {
  using peer = listen();
  const accepted = peer.accept();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port });
  const before = openSockets();
  const connect = Deno.connect;
  // Stands for an attempt that succeeds at the very moment when it is given up.
  const deaf = (options: Deno.ConnectOptions) =>
    connect({ hostname: "127.0.0.1", port: options.port });
  Object.assign(Deno, { connect: deaf });
  const controller = new AbortController();
  const reason = new Error("given up");
  const dial = dialer.dial(controller.signal);
  Object.assign(Deno, { connect });
  controller.abort(reason);
  await assert.rejects(dial, (error) => error === reason);
  const server = await accepted;
  await until("only the server's socket left", () => openSockets() === before + 1);
  assert.equal(await readAll(server), 0);
  server.close();
});

Deno.test("dialer: 200 connections leave no descriptor behind", async () => {
  using peer = listen();
  const dialer = tcpDialer({ hostname: "127.0.0.1", port: peer.port });
  const before = openSockets();
  for (let round = 0; round < 200; round++) {
    const accepted = peer.accept();
    const wire = await dialer.dial(patience());
    const server = await accepted;
    wire.localFault();
    if (round % 2 === 0) wire.abort();
    else wire.close();
    server.close();
  }
  await until("descriptors", () => openSockets() === before);
});
