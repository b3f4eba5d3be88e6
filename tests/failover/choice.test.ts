/** Which server an attempt goes to, and how a connection is left for a preferred one. */
import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { OptionError, WireError } from "../../src/base/errors.ts";
import {
  type Dialer,
  type SocketSample,
  TcpState,
  type Wire,
  type WireOutcome,
} from "../../src/base/ports.ts";
import { failoverDialer } from "../../src/failover/failover_dialer.ts";
import { ManualClock } from "../support/manual_clock.ts";

const AVOID_MS = 30_000;

/** A wire that does nothing. */
class DeadWire implements Wire {
  readonly localAddress = "192.0.2.1:50000";
  readonly remoteAddress = "192.0.2.7:4000";
  readonly outcomes: WireOutcome[] = [];
  sendQueueBytes = 0;
  reading = Promise.withResolvers<number | null>();
  aborted = false;

  write(bytes: Uint8Array): Promise<number> {
    return Promise.resolve(bytes.length);
  }

  read(): Promise<number | null> {
    return this.reading.promise;
  }

  sample(): SocketSample {
    return { sendQueueBytes: this.sendQueueBytes } as SocketSample;
  }

  takeSocketError(): undefined {}
  askPeer(): void {}
  localFault(): undefined {}
  shutdownWrite(): void {}

  abort(): void {
    this.aborted = true;
  }

  close(): void {}

  concluded(outcome: WireOutcome): void {
    this.outcomes.push(outcome);
  }
}

/** A server that can be reached, or not. */
class Server implements Dialer {
  readonly remote: string;
  isUp = true;
  readonly wires: DeadWire[] = [];
  dials = 0;

  constructor(name: string) {
    this.remote = `tcp://${name}:4000`;
  }

  dial(): Promise<Wire> {
    this.dials++;
    if (!this.isUp) return Promise.reject(new WireError("ECONNREFUSED", "refused"));
    const wire = new DeadWire();
    this.wires.push(wire);
    return Promise.resolve(wire);
  }
}

const signal = new AbortController().signal;

