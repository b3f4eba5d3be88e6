import assert from "node:assert/strict";
import type { Verdict } from "../../src/delivery/liveness.ts";
import type { DeliveryStatus, SenderState } from "../../src/delivery/status.ts";
import { conditionOf } from "../../src/sender/condition.ts";
import type { ToldStatus } from "../../src/delivery/status.ts";
import { OutageReporter, outageWords, spanWords } from "../../src/sender/outage.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { SenderBench } from "../support/sender_bench.ts";
import { until } from "../support/until.ts";

const HEALTHY: Verdict = { kind: "healthy" };
const RESET: Verdict = { kind: "reset", code: "ECONNRESET" };
const DAY_MS = 86_400_000;

/** A sender that goes through what a test tells, and what is said about it. */
const AT_REST = { storedPacketsPerSecond: 0, drainedPacketsPerSecond: 0, ackedBytesPerSecond: 0 };

class Bench implements Disposable {
  readonly clock = new ManualClock();
  readonly told: ToldStatus[] = [];
  readonly reporter: OutageReporter;
  confirmed = 0;
  queuedPackets = 100;
  #state: SenderState = "idle";
  #verdict: Verdict = HEALTHY;

  constructor() {
    this.reporter = new OutageReporter({
      clock: this.clock,
      queue: this,
      confirmedPackets: () => this.confirmed,
      tell: (status) => void this.told.push(status),
    });
  }

  stats(): { readonly packets: number } {
    return { packets: this.queuedPackets };
  }

  /** What the log shows by default. */
  get lines(): string[] {
    return this.told.filter(({ level }) => level !== "debug")
      .map(({ level, words }) => `${level}: ${words}`);
  }

