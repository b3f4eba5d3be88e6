import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { systemClock } from "../../src/base/clock.ts";
import { OptionError } from "../../src/base/errors.ts";
import { locate } from "../../src/tcp/located_socket.ts";
import {
  ClosedError,
  DeadConnectionError,
  sendQueue,
  setSocketOptions,
  tcpInfo,
  type Watch,
  watch,
  type WatchVerdict,
} from "../../src/tcp/tcp.ts";
import { SocketWatch } from "../../src/tcp/watch.ts";
import { resetBy } from "../kernel/helpers.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { until, within } from "../support/until.ts";
import { cookieOf, descriptorsOf, overfill, pair } from "./helpers.ts";

const LIMITS = { stallTimeoutMs: 3000, peerStallTimeoutMs: 300_000 };

/** The kinds of verdict that a watch yields, until it ends. */
async function kindsOf(watching: Watch): Promise<string[]> {
  const kinds: string[] = [];
  for await (const { kind } of watching) kinds.push(kind);
  return kinds;
}

const reasonOf = ({ signal }: Watch): WatchVerdict => {
  assert.ok(signal.reason instanceof DeadConnectionError);
  return signal.reason.verdict;
};

Deno.test("watch: the owner's close sends the FIN at once, and ends the watching in order", async () => {
  using both = await pair();
  using watching = watch(both.conn);
  const kinds = kindsOf(watching);
  await both.conn.write(new Uint8Array(10));
  assert.equal(await both.peer.read(new Uint8Array(100)), 10);
  both.conn.close();
  // A duplicate that the watch held would keep this read waiting.
  assert.equal(await within("the FIN", both.peer.read(new Uint8Array(1))), null);
  assert.deepEqual(await within("the end", kinds), ["healthy"]);
  assert.equal(watching.signal.aborted, false);
});

Deno.test("watch: holds no descriptor, and leaves none", async () => {
  using both = await pair();
  const cookie = cookieOf(both.conn);
  const watching = watch(both.conn);
  assert.deepEqual(descriptorsOf([cookie]), [1]);
  watching[Symbol.dispose]();
  assert.deepEqual(descriptorsOf([cookie]), [1]);
  await both.conn.write(new Uint8Array(1)); // It is the owner's as before.
});

Deno.test("watch: disposed, it has no timer left and its iteration ends", async () => {
  using both = await pair();
  const clock = new ManualClock();
  const watching = new SocketWatch({
    socket: locate(both.conn),
    clock,
    limits: LIMITS,
    reset: true,
  });
  assert.equal(clock.timers.size, 1);
  const kinds = kindsOf(watching);
  watching[Symbol.dispose]();
  assert.equal(clock.timers.size, 0);
  assert.deepEqual(await within("the end", kinds), ["healthy"]);
  assert.equal(watching.signal.aborted, false);
});

Deno.test("watch: looks four times a second while idle, ten times while bytes are under way", async () => {
  using both = await pair();
  const clock = new ManualClock();
  using _ = new SocketWatch({ socket: locate(both.conn), clock, limits: LIMITS, reset: true });
  assert.equal(clock.nextInMs, 250);
  const writing = overfill(both.conn);
  await until("bytes wait", () => (sendQueue(both.conn).notSentBytes ?? 0) > 0);
  clock.advance(250);
  assert.equal(clock.nextInMs, 100);
  both.conn.close();
  clock.advance(100);
  assert.equal(clock.timers.size, 0);
  await writing;
});

Deno.test("watch: a descriptor that belongs to another connection by now is not watched, nor reset", async () => {
  using first = await pair();
  const clock = new ManualClock();
  const watching = new SocketWatch({
    socket: locate(first.conn),
    clock,
    limits: LIMITS,
    reset: true,
  });
  first.conn.close();
  using second = await pair();
  const writing = overfill(second.conn);
  await until("bytes wait", () => (sendQueue(second.conn).notSentBytes ?? 0) > 0);
  clock.advance(400_000);
  assert.equal(watching.verdict.kind, "healthy");
  assert.equal(watching.signal.aborted, false);
  assert.equal(clock.timers.size, 0);
  assert.equal(tcpInfo(second.conn).state, "ESTABLISHED");
  second.conn.close();
  await writing;
});