/** Lets what has settled go on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

Deno.test("one server is no choice", () => {
  const clock = new ManualClock();
  assert.throws(() => failoverDialer({ dialers: [new Server("a")], clock }), OptionError);
});

Deno.test("attempts go to the first that did not fail lately nor since one was of use, else to who failed first", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 4 }),
      fc.array(
        fc.record({
          up: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
          confirmedAny: fc.boolean(),
          ms: fc.nat(40_000),
        }),
      ),
      async (count, turns) => {
        const clock = new ManualClock();
        const servers = Array.from({ length: count }, (_, i) => new Server(`s${i}`));
        const dialer = failoverDialer({ dialers: servers, clock });
        const failedAtMs = servers.map(() => -Infinity);
        let servedAtTurn = 0;
        const failedAtTurn = servers.map(() => -1);
        for (const [turn, { up, confirmedAny, ms }] of turns.entries()) {
          clock.advance(ms);
          servers.forEach((server, i) => server.isUp = up[i] ?? false);
          const before = servers.map(({ dials }) => dials);
          const nowMs = clock.nowMs();
          const free = servers.findIndex((_, i) =>
            nowMs - (failedAtMs[i] ?? 0) >= AVOID_MS && (failedAtTurn[i] ?? 0) < servedAtTurn
          );
          const wanted = free >= 0 ? free : failedAtMs.indexOf(Math.min(...failedAtMs));
          const wire = await dialer.dial(signal).catch((error) => {
            // Whose failure it is.
            assert.match(error.message, new RegExp(`^tcp://s${wanted}:4000: refused`));
            assert.equal(error.code, "ECONNREFUSED");
          });
          const dialed = servers.map(({ dials }, i) => dials - (before[i] ?? 0));
          assert.deepEqual(dialed, servers.map((_, i) => i === wanted ? 1 : 0));
          if (wire !== undefined && confirmedAny) servedAtTurn = turn;
          wire?.concluded?.({ confirmedAny, unconfirmedPackets: 1 });
          // A connection that is given up counts like an attempt that failed.
          wire?.abort();
          failedAtMs[wanted] = nowMs;
          failedAtTurn[wanted] = turn;
        }
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("the third server has its turn where each of the others takes long to fail", async () => {
  const clock = new ManualClock();
  const [a, b, c] = [new Server("a"), new Server("b"), new Server("c")];
  const dialer = failoverDialer({ dialers: [a, b, c], clock });
  for (let turn = 0; turn < 6; turn++) {
    const wire = await dialer.dial(signal);
    clock.advance(35_000);
    wire.abort();
  }
  assert.deepEqual([a.dials, b.dials, c.dials], [2, 2, 2]);
  // Once another was of use the preferred one is tried first again.
  for (const confirmedAny of [false, true]) {
    const wire = await dialer.dial(signal);
    clock.advance(35_000);
    wire.concluded?.({ confirmedAny, unconfirmedPackets: 1 });
    wire.abort();
  }
  await dialer.dial(signal);
  assert.deepEqual([a.dials, b.dials, c.dials], [4, 3, 2]);
});

Deno.test("a connection that ends in order leaves its server the preferred one, unless it was short", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  const said: string[] = [];
  const dialer = failoverDialer({ dialers: [a, b], clock, tell: (words) => said.push(words) });
  const long = await dialer.dial(signal);
  clock.advance(10_000);
  a.wires[0]?.reading.resolve(null);
  assert.equal(await long.read(new Uint8Array(1)), null);
  long.close();
  const short = await dialer.dial(signal);
  assert.equal(a.dials, 2);
  a.wires[1]?.reading.resolve(null);
  assert.equal(await short.read(new Uint8Array(1)), null);
  short.close();
  await dialer.dial(signal);
  assert.equal(b.dials, 1);
  assert.deepEqual(said, ["turned from tcp://a:4000 to tcp://b:4000"]);
});

const NOTHING_OPEN: WireOutcome = { confirmedAny: true, unconfirmedPackets: 0 };

/** An end, and whether the server has failed by it. */
const ENDS:
  readonly (readonly [string, (wire: Wire, peerFin: () => Promise<void>) => unknown, boolean])[] = [
    ["a reset of ours", (wire) => wire.abort(), true],
    ["a close without any FIN, with everything acknowledged", (wire) => wire.close(), true],
    ["the same, with everything confirmed", (wire) => {
      wire.concluded?.(NOTHING_OPEN);
      wire.close();
    }, true],
    ["the server's FIN, with everything confirmed", async (wire, peerFin) => {
      await peerFin();
      wire.concluded?.(NOTHING_OPEN);
      wire.close();
    }, false],
    ["the server's FIN, with packets that nobody has confirmed", async (wire, peerFin) => {
      await peerFin();
      wire.concluded?.({ confirmedAny: true, unconfirmedPackets: 1 });
      wire.close();
    }, true],
    ["our FIN", (wire) => {
      wire.shutdownWrite();
      wire.close();
    }, false],
    ["what this side has decided", (wire) => {
      wire.concluded?.({ confirmedAny: false, unconfirmedPackets: 0, endedHere: true });
      wire.abort();
    }, false],
  ];

for (const [name, end, hasFailed] of ENDS) {
  Deno.test(`after hours, ${name}: the server has ${hasFailed ? "" : "not "}failed`, async () => {
    const clock = new ManualClock();
    const [a, b] = [new Server("a"), new Server("b")];
    const dialer = failoverDialer({ dialers: [a, b], clock });
    const wire = await dialer.dial(signal);
    clock.advance(3_600_000);
    await end(wire, async () => {
      a.wires[0]?.reading.resolve(null);
      assert.equal(await wire.read(new Uint8Array(1)), null);
    });
    await dialer.dial(signal);
    assert.deepEqual([a.dials, b.dials], hasFailed ? [1, 1] : [2, 0]);
  });
}

