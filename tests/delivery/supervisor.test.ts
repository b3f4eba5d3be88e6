/**
 * The supervisor over a queue and wires that do what a test wants; the simulation does the same
 * by chance.
 */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { SessionRefusedError, WireError } from "../../src/base/errors.ts";
import type { DeliveryQueue, Dialer, PacketBatch } from "../../src/base/ports.ts";
import { Supervisor } from "../../src/delivery/supervisor.ts";
import type { DeliveryStatus } from "../../src/delivery/status.ts";
import { failoverDialer } from "../../src/failover/failover_dialer.ts";
import { limitsOf, type SenderOptions } from "../../src/sender/options.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { until, within } from "../support/until.ts";
import { FakeWire } from "./fake_wire.ts";

function batch(firstId: number, ...texts: string[]): PacketBatch {
  let end = 0;
  const ends = Uint32Array.from(texts, (text) => end += text.length);
  return { firstId, bytes: bytes(texts.join("")), ends, expiresAtMs: Infinity };
}

/** Packets in memory. */
class MemoryQueue implements DeliveryQueue {
  lastId = 0;
  removedThroughId = 0;
  readonly buried: string[] = [];
  readonly #packets: string[] = [];
  #onPackets = (): void => {};

  store(text: string): void {
    this.#packets.push(text);
    this.lastId = this.#packets.length;
    this.#onPackets();
  }

  readBatches(afterId: number): Promise<readonly PacketBatch[]> {
    const texts = this.#packets.slice(afterId);
    return Promise.resolve(texts.length === 0 ? [] : [batch(afterId + 1, ...texts)]);
  }

  removeThrough(id: number): Promise<void> {
    this.removedThroughId = id;
    return Promise.resolve();
  }

  giveUp(id: number, attempts: number): Promise<void> {
    this.buried.push(`packet ${id} after ${attempts}`);
    this.removedThroughId = Math.max(this.removedThroughId, id);
    return Promise.resolve();
  }

  refuse(): Promise<void> {
    return Promise.resolve();
  }

  rememberSent(): void {}

  assertOpen(): void {}

  subscribe(onPackets: () => void): () => void {
    this.#onPackets = onPackets;
    return () => {};
  }
}

/** A supervisor whose time, connections and kernel are the test's. */
class Bench implements AsyncDisposable {
  readonly clock = new ManualClock();
  readonly queue = new MemoryQueue();
  readonly statuses: DeliveryStatus[] = [];
  readonly supervisor: Supervisor;
  readonly #dials: PromiseWithResolvers<FakeWire>[] = [];

  constructor(options: Partial<SenderOptions>, waits = false) {
    const dial = () => {
      const dial = Promise.withResolvers<FakeWire>();
      this.#dials.push(dial);
      return dial.promise;
    };
    this.supervisor = new Supervisor(this.limits(options), {
      queue: this.queue,
      dialer: { remote: "tcp://test:1", dial, ...(waits ? { waits } : {}) },
      clock: this.clock,
      random: () => 0.5,
      onStatus: (status) => void this.statuses.push(status),
      onReceived: () => {},
    }, 0);
  }

  limits(options: Partial<SenderOptions>): ReturnType<typeof limitsOf> {
    return limitsOf({ queue: "q.db", remote: "tcp://test:1", ...options });
  }

  /** How many attempts there were. */
  get attempts(): number {
    return this.#dials.length;
  }

  /** Lets every promise that is due be told. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < 5; turn++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }

  async advance(ms: number): Promise<void> {
    this.clock.advance(ms);
    await this.settle();
  }

  /** The next attempt succeeds; time passes until it is there. */
  async connect(wire = new FakeWire()): Promise<FakeWire> {
    const known = this.attempts;
    const waits = () => this.supervisor.state !== "connecting";
    for (let round = 0; round < 100 && waits(); round++) await this.advance(1000);
    assert.ok(!waits(), `no attempt: ${this.supervisor.state}, ${known} before`);
    this.#dials.at(-1)?.resolve(wire);
    await this.settle();
    return wire;
  }

  async fail(error: unknown): Promise<void> {
    this.#dials.at(-1)?.reject(error);
    await this.settle();
  }

  /** The peer's kernel has all that was written. */
  async acknowledge(wire: FakeWire): Promise<void> {
    wire.bytesAcked = 1 + wire.written.join("").length;
    await this.advance(50);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.supervisor.close(0).catch(() => {});
    for (let round = 0; round < 30; round++) await this.advance(100);
    await within("it closes", closed);
  }
}

