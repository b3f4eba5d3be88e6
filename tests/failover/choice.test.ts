/** Which server an attempt goes to, and how a connection is left for a preferred one. */
import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { OptionError, WireError } from "../../src/base/errors.ts";
import type { Dialer, SocketSample, Wire, WireOutcome } from "../../src/base/ports.ts";
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

Deno.test("attempts go to the first that did not fail lately, else to who failed first", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 4 }),
      fc.array(
        fc.record({
          up: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
          ms: fc.nat(40_000),
        }),
      ),
      async (count, turns) => {
        const clock = new ManualClock();
        const servers = Array.from({ length: count }, (_, i) => new Server(`s${i}`));
        const dialer = failoverDialer({ dialers: servers, clock });
        const failedAtMs = servers.map(() => -Infinity);
        for (const { up, ms } of turns) {
          clock.advance(ms);
          servers.forEach((server, i) => server.isUp = up[i] ?? false);
          const before = servers.map(({ dials }) => dials);
          const nowMs = clock.nowMs();
          const free = failedAtMs.findIndex((at) => nowMs - at >= AVOID_MS);
          const wanted = free >= 0 ? free : failedAtMs.indexOf(Math.min(...failedAtMs));
          const wire = await dialer.dial(signal).catch((error) => {
            // Whose failure it is.
            assert.match(error.message, new RegExp(`^tcp://s${wanted}:4000: refused`));
            assert.equal(error.code, "ECONNREFUSED");
          });
          const dialed = servers.map(({ dials }, i) => dials - (before[i] ?? 0));
          assert.deepEqual(dialed, servers.map((_, i) => i === wanted ? 1 : 0));
          // A connection that is given up counts like an attempt that failed.
          wire?.abort();
          failedAtMs[wanted] = nowMs;
        }
      },
    ),
    { numRuns: 200 },
  );
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