Deno.test("an attempt that is given up has failed at once, before it has ended", async () => {
  const dials: string[] = [];
  const dialers = ["a", "b"].map((name): Dialer => ({
    remote: `tcp://${name}:4000`,
    dial(signal) {
      dials.push(name);
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      });
    },
  }));
  const clock = new ManualClock();
  const dialer = failoverDialer({ dialers, clock });
  const attempts = [1, 2, 3, 4].map(() => {
    clock.advance(1);
    const failures = dialer.choice?.failuresOfNext();
    const controller = new AbortController();
    const attempt = dialer.dial(controller.signal);
    controller.abort();
    return { attempt, failures };
  });
  for (const { attempt } of attempts) await assert.rejects(attempt);
  assert.deepEqual(dials, ["a", "b", "a", "b"]);
  assert.deepEqual(attempts.map(({ failures }) => failures), [0, 0, 1, 1]);
});

Deno.test("a server that has refused is left alone for its own pause, and the others are not", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  const dialer = failoverDialer({ dialers: [a, b], clock });
  const { choice } = dialer;
  assert(choice);
  /** Which server the next attempt goes to; how that refuses us, and when there is one to ask. */
  const refused = async (): Promise<[string, number, number]> => {
    const dials = a.dials;
    (await dialer.dial(signal)).abort();
    let before = -1;
    const inMs = choice.refused((refusals) => {
      before = refusals;
      return 10_000 * 2 ** refusals;
    });
    return [a.dials > dials ? "a" : "b", before, inMs];
  };
  assert.deepEqual(await refused(), ["a", 0, 0], "b can be asked at once");
  clock.advance(4000);
  assert.deepEqual(await refused(), ["b", 0, 6000], "a can be, before b");
  clock.advance(6000);
  assert.deepEqual(await refused(), ["a", 1, 4000], "b can be, before a");
  clock.advance(4000);
  // b opens a session; it does not want us later, and begins anew.
  const wire = await dialer.dial(signal);
  assert.equal(b.dials, 2);
  wire.concluded?.({ confirmedAny: true, unconfirmedPackets: 0 });
  wire.shutdownWrite();
  wire.close();
  assert.deepEqual(await refused(), ["b", 0, 10_000]);
});

/** Two servers, of which the preferred one was down for a moment, and a connection to the other. */
async function onSecond(
  returnAfterMs: number,
): Promise<{ clock: ManualClock; a: Server; b: Server; dialer: Dialer; wire: Wire }> {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  a.isUp = false;
  const dialer = failoverDialer({ dialers: [a, b], clock, returnAfterMs });
  await assert.rejects(dialer.dial(signal));
  const wire = await dialer.dial(signal);
  a.isUp = true;
  return { clock, a, b, dialer, wire };
}

/** Lets so many seconds pass, one by one. */
async function pass(clock: ManualClock, seconds: number): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    clock.advance(1000);
    await settle();
  }
}

Deno.test("a connection that only writes is left, too", async () => {
  const { clock, b, wire } = await onSecond(1000);
  const [inner] = b.wires;
  assert(inner);
  inner.reading.resolve(null);
  assert.equal(await wire.read(new Uint8Array(1)), null);
  inner.write = () => new Promise(() => {});
  const writing = wire.write(new Uint8Array(1));
  const left: unknown[] = [];
  writing.catch((error) => left.push(error.code));
  await pass(clock, 10);
  assert.deepEqual(left, ["PREFERRED"]);
  assert.notEqual(wire.sample().state, TcpState.CLOSE, "whoever writes was told");
});

Deno.test("a connection that nobody reads or writes is left by looking dead", async () => {
  const { clock, a, b, dialer, wire } = await onSecond(1000);
  b.wires[0]?.reading.resolve(null);
  assert.equal(await wire.read(new Uint8Array(1)), null);
  assert.equal(wire.takeSocketError(), undefined);
  await pass(clock, 10);
  assert.equal(wire.sample().state, TcpState.CLOSE);
  assert.equal(wire.takeSocketError(), "PREFERRED");
  await assert.rejects(wire.write(new Uint8Array(1)), { code: "PREFERRED" });
  wire.close();
  const dials = b.dials;
  assert.equal((await dialer.dial(signal)).remoteAddress, a.wires.at(-1)?.remoteAddress);
  assert.equal(b.dials, dials);
});

