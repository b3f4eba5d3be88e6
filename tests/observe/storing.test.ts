/**
 * A sender that delivers well and can store nothing: everybody who watches it sees that.
 */
import assert from "node:assert/strict";
import { FIGURES, readSender } from "../../src/observe/figures.ts";
import { serveForwarderStatus, type StatusReport } from "../../src/observe/http.ts";
import { Forwarder } from "../../src/postgres/forwarder.ts";
import { readRunningSender } from "../../src/sender/report.ts";
import { storingTeller } from "../../src/sender/tellings.ts";
import { runHere } from "../cli/helpers.ts";
import { FaultDriver } from "../queue/helpers.ts";
import { bytes } from "../support/bytes.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { StatusBench } from "./helpers.ts";

/** SQLite's number for a full disk. */
const FULL = 13;

function fullDisk(): FaultDriver {
  const driver = new FaultDriver();
  driver.failNext("INSERT INTO packets", FULL, Infinity);
  return driver;
}

Deno.test("a full disk is bad in every place, unhealthy after the limit, and over with the next packet", async () => {
  const driver = fullDisk();
  const options = { undeliverableLimitMs: 5000 };
  await using bench = await StatusBench.open(options, { queueOptions: { driver } });
  const { clock, sender, server } = bench;
  server.readAll();
  assert.equal(sender.stats().queue.storeFailure, undefined);
  assert.equal((await bench.get("/healthz")).status, 200);

  const full = { reason: "disk-full" };
  await assert.rejects(sender.enqueue(bytes("one\n")), full);
  const first = sender.stats().queue.storeFailure;
  assert(first !== undefined);
  assert.equal(first.reason, "disk-full");
  assert.equal(sender.condition.tone, "bad");
  assert.equal(sender.condition.headline, "Cannot store");
  assert.match(sender.condition.detail, /disk is full/);
  // It says since when: of the first try that failed.
  await assert.rejects(sender.enqueue(bytes("one\n")), full);
  assert.equal(sender.stats().queue.storeFailure?.sinceMs, first.sinceMs);

  assert.equal((await bench.get("/healthz")).status, 200, "not yet for too long");
  clock.advance(6000);
  const bad = await bench.get("/healthz");
  assert.equal(bad.status, 503);
  assert.match(
    bad.text,
    /^Nothing stored for \d.* \(limit 5\.0 s\)\. Cannot store\. .*disk is full/,
  );
  const report: StatusReport = JSON.parse((await bench.get("/status")).text);
  assert.equal(report.stats.queue.storeFailure?.reason, "disk-full");
  assert.equal(report.condition.headline, "Cannot store");
  const { text } = await bench.get("/metrics");
  assert.match(text, /^sendq_condition\{.*="bad".*\} 1$/m);
  const age = FIGURES.find(({ name }) => name === "sendq.queue.store_failure.age");
  const agesAt = (wallMs: number) =>
    age?.points(readSender(sender, wallMs)).map(({ value }) => value);
  assert.deepEqual(agesAt(first.sinceMs + 42_000), [42]);

  await until("other processes see it", async () => {
    const running = await readRunningSender(sender.queue.path);
    return running?.report?.storeFailure?.reason === "disk-full";
  });
  const shown = await runHere(["status", "-q", sender.queue.path]);
  assert.match(shown.out, /^state +Cannot store: /m);
  assert.match(shown.out, /^storing +not possible for .*: .*disk is full/m);

  driver.heal();
  await sender.enqueue(bytes("one\n"));
  await sender.drained();
  assert.equal(sender.stats().queue.storeFailure, undefined);
  assert.notEqual(sender.condition.tone, "bad");
  assert.equal((await bench.get("/healthz")).status, 200);
  assert.deepEqual(agesAt(first.sinceMs + 42_000), [0]);
  await until("other processes see that", async () => {
    const running = await readRunningSender(sender.queue.path);
    return running?.report !== undefined && running.report.storeFailure === undefined;
  });
});

Deno.test("who cannot store and cannot deliver says both", async () => {
  const driver = new FaultDriver();
  await using bench = await StatusBench.open({}, { queueOptions: { driver } });
  await bench.stopServer();
  await bench.sender.enqueue(bytes("one\n"));
  await until("an attempt has failed", () => bench.sender.outage !== undefined);
  driver.failNext("INSERT INTO packets", FULL, Infinity);
  await assert.rejects(bench.sender.enqueue(bytes("two\n")), { reason: "disk-full" });
  assert.equal(bench.sender.condition.headline, "Cannot store");
  assert.match(bench.sender.condition.detail, / Besides: Not delivering: /);
});

Deno.test("the log repeats that nothing is stored while it lasts, and says when it is over", () => {
  const clock = new ManualClock();
  const lines: string[] = [];
  const told = storingTeller(clock, (level, words) => void lines.push(`${level}: ${words}`));
  const failure = { reason: "disk-full", words: "the disk is full.", sinceMs: 0 } as const;
  told(failure);
  clock.advance(1000);
  told(failure);
  told(undefined);
  // Whoever enqueued was told.
  assert.deepEqual(lines.splice(0), [
    "debug: nothing can be stored: the disk is full.",
    "debug: packets are stored again, after 1.0 s",
  ]);
  told(failure);
  clock.advance(10_000);
  told(failure);
  clock.advance(300_000);
  told(failure);
  told(undefined);
  assert.deepEqual(lines, [
    "debug: nothing can be stored: the disk is full.",
    "warn: nothing was stored for 10 s: the disk is full.",
    "warn: nothing was stored for 5 min: the disk is full.",
    "info: packets are stored again, after 5 min",
  ]);
});

Deno.test("a forwarder whose file takes no packets is unhealthy after the limit", async () => {
  using dir = new TempDir();
  const clock = new ManualClock();
  const driver = fullDisk();
  const url = "postgres://nobody@127.0.0.1:1/none/outbox";
  const forwarder = await Forwarder.open(dir.queue, { url, queueOptions: { driver } });
  await using status = serveForwarderStatus(forwarder, {
    ...{ port: 0, clock, undeliverableLimitMs: 5000 },
  });
  await assert.rejects(forwarder.queue.enqueue("one"), { reason: "disk-full" });
  assert.equal(forwarder.condition.headline, "Cannot store");
  const health = async () => {
    const answer = await fetch(new URL("healthz", status.url));
    return [answer.status, await answer.text()] as const;
  };
  assert.equal((await health())[0], 200);
  clock.advance(6000);
  const [code, words] = await health();
  assert.equal(code, 503);
  assert.match(words, /^Cannot store\. .*disk is full/);
  driver.heal();
  await forwarder.queue.enqueue("one");
  assert.notEqual(forwarder.condition.headline, "Cannot store");
  await forwarder.close({ deliverTimeoutMs: 0 });
});