Deno.test("who must close says no goodbye before a packet is answered, and still hears the answer", async () => {
  await using bench = new Bench({
    confirm: { framing: "lines", accepted: "OK" },
    session: { close: "QUIT\n" },
  });
  bench.queue.store("one\n");
  const wire = await bench.connect();
  await bench.acknowledge(wire);
  assert.equal(bench.supervisor.stats.heldPackets, 1);
  const closed = bench.supervisor.close(100);
  await bench.advance(100);
  assert.deepEqual([bench.supervisor.state, wire.written], ["ending", ["one\n"]]);
  assert.ok(wire.log.includes("FIN"), `${wire.log}`);
  await bench.advance(700);
  wire.peerSays("OK\n");
  await bench.settle();
  wire.peerFin();
  await bench.settle();
  await within("it closes", closed);
  assert.equal(bench.queue.removedThroughId, 1);
  assert.equal(bench.supervisor.stats.confirmedPackets, 1);
  assert.deepEqual(wire.written, ["one\n"]);
});

for (
  const [mode, options, message] of [
    [
      "an answer",
      { confirm: { framing: "lines", accepted: "OK", answerTimeoutMs: 2000 } },
      "one\n",
    ],
    ["any response", { responseTimeoutMs: 2000 }, "one\n"],
    [
      "a heartbeat's answer",
      {
        connect: "always",
        session: {
          heartbeat: { send: "PING\n", idleMs: 200, expect: "OK", answerTimeoutMs: 2000 },
        },
      },
      undefined,
    ],
  ] as const
) {
  Deno.test(`a sender that stands still does not take its own time for the server's: ${mode}`, async () => {
    await using bench = new Bench(options);
    const { supervisor, clock } = bench;
    if (message !== undefined) bench.queue.store(message);
    const wire = await bench.connect();
    await bench.advance(200);
    assert.deepEqual(wire.written, [message ?? "PING\n"]);
    await bench.acknowledge(wire);
    // Meanwhile the answer comes; the reader hears of it a moment after the timers.
    clock.standStill(4000);
    await bench.advance(0);
    assert.deepEqual([supervisor.state, supervisor.verdict.kind], ["connected", "healthy"]);
    wire.peerSays("OK\n");
    await bench.settle();
    const isAnswered = "confirm" in options;
    for (let ms = 0; ms < 100; ms += 10) await bench.advance(10);
    assert.deepEqual([supervisor.state, supervisor.stats.connections], ["connected", 1]);
    if (isAnswered) assert.equal(supervisor.stats.confirmedPackets, 1);
  });

  Deno.test(`what a server owes is due by the time that was watched: ${mode}`, async () => {
    await using bench = new Bench(options);
    const { supervisor, clock } = bench;
    if (message !== undefined) bench.queue.store(message);
    const wire = await bench.connect();
    await bench.advance(200);
    await bench.acknowledge(wire);
    let watchedMs = 0;
    for (; watchedMs < 1000; watchedMs += 50) await bench.advance(50);
    for (let pause = 0; pause < 2; pause++) {
      clock.standStill(60_000);
      await bench.advance(0);
    }
    const isGivenUp = () => supervisor.verdict.kind === "no-response";
    for (; !isGivenUp() && watchedMs < 4000; watchedMs += 10) {
      // Somebody on the other side lives.
      wire.lastAckMs = 0;
      await bench.advance(10);
    }
    // Each pause has counted for a quarter of a second; the rest is for the reader.
    assert.ok(watchedMs > 1200 && watchedMs <= 2100, `${watchedMs}`);
    assert.ok(wire.log.includes("abort") || wire.log.includes("close"), `${wire.log}`);
  });
}

Deno.test("who is waited for gets the session that is wanted when it comes", async () => {
  const login = (password: string) => ({
    session: { open: [{ send: `PASS ${password}\n`, expect: "OK\n" }] },
  });
  await using bench = new Bench(login("old"), true);
  bench.queue.store("one\n");
  await bench.advance(3_600_000);
  bench.supervisor.reconfigure(bench.limits({ ...login("new"), responseTimeoutMs: 100 }));
  await bench.advance(3_600_000);
  const wire = await bench.connect();
  assert.deepEqual(wire.written, ["PASS new\n"]);
  wire.bytesAcked = 10;
  wire.peerSays("OK\n");
  for (let ms = 0; ms < 100; ms += 10) await bench.advance(10);
  assert.deepEqual(wire.written, ["PASS new\n", "one\n"]);
  // So are the other limits.
  for (let ms = 0; ms < 400; ms += 10) {
    wire.lastAckMs = 0;
    wire.bytesAcked = 14;
    await bench.advance(10);
  }
  assert.ok(bench.statuses.some(({ verdict }) => verdict.kind === "no-response"));
});