Deno.test("after a return that came to nothing the next one is twice as far away", async () => {
  const { clock, a, b, dialer, wire: first } = await onSecond(2000);
  let wire = first;
  /** After how many seconds the connection is left; a, which can be reached, is of no use. */
  const leftAfter = async (): Promise<number> => {
    let isLeft = false;
    wire.read(new Uint8Array(1)).catch(() => isLeft = true);
    let seconds = 0;
    for (; !isLeft; seconds++) await pass(clock, 1);
    wire.abort();
    const looks = a.dials;
    (await dialer.dial(signal)).abort();
    assert.equal(a.dials, looks + 1);
    wire = await dialer.dial(signal);
    return seconds;
  };
  const seconds: number[] = [];
  for (let i = 0; i < 4; i++) seconds.push(await leftAfter());
  // The first look comes after a second, and each one after it.
  assert.deepEqual(seconds, [3, 5, 9, 17]);
  // The next return is one to a server that is of use.
  let isLeft = false;
  wire.read(new Uint8Array(1)).catch(() => isLeft = true);
  for (let i = 0; i < 40 && !isLeft; i++) await pass(clock, 1);
  wire.abort();
  const good = await dialer.dial(signal);
  good.concluded?.({ confirmedAny: true, unconfirmedPackets: 1 });
  good.abort();
  wire = await dialer.dial(signal);
  assert.equal(await leftAfter(), 3);
  assert.equal(b.dials, 7);
});

Deno.test("a server that has refused is not returned to before its pause is over", async () => {
  const { clock, a, dialer, wire } = await onSecond(2000);
  wire.abort();
  (await dialer.dial(signal)).abort();
  assert(dialer.choice);
  assert.equal(dialer.choice.refused(() => 20_000), 0);
  const next = await dialer.dial(signal);
  let isLeft = false;
  next.read(new Uint8Array(1)).catch(() => isLeft = true);
  const dials = a.dials;
  await pass(clock, 19);
  assert.deepEqual([isLeft, a.dials], [false, dials]);
  await pass(clock, 5);
  assert.equal(isLeft, true);
});

Deno.test("a connection that was left for a server is followed by one to it, and to no other", async () => {
  const clock = new ManualClock();
  const [a, b, c] = [new Server("a"), new Server("b"), new Server("c")];
  a.isUp = b.isUp = false;
  const dialer = failoverDialer({ dialers: [a, b, c], clock, returnAfterMs: 40_000 });
  await assert.rejects(dialer.dial(signal));
  await assert.rejects(dialer.dial(signal));
  const wire = await dialer.dial(signal);
  let isLeft = false;
  wire.read(new Uint8Array(1)).catch(() => isLeft = true);
  b.isUp = true;
  // a has failed as an attempt long before that, and is still away.
  for (let i = 0; i < 60 && !isLeft; i++) await pass(clock, 1);
  wire.abort();
  const dials = [a.dials, b.dials];
  await dialer.dial(signal);
  assert.deepEqual([a.dials - (dials[0] ?? 0), b.dials - (dials[1] ?? 0)], [0, 1]);
});

Deno.test("a look ends with the connection, whatever it waits for", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  a.isUp = false;
  const ended: unknown[] = [];
  const hanging: Dialer = {
    remote: a.remote,
    dial: (signal, _onLookedUp, onHandshake) => {
      if (!a.isUp) return a.dial();
      onHandshake?.(60_000);
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(ended.push(signal.reason.name)));
      });
    },
  };
  for (const how of ["abort", "close"] as const) {
    a.isUp = false;
    const dialer = failoverDialer({ dialers: [hanging, b], clock, returnAfterMs: 1000 });
    await assert.rejects(dialer.dial(signal));
    const wire = await dialer.dial(signal);
    a.isUp = true;
    await pass(clock, 3);
    wire[how]();
    await settle();
    assert.equal(clock.timers.size, 0);
  }
  assert.deepEqual(ended, ["AbortError", "AbortError"]);
});

