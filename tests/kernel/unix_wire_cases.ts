import assert from "node:assert/strict";
import { SeededRandom } from "../../simulation/random.ts";
import { KernelCallError, WireError } from "../../src/base/errors.ts";
import { TcpState } from "../../src/base/ports.ts";
import type { UnixWire } from "../../src/kernel/unix_wire.ts";
import { until } from "../support/until.ts";
import { unixPair } from "./unix_helpers.ts";

async function rejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof WireError, String(error));
    return error.code;
  }
  throw new Error("it did not reject");
}

function zeroes(count: number): Uint8Array {
  return new Uint8Array(count);
}

/** Acknowledged, and not read as far as is known. */
function unreadOf(wire: UnixWire): number {
  const { bytesAcked, readBytes = NaN } = wire.sample();
  return bytesAcked - readBytes;
}

Deno.test("unix wire: a fresh connection has read nothing, since nothing was written", async () => {
  using pair = await unixPair();
  const { wire } = pair;
  assert.match(wire.remoteAddress, /^unix:\/.*\/one\.sock$/);
  assert.equal(wire.localAddress, "unnamed");
  assert.equal(wire.peer?.processId, Deno.pid);
  assert.equal(wire.peer?.userId, Deno.uid());
  const sample = wire.sample();
  assert.equal(sample.state, TcpState.ESTABLISHED);
  assert.deepEqual([sample.bytesAcked, sample.sendQueueBytes, sample.readBytes], [0, 0, 0]);
  assert.equal(sample.hangup, false);
  assert.equal(wire.takeSocketError(), undefined);
  assert.equal(wire.localFault(), undefined);
});

Deno.test("unix wire: no reading says that more was read than was, and none less where all was", async () => {
  let inBetween = 0;
  for (let seed = 1; seed <= 40; seed++) {
    const random = new SeededRandom(seed);
    const among = (bytes: readonly number[]): number =>
      bytes[Math.floor(random.next() * bytes.length)] ?? 1;
    using pair = await unixPair();
    const { wire, served } = pair;
    let taken = 0;
    for (let turn = 0; turn < 60; turn++) {
      const what = random.next();
      if (what < 0.4) {
        // What does not fit would wait: the server has to have read before.
        if (taken - served.readBytes > 30_000) served.readAll();
        taken += await wire.write(zeroes(among([1, 30, 100, 2000, 16_384, 40_000])));
      } else if (what < 0.8) served.read(among([1, 10, 100, 1000, 5000, 40_000, 100_000]));
      else if (what < 0.9) served.peek(among([1, 5000, 100_000]));
      else served.readAll();
      const { readBytes: saidRead = NaN, bytesAcked, sendQueueBytes } = wire.sample();
      assert.ok(saidRead <= served.readBytes, `seed ${seed}: ${saidRead} > ${served.readBytes}`);
      assert.deepEqual([bytesAcked, sendQueueBytes], [taken, 0]);
      if (served.readBytes === taken) assert.equal(saidRead, taken, `seed ${seed}`);
      else if (saidRead > 0) inBetween++;
    }
  }
  assert.ok(inBetween > 0, "nothing was known before all was read: that tests half of it");
});

Deno.test("unix wire: of small writes it is known which are read, although they take much memory", async () => {
  using pair = await unixPair();
  const { wire, served } = pair;
  for (let turn = 0; turn < 50; turn++) await wire.write(zeroes(100));
  for (let unread = 5000; unread >= 0; unread -= 100) {
    assert.equal(unreadOf(wire), unread);
    served.read(100);
  }
});

Deno.test("unix wire: a server that ends with unread bytes has not read them, whoever is told", async () => {
  for (const told of ["nobody", "a reader", "SO_ERROR"] as const) {
    using pair = await unixPair();
    const { wire, served } = pair;
    await wire.write(zeroes(100));
    served.readAll();
    assert.equal(unreadOf(wire), 0);
    await wire.write(zeroes(300));
    served.read(100); // A piece counts once its last byte was read.
    const reading = told === "a reader" ? wire.read(zeroes(10)) : undefined;
    served.close();
    await until("the end is here", () => wire.sample().state === TcpState.CLOSE);
    if (reading !== undefined) assert.equal(await rejection(reading), "ECONNRESET");
    if (told === "SO_ERROR") assert.equal(wire.takeSocketError(), "ECONNRESET");
    for (let again = 0; again < 3; again++) {
      const { state, hangup } = wire.sample();
      assert.deepEqual([state, hangup, unreadOf(wire)], [TcpState.CLOSE, true, 300], told);
    }
    // The error is gone now, and still nothing was read.
    wire.takeSocketError();
    assert.equal(await wire.read(zeroes(10)), null);
    assert.equal(unreadOf(wire), 300, told);
  }
});