Deno.test("a refusal pauses, whoever refuses and however the session came to be", async (t) => {
  const session = { session: { open: [{ send: "PASS wrong\n", expect: "OK\n" }] } };
  const refusal = new SessionRefusedError("the server said no");
  const proxy = new WireError("PROXY_AUTH", "it does not take the user and password");
  const cases = [
    ["from the start", session, undefined, refusal],
    ["a session that comes later", {}, session, refusal],
    ["a dialer of one's own", {}, undefined, refusal],
    ["a proxy", {}, undefined, proxy],
  ] as const;
  for (const [name, before, after, error] of cases) {
    await t.step(name, async () => {
      await using bench = new Bench({ ...before, backoffFirstMs: 1, backoffCapMs: 1 });
      bench.queue.store("one\n");
      await bench.settle();
      if (after !== undefined) {
        await bench.fail(new WireError("ECONNREFUSED", "nobody listens"));
        bench.supervisor.reconfigure(bench.limits({ ...after, backoffFirstMs: 1 }));
        await bench.advance(10);
        assert.equal(bench.attempts, 2);
      }
      const known = bench.attempts;
      // Half of 5 s, and by chance a half of the other half.
      await bench.fail(error);
      assert.equal(bench.supervisor.verdict.kind, "session-refused");
      await bench.advance(3700);
      assert.equal(bench.attempts, known);
      await bench.advance(100);
      assert.equal(bench.attempts, known + 1);
      await bench.fail(error);
      await bench.advance(7400);
      assert.equal(bench.attempts, known + 1);
    });
  }
});

for (const code of ["LAPSED", "REPLACED", "PREFERRED", "TLS_KEY_USED_UP"]) {
  Deno.test(`an end that this side decides blames neither the server nor a packet: ${code}`, async () => {
    await using bench = new Bench({ maxAttempts: 2 });
    bench.queue.store("one\n");
    for (let times = 0; times < 8; times++) {
      const wire = await bench.connect();
      await bench.acknowledge(wire);
      // Behind the reader's back, and told to it.
      if (times % 2 === 0) Object.assign(wire, { state: 7, socketError: code });
      wire.failRead(code);
      await bench.settle();
      assert.equal(bench.supervisor.verdict.kind, "ended-here");
    }
    assert.deepEqual(bench.queue.buried, []);
    assert.ok(bench.statuses.some(({ words }) => words.includes("ended by this side")));
    // A server that resets after all that begins at one.
    for (let times = 0; times < 2; times++) {
      const wire = await bench.connect();
      wire.state = 7;
      wire.failRead("ECONNRESET");
      await bench.settle();
      assert.equal(bench.supervisor.verdict.kind, "reset");
    }
    assert.deepEqual(bench.queue.buried, ["packet 1 after 2"]);
  });
}

Deno.test("an end of the server's is never called healthy, also without a FIN of TCP", async () => {
  await using bench = new Bench({});
  bench.queue.store("one\n");
  const wire = await bench.connect();
  await bench.acknowledge(wire);
  // As a TLS server's close_notify, while TCP stays as it is.
  wire.peerFin();
  await bench.settle();
  const given = bench.statuses.find(({ words }) => words.startsWith("connection given up"));
  assert.equal(
    given?.words,
    "connection given up: peer closed the connection; 1 packet will be sent again",
  );
});

Deno.test("a queue that contradicts itself at the begin of a connection stops the sender: nothing is skipped", async () => {
  const removed: number[] = [];
  const reads: PromiseWithResolvers<readonly PacketBatch[]>[] = [];
  const queue: DeliveryQueue = {
    lastId: 5,
    removedThroughId: 0,
    readBatches: () => {
      const read = Promise.withResolvers<readonly PacketBatch[]>();
      reads.push(read);
      return read.promise;
    },
    removeThrough: (id) => Promise.resolve(void removed.push(id)),
    giveUp: () => Promise.resolve(),
    refuse: () => Promise.resolve(),
    rememberSent: () => {},
    assertOpen: () => {},
    subscribe: () => () => {},
  };
  const wires = [new FakeWire(), new FakeWire()];
  const dials: PromiseWithResolvers<FakeWire>[] = [];
  const dialer = {
    remote: "tcp://test:1",
    dial: () => {
      const dial = Promise.withResolvers<FakeWire>();
      dials.push(dial);
      return dial.promise;
    },
  };
  const limits = limitsOf({
    queue: "q.db",
    remote: dialer.remote,
    backoffFirstMs: 1,
    backoffCapMs: 1,
  });
  const supervisor = new Supervisor(limits, {
    queue,
    dialer,
    clock: systemClock,
    random: () => 0,
    onStatus: () => {},
    onReceived: () => {},
  }, 0);
  const closed = supervisor.closed.catch((error: unknown) => error);

  const [first, second] = wires as [FakeWire, FakeWire];
  await until("it is dialed", () => dials.length === 1);
  dials[0]?.resolve(first);
  // The connection breaks while packets are read, which then are those of the next one.
  await until("packets are read", () => reads.length === 1);
  first.state = 7;
  first.failRead("ECONNRESET");
  await until("it is dialed again", () => dials.length === 2);
  reads[0]?.resolve([batch(1, "a1", "a2", "a3"), batch(2, "b2", "b3")]);
  await reads[0]?.promise;
  dials[1]?.resolve(second);

  assert.match(String(await within("the sender stops", closed)), /packet 2 is to be sent after 3/);
  assert.deepEqual(wires.map(({ written }) => written), [[], []]);
  assert.deepEqual(wires.map(({ log }) => log.includes("close") || log.includes("abort")), [
    true,
    true,
  ]);
  assert.deepEqual(removed, []);
});

