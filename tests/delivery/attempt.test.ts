/**
 * Each part of an attempt has a limit of its own, and says which one was met.
 */
import assert from "node:assert/strict";
import { SessionRefusedError } from "../../src/base/errors.ts";
import type { Dialer, SocketSample, Wire } from "../../src/base/ports.ts";
import { Attempt } from "../../src/delivery/attempt.ts";
import { planOf, type Session } from "../../src/session/session.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";

class Bench {
  readonly clock = new ManualClock();
  readonly attempt: Attempt;
  /** What happened to the wire. */
  readonly log: string[] = [];
  bytesAcked = 1;
  sendQueueBytes = 0;
  #onLookedUp: (() => void) | undefined;
  readonly #dialed = Promise.withResolvers<Wire>();
  #read: PromiseWithResolvers<number | null> | undefined;
  #buffer: Uint8Array = new Uint8Array();

  constructor(session?: Session, waits = false) {
    const dialer: Dialer = {
      remote: "tcp://server:1",
      waits,
      dial: (_signal, onLookedUp) => {
        this.#onLookedUp = onLookedUp;
        return this.#dialed.promise;
      },
    };
    this.attempt = new Attempt({
      dialer,
      clock: this.clock,
      session: () => session && planOf(session),
      lookUpTimeoutMs: 8000,
      connectTimeoutMs: 1000,
      onNews: () => {},
    });
  }

  async lookUp(): Promise<void> {
    this.#onLookedUp?.();
    await this.settle();
  }

  async connect(): Promise<void> {
    const wire: Partial<Wire> = {
      write: (chunk) => {
        this.log.push(new TextDecoder().decode(chunk));
        return Promise.resolve(chunk.length);
      },
      read: (buffer) => {
        this.#buffer = buffer;
        this.#read = Promise.withResolvers();
        return this.#read.promise;
      },
      sample: () =>
        ({
          state: 1,
          bytesAcked: this.bytesAcked,
          sendQueueBytes: this.sendQueueBytes,
        }) as SocketSample,
      localFault: () => undefined,
      abort: () => void this.log.push("abort"),
    };
    this.#dialed.resolve(wire as Wire);
    await this.settle();
  }

  async answer(text: string): Promise<void> {
    this.#buffer.set(bytes(text));
    this.#read?.resolve(text.length);
    await this.settle();
  }

  async advance(ms: number): Promise<void> {
    this.clock.advance(ms);
    await this.settle();
  }

  async settle(): Promise<void> {
    for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 0));
  }

  look(mustEnd = false) {
    return this.attempt.look(this.clock.nowMs(), mustEnd);
  }

  failure() {
    const result = this.look();
    assert.ok(result.kind === "failed" && result.error instanceof Error, result.kind);
    return { words: result.error.message, verdict: result.verdict?.kind, error: result.error };
  }
}

const LOGIN: Session = { open: [{ send: "login\n", expect: "ok\n" }], timeoutMs: 5000 };

Deno.test("look-up and connect have their own limits, and their own words", async () => {
  const bench = new Bench();
  await bench.advance(7999);
  assert.deepEqual(bench.look(), { kind: "waiting", waitMs: 1 });
  await bench.advance(1);
  assert.match(bench.failure().words, /could not be looked up within 8.0 s/);
  const other = new Bench();
  await other.advance(7999);
  await other.lookUp();
  await other.advance(1000);
  assert.match(other.failure().words, /no answer within 1.0 s/);
  // What comes too late belongs to nobody.
  await other.connect();
  assert.deepEqual(other.log, ["abort"]);
});

Deno.test("without a session a connection is opened at once", async () => {
  const bench = new Bench({ separate: true });
  await bench.lookUp();
  await bench.connect();
  assert.equal(bench.look().kind, "opened");
});

Deno.test("a session may take longer than a connect, and no longer than its own time", async () => {
  const bench = new Bench(LOGIN);
  await bench.lookUp();
  await bench.connect();
  await bench.advance(4999);
  assert.equal(bench.look().kind, "waiting");
  await bench.advance(1);
  const { words, verdict } = bench.failure();
  assert.match(words, /^the session: no answer, expected was "ok\\n" within 5.0 s \(ETIMEDOUT\)/);
  assert.equal(verdict, undefined);
  assert.deepEqual(bench.log, ["login\n", "abort"]);
});

Deno.test("it is opened once each of its bytes is acknowledged, and not by less or more", async () => {
  const bench = new Bench(LOGIN);
  await bench.lookUp();
  await bench.connect();
  bench.sendQueueBytes = 1;
  bench.bytesAcked = 6;
  await bench.answer("ok\n");
  await bench.advance(1000);
  assert.equal(bench.look().kind, "waiting");
  bench.sendQueueBytes = 0;
  bench.bytesAcked = 7;
  await bench.advance(50);
  assert.equal(bench.look().kind, "opened");
  assert.deepEqual(bench.log, ["login\n"]);
});

for (
  const [name, bytesAcked, sendQueueBytes, afterMs] of [
    ["more than was written", 8, 0, 0],
    ["less, for a second, and nothing queued", 6, 0, 1200],
  ] as const
) {
  Deno.test(`counters that contradict each other open nothing: ${name}`, async () => {
    const bench = new Bench(LOGIN);
    await bench.lookUp();
    await bench.connect();
    Object.assign(bench, { bytesAcked, sendQueueBytes });
    await bench.answer("ok\n");
    for (let waitedMs = 0; waitedMs < afterMs; waitedMs += 50) await bench.advance(50);
    assert.match(bench.failure().words, /tcpi_bytes_acked says that [57] bytes of the session/);
  });
}

Deno.test("a refusal has its verdict", async () => {
  const bench = new Bench(LOGIN);
  await bench.lookUp();
  await bench.connect();
  await bench.answer("no\n");
  const { verdict, error } = bench.failure();
  assert.equal(verdict, "session-refused");
  assert.ok(error instanceof SessionRefusedError && error.said === '"no\\n"');
});

Deno.test("a sender that must end gives a session up, and resets its connection", async () => {
  const bench = new Bench(LOGIN);
  await bench.lookUp();
  await bench.connect();
  assert.equal(bench.look(true).kind, "failed");
  await bench.settle();
  assert.deepEqual(bench.log, ["login\n", "abort"]);
});

Deno.test("one that was opened and is not taken is reset", async () => {
  const bench = new Bench();
  await bench.connect();
  bench.attempt.abort();
  assert.deepEqual(bench.log, ["abort"]);
});

Deno.test("who connects to us is waited for without a limit, and the session has its own", async () => {
  const bench = new Bench({ open: [{ send: "hello" }], timeoutMs: 2000 }, true);
  await bench.lookUp();
  bench.clock.advance(86_400_000);
  assert.deepEqual(bench.attempt.look(bench.clock.nowMs(), false), {
    kind: "waiting",
    waitMs: Infinity,
  });
  const ended = bench.attempt.look(bench.clock.nowMs(), true);
  assert.ok(ended.kind === "failed" && ended.error instanceof Error);
  assert.match(ended.error.message, /nobody has connected within 86400\.0 s/);
});