  get headline(): string {
    const { outage } = this.reporter;
    const facts = { state: this.#state, verdict: this.#verdict, outage };
    return conditionOf({ ...facts, queuedPackets: this.queuedPackets, rates: AT_REST })
      .headline;
  }

  status(
    state: SenderState,
    level: DeliveryStatus["level"],
    words: string,
    { verdict = this.#verdict, error }: { verdict?: Verdict; error?: Error } = {},
  ): void {
    this.#state = state;
    this.#verdict = verdict;
    this.reporter.take({ state, verdict, level, words, error });
  }

  /** An attempt that fails after some time. */
  fail(ms: number, why = "connection refused"): void {
    this.status("connecting", "debug", "connecting");
    this.clock.advance(ms);
    const error = new Error(why);
    this.status("backing-off", "warn", `cannot connect: ${why}`, { error });
  }

  connect(): void {
    this.status("connecting", "debug", "connecting");
    this.status("connected", "info", "connected to 127.0.0.1:4000", { verdict: HEALTHY });
  }

  break(verdict: Verdict = RESET): void {
    const words = `connection given up: ${verdict.kind}; 7 packets will be sent again`;
    this.status("backing-off", "warn", words, { verdict });
  }

  confirm(): void {
    this.confirmed++;
  }

  [Symbol.dispose](): void {
    this.reporter.stop();
  }
}

Deno.test("who is heard and acknowledges nothing does not get what is sent, and it is said", () => {
  const look = (oldestUnackedMs: number, ackedBytesPerSecond: number) =>
    conditionOf({
      state: "connected",
      verdict: { kind: "slow", oldestUnackedMs, silenceMs: 100 },
      outage: undefined,
      queuedPackets: 9,
      rates: { ...AT_REST, ackedBytesPerSecond },
    });
  const stuck = look(28_000, 0);
  assert.deepEqual([stuck.tone, stuck.headline], ["bad", "Not delivering"]);
  assert.equal(stuck.detail, "The oldest unacknowledged byte has waited 28.0 s.");
  // A slow link, however deep its queue, and a gap on a lossy one deliver.
  for (const { tone, headline } of [look(28_000, 1000), look(5000, 0)]) {
    assert.deepEqual([tone, headline], ["warning", "Slow"]);
  }
});

Deno.test("outage: a line at its begin, one at its end, with how long and how many attempts", () => {
  using bench = new Bench();
  bench.connect();
  bench.break();
  for (let i = 0; i < 30; i++) bench.fail(i % 4 === 3 ? 1 : 500, `no answer within ${i % 4} s`);
  assert.equal(bench.headline, "Not delivering");
  bench.connect();
  assert.equal(bench.headline, "Recovering");
  bench.clock.advance(5000);
  assert.equal(bench.lines.length, 2, "a connection alone is no end");
  bench.confirm();
  bench.clock.advance(1000);
  assert.deepEqual(bench.lines, [
    "info: connected to 127.0.0.1:4000",
    "warn: connection given up: reset; 7 packets will be sent again",
    "info: packets get through again, after 11 s: 30 attempts failed, 1 connection broke",
  ]);
  assert.equal(bench.reporter.outage, undefined);
  assert.equal(bench.headline, "Connected");
});

Deno.test("outage: a server out of reach for a day costs some thirty lines, which count", () => {
  using bench = new Bench();
  let attempts = 0;
  for (; bench.clock.nowMs() < DAY_MS; attempts++) {
    // Words whose numbers change are the same words.
    bench.fail(1000 + 1000 * (attempts % 2), `no answer within ${1 + attempts % 2} s`);
  }
  assert(bench.lines.length > 24 && bench.lines.length < 40, `${bench.lines.length} lines`);
  const { outage } = bench.reporter;
  assert.equal(outage?.failedAttempts, attempts);
  assert.match(bench.lines[1] ?? "", /^warn: still not delivering after 60 s: 40 attempts failed;/);
  assert.match(
    bench.lines.at(-1) ?? "",
    / after 23 h \d+ min: \d+ attempts failed; last: no answer/,
  );
  assert.match(
    outageWords(outage!, bench.clock.wallMs()),
    /^for 23 h 59 min: \d+ attempts failed$/,
  );
});

Deno.test("outage: a server that accepts and drops ten times a second is one outage", () => {
  using bench = new Bench();
  let broken = 0;
  for (; bench.clock.nowMs() < DAY_MS / 4; broken++) {
    bench.connect();
    bench.clock.advance(50);
    bench.break();
    bench.clock.advance(50);
  }
  assert(bench.lines.length < 20, `${bench.lines.length} lines`);
  assert.equal(bench.reporter.outage?.brokenConnections, broken);
  bench.connect();
  assert.equal(bench.headline, "Not delivering", "a connection that will break as well");
});

Deno.test("outage: each way in which connections end in it is told once", () => {
  using bench = new Bench();
  bench.fail(100);
  const dead: Verdict = { kind: "path-dead", silenceMs: 3000, hint: undefined };
  for (let i = 0; i < 20; i++) {
    bench.connect();
    bench.break(i % 2 === 0 ? RESET : dead);
    bench.fail(100, `another reason ${i}`);
  }
  assert.deepEqual(bench.lines, [
    "warn: cannot connect: connection refused",
    "warn: connection given up: reset; 7 packets will be sent again",
    "warn: connection given up: path-dead; 7 packets will be sent again",
  ]);
});

Deno.test("outage: one that comes back again and again has to stay away for longer", () => {
  using bench = new Bench();
  // Each connection confirms something, and breaks.
  for (; bench.clock.nowMs() < DAY_MS / 4;) {
    bench.connect();
    bench.clock.advance(1500);
    bench.confirm();
    bench.clock.advance(1500);
    bench.break();
  }
  assert(bench.lines.length < 25, bench.lines.join("\n"));
  assert.match(bench.lines.at(-1) ?? "", /^warn: still (unsteady|not delivering) after/);
  bench.connect();
  bench.clock.advance(1000);
  bench.confirm();
  assert.equal(bench.headline, "Unsteady");
  bench.clock.advance(400_000);
  assert.match(bench.lines.at(-1) ?? "", /^info: packets get through again, after/);
  assert.equal(bench.headline, "Connected");
});

Deno.test("outage: connections that confirm packets and break are unsteady, also as each begins", () => {
  using bench = new Bench();
  const seen = new Set<string>();
  for (let i = 0; i < 100; i++) {
    bench.connect();
    if (i > 5) seen.add(bench.headline);
    bench.clock.advance(1500);
    bench.confirm();
    bench.clock.advance(500);
    if (i > 5) seen.add(bench.headline);
    bench.break();
  }
  assert.deepEqual([...seen], ["Unsteady"]);
  assert.ok(!bench.lines.some((line) => line.includes("not delivering")), bench.lines.join("\n"));
  // Out of reach is out of reach, and whoever confirms nothing any more does not deliver.
  bench.fail(100);
  assert.equal(bench.headline, "Not delivering");
  bench.connect();
  bench.break();
  bench.connect();
  assert.equal(bench.headline, "Not delivering");
  bench.confirm();
  assert.equal(bench.headline, "Unsteady");
});

Deno.test("outage: what was dropped or has expired meanwhile has not got through", async () => {
  const lines: string[] = [];
  const tell = (words: string) => void lines.push(words);
  await using bench = new SenderBench({
    ...{ holdMs: 60_000, backoffFirstMs: 200, backoffCapMs: 200 },
    queueOptions: { overflow: "drop-oldest", maxPackets: 2 },
    logger: { debug: () => {}, info: tell, warn: tell, error: tell },
  });
  const sender = await bench.open();
  await sender.enqueue("never confirmed\n");
  const first = await bench.server.accept();
  await first.skip(16);
  first.close();
  await until("it broke", () => sender.state === "backing-off");
  for (let n = 0; n < 5; n++) await sender.enqueue(`another ${n}\n`);
  assert.equal(sender.queue.stats().droppedPackets, 4);
  const second = await bench.server.accept();
  await second.readUntil("another 4\n");
  await until("it is held", () => sender.stats().heldPackets === 2);
  assert.equal(sender.stats().confirmedPackets, 0);
  assert.equal(sender.outage?.confirms, false);
  assert.equal(sender.condition.headline, "Recovering");
  assert.ok(!lines.some((line) => line.includes("get through")), lines.join("\n"));
});

Deno.test("outage: where the last packets have expired, nothing is left to send", () => {
  using bench = new Bench();
  bench.connect();
  bench.break();
  bench.connect();
  bench.queuedPackets = 0;
  bench.clock.advance(1000);
  assert.equal(bench.reporter.outage, undefined);
  assert.match(bench.lines.at(-1) ?? "", /^info: nothing is left to send, after/);
});

Deno.test("outage: a stalled server is one, until it reads again and something is confirmed", () => {
  using bench = new Bench();
  bench.connect();
  const stalled: Verdict = { kind: "peer-stalled", stalledMs: 3000 };
  bench.status("connected", "warn", "peer stalled: has not read for 3 s", { verdict: stalled });
  assert.equal(bench.headline, "Server does not read");
  bench.clock.advance(5000);
  bench.status("connected", "debug", "healthy", { verdict: HEALTHY });
  bench.confirm();
  bench.clock.advance(1000);
  assert.deepEqual(bench.lines.slice(1), [
    "warn: peer stalled: has not read for 3 s",
    "info: packets get through again, after 5.0 s",
  ]);
});

Deno.test("outage: a window that is closed for a moment is none, and no line", () => {
  using bench = new Bench();
  bench.connect();
  const closed = (stalledMs: number): Verdict => ({ kind: "peer-stalled", stalledMs });
  bench.status("connected", "debug", "peer stalled: 0.0 s", { verdict: closed(40) });
  assert.equal(bench.reporter.outage, undefined);
  bench.status("connected", "debug", "healthy", { verdict: HEALTHY });
  assert.deepEqual(bench.lines.slice(1).filter((line) => !line.startsWith("debug")), []);
  bench.status("connected", "debug", "peer stalled: 0.0 s", { verdict: closed(0) });
  bench.status("connected", "warn", "peer stalled: 1.0 s", { verdict: closed(1000) });
  assert.notEqual(bench.reporter.outage, undefined);
  assert.equal(bench.lines.at(-1), "warn: peer stalled: 1.0 s");
});

Deno.test("outage: with nothing left to send it is over; a break with nothing to send is none", () => {
  using bench = new Bench();
  bench.connect();
  bench.status("idle", "warn", "connection given up: reset", { verdict: RESET });
  assert.equal(bench.reporter.outage, undefined);
  bench.fail(1000);
  bench.clock.advance(3000);
  bench.status("idle", "debug", "nothing to send");
  assert.equal(bench.lines.at(-1), "info: nothing is left to send, after 3.0 s: 1 attempt failed");
  bench.fail(1000);
  bench.connect();
  bench.confirm();
  bench.status("idle", "info", "the connection ended in order");
  assert.match(bench.lines.at(-1) ?? "", /^info: packets get through again, after/);
  bench.fail(1000);
  bench.status("closed", "info", "closed");
  assert.equal(bench.lines.at(-1), "info: closed");
  assert.equal(bench.reporter.outage, undefined);
});

Deno.test("outage: a fault of the disk in it is told at its own level", () => {
  using bench = new Bench();
  bench.fail(1000);
  const error = new Error("disk full");
  bench.status("backing-off", "error", "cannot remove packets: disk full", { error });
  assert.equal(bench.lines.at(-1), "error: cannot remove packets: disk full");
  assert.equal(bench.told.at(-1)?.failure, true);
});

Deno.test("what repeats itself is told now and then, with a count; what happens again is told", () => {
  using bench = new Bench();
  const drop = (count: number) => {
    const words = `the queue is full: dropped the ${count} oldest packets`;
    bench.reporter.mention({
      ...{ state: "connected", verdict: HEALTHY, level: "warn", error: undefined },
      words,
    });
  };
  for (; bench.clock.nowMs() < DAY_MS; bench.clock.advance(100)) drop(bench.clock.nowMs());
  assert(bench.lines.length < 40, `${bench.lines.length} lines`);
  assert.match(
    bench.lines[1] ?? "",
    /dropped the 10000 oldest packets \(and 99 times more like this\)$/,
  );
  const before = bench.lines.length;
  for (let i = 0; i < 5; i++) {
    bench.clock.advance(2 * 3_600_000);
    drop(1);
  }
  assert.equal(bench.lines.length, before + 5);
});

Deno.test("spans in words", () => {
  const cases: [number, string][] = [
    [0, "0.0 s"],
    [9949, "9.9 s"],
    [42_900, "42 s"],
    [180_000, "3 min"],
    [7_500_000, "2 h 5 min"],
    [3 * DAY_MS + 7_200_000, "3 d 2 h"],
  ];
  for (const [ms, words] of cases) assert.equal(spanWords(ms), words);
});

Deno.test("outage: a stall that a connection's end has overtaken is its cause no more", () => {
  using bench = new Bench();
  bench.connect();
  const stall: Verdict = { kind: "peer-stalled", stalledMs: 1000 };
  bench.status("connected", "warn", "peer stalled", { verdict: stall });
  assert.match(bench.reporter.outage?.cause ?? "", /^peer stalled/);
  bench.break({ kind: "path-dead", silenceMs: 3000, hint: undefined });
  bench.fail(1000, "no answer within 1.0 s");
  const { cause, latest } = bench.reporter.outage ?? {};
  assert.match(cause ?? "", /^path dead/);
  assert.equal(latest, "no answer within 1.0 s");
  bench.break();
  assert.match(bench.reporter.outage?.cause ?? "", /^path dead/, "what came first stays");
});
