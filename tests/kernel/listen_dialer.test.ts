import assert from "node:assert/strict";
import { WireError } from "../../src/base/errors.ts";
import { AllowedPeers } from "../../src/kernel/allowed_peers.ts";
import { TcpState } from "../../src/base/ports.ts";
import { type ListenDialer, listenDialer } from "../../src/kernel/listen_dialer.ts";
import { bytes, text } from "../support/bytes.ts";
import { until } from "../support/until.ts";

const connectTo = ({ addr }: ListenDialer) =>
  Deno.connect({ hostname: "127.0.0.1", port: addr.port });

/** What a connection brings, up to its end; a reset is one, too. */
async function readToEnd(conn: Deno.TcpConn): Promise<string> {
  const buffer = new Uint8Array(256);
  let all = "";
  try {
    for (;;) {
      const length = await conn.read(buffer);
      if (length === null) return all;
      all += text(buffer.subarray(0, length));
    }
  } catch {
    return all;
  }
}

/** Connects as soon as it listens: a listener that is about to go may still take one, and drop it. */
async function connectSoon(dialer: ListenDialer, dialed: Promise<unknown>): Promise<Deno.TcpConn> {
  for (;;) {
    const conn = await connectTo(dialer).catch(() => undefined);
    if (conn === undefined) continue;
    const ended = readToEnd(conn).then(() => false);
    if (await Promise.race([dialed.then(() => true), ended])) return conn;
    conn.close();
  }
}

Deno.test("addresses and networks are told apart from others", () => {
  const cases: [list: string[] | undefined, address: string, isAllowed: boolean][] = [
    [undefined, "192.0.2.7", true],
    [[], "192.0.2.7", false],
    [["192.0.2.7"], "192.0.2.7", true],
    [["192.0.2.7"], "192.0.2.8", false],
    [["192.0.2.7"], "::ffff:192.0.2.7", true],
    [["10.0.0.0/8"], "10.255.0.1", true],
    [["10.0.0.0/8"], "11.0.0.1", false],
    [["10.1.2.128/25"], "10.1.2.127", false],
    [["10.1.2.128/25"], "10.1.2.200", true],
    [["0.0.0.0/0"], "203.0.113.9", true],
    [["0.0.0.0/0"], "2001:db8::1", false],
    [["2001:db8::/33"], "2001:db8:7fff::1", true],
    [["2001:db8::/33"], "2001:db8:8000::1", false],
    [["::/0"], "192.0.2.7", true],
    [["fe80::1"], "fe80::1%eth0", true],
    [["192.0.2.7", "::1"], "::1", true],
    [["192.0.2.7"], "a name", false],
  ];
  for (const [list, address, isAllowed] of cases) {
    assert.equal(new AllowedPeers(list).has(address), isAllowed, `${address} in ${list}`);
  }
  for (const wrong of ["", "host", "10.0.0.0/33", "::/129", "10.0.0.0/", "1.2.3.4/8/8", "1.2.3"]) {
    assert.throws(() => new AllowedPeers([wrong]), TypeError, wrong);
  }
});

Deno.test("an attempt waits for a connection, and its wire carries bytes and counters", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  assert.equal(dialer.waits, true);
  assert.equal(dialer.remote, `listen://127.0.0.1:${dialer.addr.port}`);
  let lookedUp = 0;
  const dialed = dialer.dial(new AbortController().signal, () => lookedUp++);
  assert.equal(lookedUp, 1);
  using server = await connectTo(dialer);
  const wire = await dialed;
  const base = wire.sample().bytesAcked;
  await wire.write(bytes("hello"));
  const buffer = new Uint8Array(16);
  assert.equal(await server.read(buffer), 5);
  await server.write(bytes("answer"));
  assert.equal(await wire.read(buffer), 6);
  // Its answer carried the acknowledgement.
  assert.equal(wire.sample().bytesAcked - base, 5);
  wire.close();
});

Deno.test("an attempt that is given up leaves the next one to have the connection", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  const controller = new AbortController();
  const first = dialer.dial(controller.signal);
  controller.abort(new Error("given up"));
  await assert.rejects(first, /given up/);
  await assert.rejects(dialer.dial(controller.signal), /given up/);
  using _server = await connectTo(dialer);
  (await dialer.dial(new AbortController().signal)).close();
});

Deno.test("the newest connection replaces the one in use, whose reader learns it", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  const { signal } = new AbortController();
  using _old = await connectTo(dialer);
  const wire = await dialer.dial(signal);
  const reading = wire.read(new Uint8Array(1));
  using server = await connectTo(dialer);
  const isReplaced = (error: unknown) => error instanceof WireError && error.code === "REPLACED";
  await assert.rejects(reading, isReplaced);
  await assert.rejects(wire.read(new Uint8Array(1)), isReplaced);
  const next = await dialer.dial(signal);
  wire.abort();
  await next.write(bytes("new"));
  const buffer = new Uint8Array(16);
  assert.equal(await server.read(buffer), 3);
  next.close();
});

