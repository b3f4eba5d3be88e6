import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { waitUntilDrained } from "../../src/tcp/drained.ts";
import { locate } from "../../src/tcp/located_socket.ts";
import {
  ClosedError,
  DeadConnectionError,
  drained,
  sendQueue,
  tcpInfo,
} from "../../src/tcp/tcp.ts";
import { resetBy } from "../kernel/helpers.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { until, within } from "../support/until.ts";
import { cookieOf, descriptorsOf, overfill, pair } from "./helpers.ts";

const isDead = (error: unknown) => error instanceof DeadConnectionError;

Deno.test("drained: resolves once the peer's kernel has all, and not before", async () => {
  using both = await pair();
  const { bytesAcked = NaN } = tcpInfo(both.conn);
  await drained(both.conn); // Nothing was written.
  let written = 0;
  for (const bytes of [1, 1000, 100_000]) {
    written += await both.conn.write(new Uint8Array(bytes));
    await within("drained", drained(both.conn));
    assert.ok((tcpInfo(both.conn).bytesAcked ?? NaN) - bytesAcked >= written);
  }
  assert.equal(sendQueue(both.conn).sendQueueBytes, 0);
});

Deno.test("drained: waits while the peer does not read, for what was written so far alone", async () => {
  using both = await pair();
  const clock = new ManualClock();
  const { bytesAcked: base = NaN } = tcpInfo(both.conn);
  const writing = overfill(both.conn);
  const stuck = () => until("bytes wait", () => (sendQueue(both.conn).notSentBytes ?? 0) > 0);
  await stuck();
  let done = false;
  const waiting = waitUntilDrained({
    socket: locate(both.conn),
    clock,
    signal: undefined,
    bytesNotHandedOver: () => 0,
  }).then(() => done = true);
  for (let i = 0; i < 10; i++) {
    await until("the next reading", () => clock.timers.size === 1);
    clock.advance(50);
  }
  assert.equal(done, false);
  // The writer goes on for ever: Send-Q is not empty, and what was written before is through.
  const written = (tcpInfo(both.conn).bytesAcked ?? NaN) - base +
    sendQueue(both.conn).sendQueueBytes;
  const buffer = new Uint8Array(64 * 1024);
  for (let read = 0; read < written;) read += await both.peer.read(buffer) ?? NaN;
  await stuck();
  assert.equal(done, false);
  clock.advance(50);
  await within("drained", waiting);
  both.conn.close();
  assert.ok(await writing instanceof Error);
});

Deno.test("drained: rejects when the connection is reset before", async () => {
  using both = await pair();
  const writing = overfill(both.conn);
  await until("bytes wait", () => (sendQueue(both.conn).notSentBytes ?? 0) > 0);
  const waiting = drained(both.conn);
  resetBy(both.peer);
  await assert.rejects(within("it rejects", waiting), isDead);
  // The writer was told itself: its error was not taken away.
  assert.match(String(await writing), /reset/i);
});

Deno.test("drained: a dead connection whose Send-Q reads 0 is no success", async () => {
  using both = await pair();
  await both.conn.write(new Uint8Array(100));
  await drained(both.conn);
  resetBy(both.peer); // With 100 bytes that its program has never read.
  await until("it is dead", () => tcpInfo(both.conn).state === "CLOSE");
  assert.equal(sendQueue(both.conn).sendQueueBytes, 0);
  assert.equal(tcpInfo(both.conn).unackedSegments, 0);
  await assert.rejects(drained(both.conn), isDead);
  // Nor once the owner has taken the error.
  await assert.rejects(both.conn.read(new Uint8Array(1)), /reset/i);
  await assert.rejects(drained(both.conn), isDead);
});

Deno.test("drained: an end in order on both sides is one", async () => {
  using both = await pair();
  const served = (async () => {
    const buffer = new Uint8Array(64 * 1024);
    while (await both.peer.read(buffer) !== null);
    both.peer.close();
  })();
  for (let i = 0; i < 8; i++) await both.conn.write(new Uint8Array(100_000));
  const waiting = drained(both.conn);
  await both.conn.closeWrite();
  await within("drained", waiting);
  await served;
});

Deno.test("drained: rejects when the owner closes, and with the signal's reason", async () => {
  using both = await pair();
  const writing = overfill(both.conn);
  await until("bytes wait", () => (sendQueue(both.conn).notSentBytes ?? 0) > 0);
  const controller = new AbortController();
  const [byOwner, bySignal] = [drained(both.conn), drained(both.conn, controller.signal)];
  const reason = new Error("enough");
  controller.abort(reason);
  await assert.rejects(bySignal, reason);
  await assert.rejects(drained(both.conn, controller.signal), reason);
  both.conn.close();
  await assert.rejects(within("it rejects", byOwner), ClosedError);
  await writing;
});

Deno.test("drained: a socket of node:net counts what it has not handed over yet", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const socket = net.connect(listener.addr.port, "127.0.0.1");
  using peer = await listener.accept();
  if (socket.connecting) await once(socket, "connect");
  const bytes = 8_000_000;
  let read = 0;
  socket.write(new Uint8Array(bytes));
  assert.ok(socket.writableLength > 0, "nothing waits inside the process");
  const reading = (async () => {
    const buffer = new Uint8Array(64 * 1024);
    while (read < bytes) read += await peer.read(buffer) ?? 0;
  })();
  await within("drained", drained(socket));
  // All of it has left: what is not read yet lies in the peer's kernel.
  assert.equal(tcpInfo(peer).bytesReceived, bytes);
  await reading;
  socket.destroy();
  await once(socket, "close");
});

Deno.test("drained: a hundred at once, with no descriptor left behind", async () => {
  const pairs = await Promise.all(Array.from({ length: 100 }, () => pair()));
  const cookies = pairs.map(({ conn }) => cookieOf(conn));
  await Promise.all(pairs.map(async ({ conn }) => {
    await conn.write(new Uint8Array(10_000));
    await within("drained", drained(conn));
  }));
  assert.deepEqual(descriptorsOf(cookies), cookies.map(() => 1));
  for (const both of pairs) both[Symbol.dispose]();
  assert.deepEqual(descriptorsOf(cookies), cookies.map(() => 0));
});