Deno.test("what came of a connection is passed on to the wire below", async () => {
  const [a, b] = [new Server("a"), new Server("b")];
  const wire = await failoverDialer({ dialers: [a, b], clock: new ManualClock() }).dial(signal);
  wire.concluded?.(NOTHING_OPEN);
  assert.deepEqual(a.wires[0]?.outcomes, [NOTHING_OPEN]);
});

Deno.test("a preferred server that is back for long enough is gone back to, in a quiet moment", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  a.isUp = false;
  const dialer = failoverDialer({ dialers: [a, b], clock, returnAfterMs: 5000 });
  await assert.rejects(dialer.dial(signal));
  const wire = await dialer.dial(signal);
  const reading = wire.read(new Uint8Array(1));
  const left: unknown[] = [];
  reading.catch((error) => left.push(error.code));
  const pass = async (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      await wire.write(new Uint8Array(1));
      clock.advance(1000);
      await settle();
    }
  };
  await pass(10);
  assert.deepEqual(left, []);
  a.isUp = true;
  await pass(3);
  a.isUp = false; // Not without a break.
  await pass(2);
  a.isUp = true;
  await pass(9);
  assert.deepEqual(left, [], "it is never quiet, and the time has not passed twice");
  assert(a.wires.every(({ aborted }) => aborted), "what only looks, leaves nothing behind");
  for (let i = 0; i < 4; i++) {
    clock.advance(1000);
    await settle();
  }
  assert.deepEqual(left, ["PREFERRED"]);
  wire.abort();
  const dials = b.dials;
  await dialer.dial(signal);
  assert.equal(b.dials, dials, "the next one goes to the preferred server");
  const looks = a.dials;
  clock.advance(60_000);
  await settle();
  assert.equal(a.dials, looks, "nobody looks any more");
});

Deno.test("a connection that is never quiet is left when the time has passed twice", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  a.isUp = false;
  const dialer = failoverDialer({ dialers: [a, b], clock, returnAfterMs: 5000 });
  await assert.rejects(dialer.dial(signal));
  const wire = await dialer.dial(signal);
  const left: unknown[] = [];
  wire.read(new Uint8Array(1)).catch((error) => left.push(error.code));
  a.isUp = true;
  for (const inner of b.wires) inner.sendQueueBytes = 1;
  for (let second = 0; second < 20 && left.length === 0; second++) {
    wire.sample();
    clock.advance(1000);
    await settle();
  }
  assert.deepEqual(left, ["PREFERRED"]);
});

Deno.test("a connection with packets that are held or not answered is not quiet", async () => {
  const { clock, wire } = await onSecond(5000);
  const left: unknown[] = [];
  wire.read(new Uint8Array(1)).catch((error) => left.push(error.code));
  wire.askPeer(true);
  await pass(clock, 9);
  assert.deepEqual(left, []);
  wire.askPeer(false);
  await pass(clock, 4);
  assert.deepEqual(left, ["PREFERRED"]);
});

Deno.test("a preferred server whose handshake takes long is found to be back all the same", async () => {
  const clock = new ManualClock();
  const [a, b] = [new Server("a"), new Server("b")];
  a.isUp = false;
  const slow: Dialer = {
    remote: a.remote,
    async dial(signal, _onLookedUp, onHandshake) {
      const wire = await a.dial();
      onHandshake?.(10_000);
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
        clock.setTimer(3000, resolve);
      });
      return wire;
    },
  };
  const dialer = failoverDialer({ dialers: [slow, b], clock, returnAfterMs: 1000 });
  await assert.rejects(dialer.dial(signal));
  const wire = await dialer.dial(signal);
  const left: unknown[] = [];
  wire.read(new Uint8Array(1)).catch((error) => left.push(error.code));
  a.isUp = true;
  for (let second = 0; second < 20 && left.length === 0; second++) {
    clock.advance(1000);
    await settle();
  }
  assert.deepEqual(left, ["PREFERRED"]);
});