Deno.test("unix wire: what was read between the last reading and an end in order counts", async () => {
  using pair = await unixPair();
  const { wire, served } = pair;
  await wire.write(zeroes(5000));
  assert.equal(unreadOf(wire), 5000);
  served.readAll();
  served.close();
  // Until the reader has found the end, an error may be on its way to somebody.
  const ended = wire.sample();
  assert.deepEqual(
    [ended.state, ended.hangup, ended.readBytes],
    [TcpState.CLOSE_WAIT, true, 0],
  );
  assert.equal(await wire.read(zeroes(10)), null);
  assert.deepEqual([wire.sample().state, unreadOf(wire)], [TcpState.CLOSE_WAIT, 0]);
  assert.equal(wire.takeSocketError(), undefined);
});

Deno.test("unix wire: behind a half-close the server still reads, and may still end with unread bytes", async () => {
  using pair = await unixPair();
  const { wire, served } = pair;
  await served.conn.write(zeroes(30));
  await served.conn.closeWrite();
  assert.equal(await wire.read(zeroes(20)), 20);
  assert.equal(await wire.read(zeroes(20)), 10);
  assert.equal(await wire.read(zeroes(20)), null);
  assert.equal(wire.sample().state, TcpState.CLOSE_WAIT);
  assert.equal(wire.sample().hangup, false);
  await wire.write(zeroes(500));
  assert.equal(unreadOf(wire), 500);
  served.readAll();
  assert.equal(unreadOf(wire), 0);
  await wire.write(zeroes(700));
  served.close();
  await until("the end is here", () => wire.sample().state === TcpState.CLOSE);
  assert.equal(unreadOf(wire), 700);
});

Deno.test("unix wire: writing to a server that has ended fails, and says nothing of what was read", async () => {
  using pair = await unixPair();
  const { wire, served } = pair;
  await wire.write(zeroes(50));
  served.close();
  assert.equal(await rejection(wire.write(zeroes(70))), "EPIPE");
  const { state, readBytes, bytesAcked } = wire.sample();
  assert.deepEqual([state, readBytes, bytesAcked], [TcpState.CLOSE, 0, 50]);
});

Deno.test("unix wire: a write that waits while the server reads nothing is a closed window after a second", async () => {
  using pair = await unixPair();
  const { wire, served, clock } = pair;
  const isShut = (): boolean => {
    const { notSentBytes, sendWindowBytes = Infinity, sendMssBytes } = wire.sample();
    return notSentBytes > 0 && sendWindowBytes < sendMssBytes;
  };
  let returned = 0;
  const writing = (async () => {
    for (;;) {
      await wire.write(zeroes(65_536));
      returned++;
    }
  })();
  let before = -1;
  // Where two turns bring nothing more, the last one waits.
  await until("a write waits for room", () => {
    const waits = returned > 0 && returned === before;
    before = returned;
    return waits;
  });
  assert.equal(isShut(), false);
  clock.advance(1001);
  assert.equal(isShut(), true);
  const full = wire.sample();
  assert.equal(full.state, TcpState.ESTABLISHED);
  assert.equal(full.readBytes, 0);
  served.read(100_000);
  assert.equal(isShut(), false);
  wire.abort();
  assert.equal(await rejection(writing), "ECANCELED");
});

Deno.test("unix wire: our end is one to the server; with its own both are over, without an error", async () => {
  using pair = await unixPair();
  const { wire, served } = pair;
  await wire.write(zeroes(200));
  wire.shutdownWrite();
  assert.equal(wire.sample().state, TcpState.FIN_WAIT2);
  assert.equal(unreadOf(wire), 200);
  assert.equal(await rejection(wire.write(zeroes(1))), "EPIPE");
  served.readAll();
  assert.equal(unreadOf(wire), 0);
  assert.equal(await served.conn.read(zeroes(1)), null);
  const read = wire.read(zeroes(10));
  served.close();
  assert.equal(await read, null);
  const { state, hangup } = wire.sample();
  assert.deepEqual([state, hangup], [TcpState.CLOSE, true]);
  assert.equal(wire.takeSocketError(), undefined);
});

Deno.test("unix wire: abort leaves what the server has not read, which then finds an end", async () => {
  using pair = await unixPair();
  const { wire, served } = pair;
  await wire.write(zeroes(300));
  const read = wire.read(zeroes(10));
  wire.abort();
  wire.abort();
  wire.close();
  assert.equal(await rejection(read), "ECANCELED");
  assert.equal(served.read(1000), 300);
  assert.equal(await served.conn.read(zeroes(1)), null);
  assert.throws(() => wire.sample(), KernelCallError);
  assert.throws(() => wire.takeSocketError(), KernelCallError);
});
