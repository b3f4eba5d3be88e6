/**
 * What answers to KeyUpdates prove, against models of TLS libraries of which it is known
 * what they have read.
 */

import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { Reading } from "../../src/tls/reading.ts";
import { ManualClock } from "../support/manual_clock.ts";

/** How a library answers a request. */
type Manner =
  /** Each at once. */
  | "at once"
  /** With the next message that it reads, or with its next data: OpenSSL. */
  | "with the next"
  /** One answer for all that it has read in one go. */
  | "once for several";

/** A peer whose program reads what it is told to. */
class Peer {
  readonly #manner: Manner;
  /** What has been sent and not been read: bytes of data, or requests. */
  readonly #incoming: (number | "request")[] = [];
  /** Its KeyUpdates on their way to us: whether each asks for one in return. */
  readonly outgoing: boolean[] = [];
  #owes = false;
  readBytes = 0;
  arrivedBytes = 0;

  constructor(manner: Manner) {
    this.#manner = manner;
  }

  get unread(): number {
    return this.#incoming.length;
  }

  data(bytes: number): void {
    this.#incoming.push(bytes);
    this.arrivedBytes += bytes;
  }

  request(count: number): void {
    for (let i = 0; i < count; i++) this.#incoming.push("request");
  }

  read(items: number): void {
    let requests = 0;
    for (const item of this.#incoming.splice(0, items)) {
      if (item !== "request") this.readBytes += item;
      else if (this.#manner === "at once") this.outgoing.push(false);
      else if (this.#manner === "once for several") requests++;
      else {
        if (this.#owes) this.outgoing.push(false);
        this.#owes = true;
      }
    }
    if (requests > 0) this.outgoing.push(false);
  }

  /** Its program sends data. */
  writes(): void {
    if (this.#owes) this.outgoing.push(false);
    this.#owes = false;
  }

  /** It changes its key of its own accord. */
  changesKey(): void {
    this.outgoing.push(false);
  }

  /** It does, and asks us to do the same; OpenSSL then forgets the answer that it owes. */
  asks(): void {
    this.#owes = false;
    this.outgoing.push(true);
  }
}

/** What happens between the two, one step after the other. */
type Step =
  | { readonly kind: "sends"; readonly bytes: number }
  | { readonly kind: "waits"; readonly ms: number }
  | { readonly kind: "reads"; readonly items: number }
  | { readonly kind: "hears"; readonly answers: number }
  | { readonly kind: "writes" | "asks" };

const STEP = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("sends"), bytes: fc.nat(200_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("waits"), ms: fc.nat(150) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("reads"), items: fc.nat(8) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("hears"), answers: fc.nat(6) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("writes") }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("asks") }) },
) as fc.Arbitrary<Step>;

class Run {
  readonly clock = new ManualClock();
  readonly peer: Peer;
  readonly reading: Reading;
  #sentBytes = 0;
  requests = 0;