Deno.test("watch: a reset fires the signal, and the owner's read has its error", async () => {
  using both = await pair();
  using watching = watch(both.conn);
  const kinds = kindsOf(watching);
  const aborted = once(watching.signal, "abort");
  resetBy(both.peer);
  await within("the signal", aborted);
  assert.deepEqual(reasonOf(watching), { kind: "died" });
  assert.deepEqual(await kinds, ["healthy", "died"]);
  await assert.rejects(both.conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
});

Deno.test("watch: a reset fires it also where a read was pending, and was told", async () => {
  using both = await pair();
  using watching = watch(both.conn);
  const aborted = once(watching.signal, "abort");
  const reading = assert.rejects(both.conn.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
  resetBy(both.peer);
  await reading;
  await within("the signal", aborted);
  assert.deepEqual(reasonOf(watching), { kind: "died" });
});

Deno.test("watch: of a dead connection the signal has fired already", async () => {
  using both = await pair();
  tcpInfo(both.conn);
  resetBy(both.peer);
  await until("it is dead", () => tcpInfo(both.conn).state === "CLOSE");
  using watching = watch(both.conn);
  assert.equal(watching.signal.aborted, true);
  assert.deepEqual(await kindsOf(watching), ["died"]);
});

Deno.test("watch: of a closed connection it is a ClosedError; of bad options an OptionError", async () => {
  using both = await pair();
  assert.throws(
    () => watch(both.conn, { stallTimeoutMs: 99 }),
    (error) => error instanceof OptionError && error.option === "stallTimeoutMs",
  );
  tcpInfo(both.conn);
  both.conn.close();
  assert.throws(() => watch(both.conn), ClosedError);
});

Deno.test("watch: the peer's FIN is told and is no death; both FINs are the end", async () => {
  using both = await pair();
  using watching = watch(both.conn);
  const kinds: string[] = [];
  const done = (async () => {
    for await (const { kind } of watching) {
      kinds.push(kind);
      if (kind !== "peer-closed") continue;
      // Half-closed, it takes what we write.
      await both.conn.write(new Uint8Array(5));
      assert.equal(await both.peer.read(new Uint8Array(10)), 5);
      await both.conn.closeWrite();
    }
  })();
  await both.peer.closeWrite();
  assert.equal(await both.conn.read(new Uint8Array(1)), null);
  await within("the end", done);
  assert.deepEqual(kinds, ["healthy", "peer-closed"]);
  assert.equal(watching.signal.aborted, false);
});

Deno.test("watch: both FINs between two readings are no death", async () => {
  using both = await pair();
  const clock = new ManualClock();
  const watching = new SocketWatch({
    socket: locate(both.conn),
    clock,
    limits: LIMITS,
    reset: true,
  });
  await both.peer.closeWrite();
  assert.equal(await both.conn.read(new Uint8Array(1)), null);
  await both.conn.closeWrite();
  assert.equal(await both.peer.read(new Uint8Array(1)), null);
  await until("it is over", () => tcpInfo(both.conn).state === "CLOSE");
  clock.advance(250);
  assert.equal(watching.signal.aborted, false);
  assert.equal(watching.verdict.kind, "peer-closed");
  assert.equal(clock.timers.size, 0);
});

Deno.test("watch: a peer that does not read is stalled, and given up after its own limit", async () => {
  using both = await pair();
  using watching = watch(both.conn, { stallTimeoutMs: 100, peerStallTimeoutMs: 1000 });
  const kinds = kindsOf(watching);
  const writing = overfill(both.conn);
  // A peer that lives is not silent: the other limit does not end it.
  await until("it is told", () => watching.verdict.kind === "peer-stalled");
  const error = await within("the write fails", writing);
  assert.ok(error instanceof Error);
  const verdict = reasonOf(watching);
  assert.ok(verdict.kind === "peer-stalled" && verdict.stalledMs > 1000);
  assert.equal((await kinds).at(-1), "peer-stalled");
});

Deno.test("watch: given up, a pending read fails as well; with reset false nothing does", async () => {
  for (const reset of [true, false]) {
    using both = await pair();
    using watching = watch(both.conn, { stallTimeoutMs: 100, peerStallTimeoutMs: 300, reset });
    const outcomes: unknown[] = [];
    const reading = both.conn.read(new Uint8Array(1)).then(
      (value) => outcomes.push(value),
      (error) => outcomes.push(error),
    );
    const writing = overfill(both.conn).then((error) => outcomes.push(error));
    await within("the signal", once(watching.signal, "abort"));
    if (reset) {
      await within("both fail", Promise.all([reading, writing]));
      for (const outcome of outcomes) assert.ok(outcome instanceof Error, String(outcome));
      assert.equal(tcpInfo(both.conn).state, "CLOSE");
    } else {
      assert.equal(tcpInfo(both.conn).state, "ESTABLISHED");
      assert.deepEqual(outcomes, []);
      both.conn.close();
      await Promise.all([reading, writing]);
    }
  }
});

Deno.test("watch: a socket of node:net; given up, it gets an error", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const socket = net.connect(listener.addr.port, "127.0.0.1");
  using _peer = await listener.accept();
  if (socket.connecting) await once(socket, "connect");
  using watching = watch(socket, { stallTimeoutMs: 100, peerStallTimeoutMs: 300 });
  const failed = once(socket, "error");
  socket.resume();
  socket.write(new Uint8Array(16_000_000));
  await within("the signal", once(watching.signal, "abort"));
  await within("the error", failed.catch((error) => error));
  socket.destroy();
});

Deno.test("watch: a hundred at once, each told by itself", async () => {
  const pairs = await Promise.all(Array.from({ length: 100 }, () => pair()));
  const cookies = pairs.map(({ conn }) => cookieOf(conn));
  const watches = pairs.map(({ conn }) => watch(conn));
  const kinds = watches.map(kindsOf);
  for (const [index, { conn, peer }] of pairs.entries()) {
    if (index % 2 === 0) resetBy(peer);
    else conn.close();
  }
  const all = await within("all end", Promise.all(kinds));
  for (const [index, told] of all.entries()) {
    assert.deepEqual(told, index % 2 === 0 ? ["healthy", "died"] : ["healthy"]);
    assert.equal(watches[index]?.signal.aborted, index % 2 === 0);
  }
  for (const both of pairs) both[Symbol.dispose]();
  assert.deepEqual(descriptorsOf(cookies), cookies.map(() => 0));
});

Deno.test("watch: several iterations of one watch each get the newest, and a break ends one alone", async () => {
  using both = await pair();
  using watching = watch(both.conn);
  for await (const { kind } of watching) {
    assert.equal(kind, "healthy");
    break;
  }
  const [one, other] = [kindsOf(watching), kindsOf(watching)];
  resetBy(both.peer);
  assert.equal((await within("the end", one)).at(-1), "died");
  assert.equal((await other).at(-1), "died");
});

Deno.test("watch: takes the system's clock, and keepalive of the owner's choice stays", async () => {
  using both = await pair();
  const chosen = setSocketOptions(both.conn, { keepAlive: { idleMs: 5000 } });
  const socket = locate(both.conn);
  const watching = new SocketWatch({ socket, clock: systemClock, limits: LIMITS, reset: true });
  assert.deepEqual(setSocketOptions(both.conn, {}), chosen);
  watching[Symbol.dispose]();
});