/** A queue that has these packets, and from which nothing but removals takes any. */
function queueOf(...texts: string[]): DeliveryQueue {
  let removedThroughId = 0;
  const packets = batch(1, ...texts);
  return {
    lastId: texts.length,
    get removedThroughId() {
      return removedThroughId;
    },
    readBatches: (afterId) => Promise.resolve(afterId === 0 ? [packets] : []),
    removeThrough: (id) => Promise.resolve(void (removedThroughId = id)),
    giveUp: () => Promise.resolve(),
    refuse: () => Promise.resolve(),
    rememberSent: () => {},
    assertOpen: () => {},
    subscribe: () => () => {},
  };
}

Deno.test("a wire is told what came of its packets before it ends", async () => {
  const wire = new FakeWire();
  const never = new Promise<FakeWire>(() => {});
  let dials = 0;
  const dialer = {
    remote: "tcp://test:1",
    dial: () => dials++ === 0 ? Promise.resolve(wire) : never,
  };
  const limits = limitsOf({ queue: "q.db", remote: dialer.remote, holdMs: 60_000 });
  const supervisor = new Supervisor(limits, {
    ...{ queue: queueOf("a1", "a2"), dialer, clock: systemClock, random: () => 0 },
    ...{ onStatus: () => {}, onReceived: () => {} },
  }, 0);
  await until("both are written", () => wire.written.join("") === "a1a2");
  wire.bytesAcked = 5;
  await until("both are held", () => supervisor.stats.heldPackets === 2);
  wire.peerFin();
  await until("it is left", () => wire.log.includes("close"));
  assert.deepEqual(wire.log.filter((line) => /^(concluded|close|abort)/.test(line)), [
    'concluded {"confirmedAny":false,"unconfirmedPackets":2,"endedHere":false,"endIsUsual":false}',
    "close",
  ]);
  await supervisor.close(0);
});

Deno.test("of two servers each has attempts that may take long, and not the one by chance", async () => {
  // Both say nothing; how long the attempts at each may take, by the clock.
  const clock = new ManualClock();
  const servers = ["a", "b"].map((name) => ({ name, tookMs: [] as number[] }));
  const dialers = servers.map(({ name, tookMs }): Dialer => ({
    remote: `tcp://${name}:1`,
    dial(signal, onLookedUp) {
      const sinceMs = clock.nowMs();
      onLookedUp?.();
      return new Promise((_, reject) => {
        signal.addEventListener("abort", () => {
          tookMs.push(clock.nowMs() - sinceMs);
          reject(signal.reason);
        });
      });
    },
  }));
  const dialer = failoverDialer({ dialers, clock });
  const [connectTimeoutMs, slowConnectTimeoutMs] = [1000, 4000];
  const limits = limitsOf({
    ...{ queue: "q.db", remote: "tcp://a:1,tcp://b:1", connectTimeoutMs, slowConnectTimeoutMs },
    ...{ backoffFirstMs: 0, backoffCapMs: 0 },
  });
  const supervisor = new Supervisor(limits, {
    ...{ queue: queueOf("a1"), dialer, clock, random: () => 0 },
    ...{ onStatus: () => {}, onReceived: () => {} },
  }, 0);
  for (let ms = 0; servers.some(({ tookMs }) => tookMs.length < 8); ms += 500) {
    assert(ms < 100_000, JSON.stringify(servers));
    await settle();
    clock.advance(500);
  }
  const turn = [1000, 1000, 1000, 4000];
  for (const { tookMs } of servers) assert.deepEqual(tookMs.slice(0, 8), [...turn, ...turn]);
  const closed = supervisor.close(0);
  await settle();
  await closed;
});

/** Lets what has settled go on. */
async function settle(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}