Deno.test("the newest connection replaces one that has ended its side, whose writer learns it", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  using first = await connectTo(dialer);
  const wire = await dialer.dial(new AbortController().signal);
  await first.closeWrite();
  assert.equal(await wire.read(new Uint8Array(16)), null);
  // It reads nothing, so that a write waits at last.
  const chunk = new Uint8Array(1 << 20);
  const waits = (async () => {
    for (;;) await wire.write(chunk);
  })();
  const rejected = assert.rejects(waits, { code: "REPLACED" });
  const dialed = dialer.dial(new AbortController().signal);
  using _second = await connectTo(dialer);
  const next = await dialed;
  await rejected;
  await assert.rejects(wire.write(bytes("more")), { code: "REPLACED" });
  wire.abort();
  next.close();
});

Deno.test("one that nobody reads or writes is replaced by looking dead", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  using first = await connectTo(dialer);
  const wire = await dialer.dial(new AbortController().signal);
  await first.closeWrite();
  assert.equal(await wire.read(new Uint8Array(16)), null);
  assert.equal(wire.sample().state, TcpState.CLOSE_WAIT);
  assert.equal(wire.takeSocketError(), undefined);
  const dialed = dialer.dial(new AbortController().signal);
  using _second = await connectTo(dialer);
  const next = await dialed;
  assert.equal(wire.sample().state, TcpState.CLOSE);
  assert.equal(wire.takeSocketError(), "REPLACED");
  wire.abort();
  next.close();
});

Deno.test("while it rests nobody is connected; the next attempt listens at the same address", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  const { signal } = new AbortController();
  const failing = assert.rejects(dialer.dial(signal), { code: "ECANCELED" });
  dialer.rest?.();
  await failing;
  // Whoever comes is refused, or reset where the listener is about to go.
  const stranger = await connectTo(dialer).catch(() => undefined);
  if (stranger !== undefined) {
    assert.equal(await readToEnd(stranger), "");
    stranger.close();
  }
  const dialed = dialer.dial(signal);
  using _next = await connectSoon(dialer, dialed);
  const wire = await dialed;
  // Nobody has asked for this one yet.
  using waiting = await connectTo(dialer);
  await assert.rejects(wire.read(new Uint8Array(16)), { code: "REPLACED" });
  dialer.rest?.();
  assert.equal(await readToEnd(waiting), "");
  wire.abort();
});

Deno.test('with "refuse" the oldest stays until it has ended', async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0, secondConnection: "refuse" });
  const { signal } = new AbortController();
  using old = await connectTo(dialer);
  const wire = await dialer.dial(signal);
  using second = await connectTo(dialer);
  assert.equal(await readToEnd(second), "");
  await wire.write(bytes("still here"));
  const buffer = new Uint8Array(16);
  assert.equal(await old.read(buffer), 10);
  wire.abort();
  using _third = await connectTo(dialer);
  (await dialer.dial(signal)).close();
});

Deno.test("who is not on the list gets no byte, and replaces nobody", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0, allowFrom: ["127.0.0.2"] });
  const { signal } = new AbortController();
  const dialed = dialer.dial(signal);
  using stranger = await connectTo(dialer);
  assert.equal(await readToEnd(stranger), "");
  const controller = new AbortController();
  controller.abort(new Error("nobody"));
  dialer[Symbol.dispose]();
  // It waits on: only its signal ends it.
  const outcome = await Promise.race([dialed.then(() => "connected"), Promise.resolve("waits")]);
  assert.equal(outcome, "waits");
});

Deno.test("what is wrong is said before anything listens", () => {
  const where = { hostname: "127.0.0.1", port: 0 };
  assert.throws(() => listenDialer({ ...where, port: 65_536 }), /port must be an integer/);
  assert.throws(() => listenDialer({ ...where, allowFrom: ["host"] }), /no address and no network/);
  assert.throws(
    // @ts-expect-error: a caller without types
    () => listenDialer({ ...where, secondConnection: "both" }),
    /secondConnection must be one of replace, refuse/,
  );
  using taken = Deno.listen(where);
  assert.throws(
    () => listenDialer({ ...where, port: taken.addr.port }),
    Deno.errors.AddrInUse,
  );
});

Deno.test("a listener that rests refuses, and listens again without an attempt once it resumes", async () => {
  using dialer = listenDialer({ hostname: "127.0.0.1", port: 0 });
  const accepts = async () => {
    const conn = await connectTo(dialer).catch(() => undefined);
    conn?.close();
    return conn !== undefined;
  };
  for (let round = 0; round < 3; round++) {
    assert(await accepts());
    dialer.rest?.();
    await until("nobody listens", async () => !(await accepts()));
    dialer.resume?.();
    dialer.resume?.();
    await until("somebody listens", accepts);
  }
});