  constructor(manner: Manner) {
    const peer = this.peer = new Peer(manner);
    this.reading = new Reading({
      clock: this.clock,
      ask: (count) => {
        this.requests += count;
        peer.request(count);
      },
    });
    this.reading.ping();
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  take(step: Step): void {
    switch (step.kind) {
      case "sends":
        this.peer.data(step.bytes);
        this.reading.wrote(this.#sentBytes += step.bytes);
        break;
      case "waits":
        this.clock.advance(step.ms);
        break;
      case "reads":
        this.peer.read(step.items);
        break;
      case "hears":
        this.hear(step.answers);
        break;
      case "writes":
        this.peer.writes();
        break;
      case "asks":
        this.peer.asks();
        break;
      default:
        step satisfies never;
    }
    this.check();
  }

  hear(answers: number): void {
    for (const asking of this.peer.outgoing.splice(0, answers)) {
      this.reading.keyUpdated(asking, () => this.peer.arrivedBytes);
      this.check();
    }
  }

  check(): void {
    const { readBytes } = this.reading;
    assert.ok(readBytes <= this.peer.readBytes, `${readBytes} of ${this.peer.readBytes} read`);
  }

  /** Everything is read and heard. */
  comeToRest(): void {
    for (let turn = 0; turn < 100; turn++) {
      this.peer.read(Infinity);
      this.hear(Infinity);
      this.clock.advance(1000);
    }
  }
}

const MANNERS: readonly Manner[] = ["at once", "with the next", "once for several"];

for (const manner of MANNERS) {
  Deno.test(`answers that come ${manner} never prove too much`, () => {
    fc.assert(
      fc.property(fc.array(STEP, { maxLength: 120 }), (steps) => {
        const run = new Run(manner);
        // More often than that, and the connection fails.
        let asks = 0;
        for (const step of steps) if (step.kind !== "asks" || ++asks <= 8) run.take(step);
        run.comeToRest();
        // Who answers each is understood to the last byte.
        if (manner !== "once for several") assert.equal(run.reading.readBytes, run.sentBytes);
      }),
      { numRuns: 1000 },
    );
  });
}

for (const manner of ["at once", "with the next"] as const) {
  Deno.test(`one KeyUpdate of the peer's own does no harm: answers ${manner}`, () => {
    fc.assert(
      fc.property(
        fc.array(STEP, { maxLength: 120 }),
        fc.nat(120),
        (steps, ownAt) => {
          const run = new Run(manner);
          try {
            steps.forEach((step, index) => {
              if (index === ownAt) run.peer.changesKey();
              run.take(step);
            });
            run.comeToRest();
          } catch (error) {
            // Found out; from then on nothing is proven any more.
            assert.equal((error as { code?: string }).code, "TLS_KEY_UPDATE", String(error));
          }
          run.check();
        },
      ),
      { numRuns: 1000 },
    );
  });
}

Deno.test("a KeyUpdate that nobody has asked for is found out once all has come to rest", () => {
  const run = new Run("at once");
  run.take({ kind: "sends", bytes: 70_000 });
  run.peer.changesKey();
  assert.throws(() => run.comeToRest(), {
    code: "TLS_KEY_UPDATE",
    message: /changes its key of its own accord/,
  });
  run.check();
});

Deno.test("a peer that changes its key again and again, and asks for ours, is given up", () => {
  const run = new Run("with the next");
  assert.throws(() => {
    for (let i = 0; i < 9; i++) {
      run.take({ kind: "sends", bytes: 70_000 });
      run.take({ kind: "reads", items: 2 });
      run.take({ kind: "asks" });
      run.take({ kind: "hears", answers: 9 });
    }
  }, { code: "TLS_KEY_UPDATE" });
  run.check();
});

Deno.test("an answer that comes before the data has arrived proves nothing, and is said", () => {
  const clock = new ManualClock();
  const reading = new Reading({ clock, ask: () => {} });
  reading.wrote(1000);
  clock.advance(100);
  assert.equal(reading.keyUpdated(false, () => 999), false);
  assert.throws(() => reading.keyUpdated(false, () => 999), {
    code: "TLS_KEY_UPDATE",
    message: /has read 1000 bytes, of which its kernel has acknowledged 999/,
  });
  assert.equal(reading.readBytes, 0);
});

Deno.test("a ping goes out after 64 KiB or 100 ms, never without data; eight by the time", () => {
  const clock = new ManualClock();
  const asked: number[] = [];
  const reading = new Reading({ clock, ask: (count) => asked.push(count) });
  clock.advance(10_000);
  assert.deepEqual(asked, []);
  reading.wrote(1);
  clock.advance(99);
  assert.deepEqual(asked, []);
  clock.advance(1);
  assert.deepEqual(asked, [3]);
  reading.wrote(65_536);
  assert.deepEqual(asked, [3]);
  reading.wrote(65_537);
  assert.deepEqual(asked, [3, 3]);
  for (let bytes = 65_538; bytes < 65_600; bytes++) {
    reading.wrote(bytes);
    clock.advance(1000);
  }
  assert.equal(asked.length, 8);
  // Of the first ping, two; the ninth one stands for everything since the eighth.
  for (let i = 0; i < 2; i++) reading.keyUpdated(false, () => Infinity);
  assert.equal(asked.length, 8);
  clock.advance(100);
  assert.equal(asked.length, 9);
  assert.equal(reading.readBytes, 1);
  for (let i = 0; i < 24; i++) reading.keyUpdated(false, () => Infinity);
  assert.equal(reading.readBytes, 65_599);
  assert.equal(reading.awaitsAnswer, false);
});

for (const manner of ["at once", "with the next"] as const) {
  Deno.test(`a peer that reads megabytes slowly is seen to read on: answers ${manner}`, () => {
    const run = new Run(manner);
    run.take({ kind: "reads", items: 3 });
    run.take({ kind: "hears", answers: 9 });
    for (let i = 0; i < 256; i++) run.take({ kind: "sends", bytes: 32_768 });
    run.take({ kind: "waits", ms: 1000 });
    // What is known lags behind by the piece that a ping stands for, and for OpenSSL, which
    // owes an answer, by one more.
    for (let lastBytes = 0; run.peer.unread > 0;) {
      run.take({ kind: "reads", items: 1 });
      run.take({ kind: "hears", answers: 9 });
      const { readBytes } = run.reading;
      assert.ok(readBytes >= lastBytes);
      assert.ok(run.peer.readBytes - readBytes <= 2 * 65_536, `${readBytes} known to be read`);
      lastBytes = readBytes;
    }
    run.comeToRest();
    assert.equal(run.reading.readBytes, 8 * 1024 * 1024);
  });
}

Deno.test("nothing is asked on a connection that is over; the rest is asked for before it ends", () => {
  const clock = new ManualClock();
  let asked = 0;
  const reading = new Reading({ clock, ask: (count) => asked += count });
  reading.pingForRest();
  assert.equal(asked, 0);
  reading.wrote(10);
  reading.pingForRest();
  assert.equal(asked, 3);
  reading.wrote(20);
  reading.end();
  clock.advance(1000);
  reading.ping();
  assert.equal(asked, 3);
  assert.equal(clock.timers.size, 0);
});
