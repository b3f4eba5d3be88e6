/** How long the database's answers are waited for. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { parseQueueUrl } from "../../src/postgres/address.ts";
import { AnswerTime, wireBytesOf } from "../../src/postgres/answer_time.ts";
import { Database } from "../../src/postgres/database.ts";
import { ConnectionLostError } from "../../src/postgres/errors.ts";
import { Forwarder, postgresQueue } from "../../src/postgres/postgres.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const COMMIT = "SELECT sendq.commit()", READ = "SELECT sendq.read()";

/** Asks on a path of this rate until there is an answer. Returns how often it was asked. */
function asksOn(time: AnswerTime, bytesPerS: number, bytes: number, runMs = 50): number {
  for (let asked = 1;; asked++) {
    const neededMs = runMs + bytes * 1000 / bytesPerS;
    if (neededMs <= time.allowedMs(COMMIT, bytes)) {
      time.answered(COMMIT, bytes, neededMs);
      return asked;
    }
    time.gaveUp(COMMIT);
    assert(asked < 30, `${bytes} bytes at ${bytesPerS} B/s are never answered`);
  }
}

Deno.test("a slow path is learnt with one question, and known from then on", () => {
  for (const bytesPerS of [1e9, 1e6, 1e5, 2e4, 5000]) {
    for (const bytes of [100_000, 1_000_000, 10_000_000]) {
      // Longer than an hour is not waited for anything.
      if (2 * bytes / bytesPerS > 3600) continue;
      const time = new AnswerTime(5000);
      asksOn(time, bytesPerS, bytes);
      assert.equal(asksOn(time, bytesPerS, bytes), 1, `${bytes} bytes at ${bytesPerS} B/s`);
      assert.equal(asksOn(time, bytesPerS, 2 * bytes), 1, `${2 * bytes} bytes at ${bytesPerS}`);
    }
  }
  // The largest packet there may be, on a path that is as good as local.
  assert.equal(asksOn(new AnswerTime(5000), 1e8, 2 * 64 * 1024 ** 2, 30_000), 1);
});

Deno.test("what is of no use later is asked again as soon, however often it was given up", () => {
  const time = new AnswerTime(1500, 1500);
  for (let i = 0; i < 5; i++) time.gaveUp(READ);
  assert.equal(time.allowedMs(READ, 1_000_000), 1500);
});

Deno.test("a path that is quick again is believed at once", () => {
  const time = new AnswerTime(5000);
  const allowedMs = time.allowedMs(COMMIT, 1_000_000);
  asksOn(time, 10_000, 1_000_000);
  assert(time.allowedMs(COMMIT, 1_000_000) > 100_000);
  asksOn(time, 1e8, 1_000_000);
  assert.equal(time.allowedMs(COMMIT, 1_000_000), allowedMs);
  // What had the time anyway says nothing.
  time.answered(COMMIT, 1000, 4000);
  assert.equal(time.allowedMs(COMMIT, 1_000_000), allowedMs);
});

Deno.test("a question that was given up has twice the time, up to an hour, and no other one has", () => {
  const time = new AnswerTime(5000);
  for (const allowedMs of [5000, 10_000, 20_000, 40_000]) {
    assert.equal(time.allowedMs(COMMIT, 0), allowedMs);
    time.gaveUp(COMMIT);
  }
  assert.equal(time.allowedMs(READ, 0), 5000);
  for (let i = 0; i < 20; i++) time.gaveUp(COMMIT);
  assert.equal(time.allowedMs(COMMIT, 0), 3_600_000);
  time.answered(COMMIT, 0, 1_000_000);
  assert.equal(time.allowedMs(COMMIT, 0), 5000);
  assert.equal(new AnswerTime(7_200_000).allowedMs(COMMIT, 0), 7_200_000);
  assert.equal(wireBytesOf(["{1,2}", 7, null, { a: "b" }, new Uint8Array(10)]), 25);
});

/** A server whose advisory lock 7 somebody has, until it is given back. */
async function withLock(server: PostgresServer) {
  const holder = new Database({
    address: parseQueueUrl(server.url("outbox")),
    ...{ clock: systemClock, answerTimeoutMs: 600_000, waitsForStandby: false },
  });
  await holder.ask("SELECT pg_advisory_lock(7)", []);
  return {
    release: () => holder.ask("SELECT pg_advisory_unlock(7)", []),
    [Symbol.dispose]: () => holder.close(),
  };
}

Deno.test({
  ...unless(NO_POSTGRES, "an answer is waited for while a part of it comes, and each for itself"),
  async fn() {
    await using server = await PostgresServer.start();
    using lock = await withLock(server);
    // Each timer goes off when the test says so.
    const timers = new Map<() => void, number>();
    const database = new Database({
      address: parseQueueUrl(server.url("outbox")),
      clock: {
        ...systemClock,
        nowMs: () => 0,
        setTimer(delayMs, callback) {
          timers.set(callback, delayMs);
          return () => void timers.delete(callback);
        },
      },
      ...{ answerTimeoutMs: 1000, waitsForStandby: false },
    });
    const nextMs = () => Math.round(Math.min(Infinity, ...timers.values()));
    const goOff = () => {
      const [callback] = [...timers].find(([, delayMs]) => Math.round(delayMs) === nextMs()) ?? [];
      assert(callback !== undefined);
      timers.delete(callback);
      callback();
    };
    /** Those of questions that were answered. */
    const goOffAll = () => {
      while (timers.size > 0) goOff();
    };
    const waits = (many: string) =>
      until("it waits", async () =>
        await server.sql(
          "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'",
        ) === many);
    try {
      const SLOW = "SELECT pg_advisory_xact_lock(7), length($1::text) AS length";
      const large = "x".repeat(4 * 1024 ** 2);
      await database.ask("SELECT 1", []);
      goOffAll();
      const answered = database.ask(SLOW, [large]);
      const behind = database.ask("SELECT 2 AS two", []);
      answered.catch(() => {});
      behind.catch(() => {});
      await waits("1");
      // It has a second for each MiB, and the one behind it its own time after that.
      assert.equal(nextMs(), 5000);
      await lock.release();
      assert.equal((await answered).rows[0]?.["length"], large.length);
      assert.equal((await behind).rows[0]?.["two"], 2);
      await database.ask("SELECT 3", []);
      assert.equal(nextMs(), 1000, "no small question is waited for as long");

      goOffAll();
      using again = await withLock(server);
      const lost = database.ask(SLOW, ["x"]);
      const told = assert.rejects(lost, (error) => {
        assert(error instanceof ConnectionLostError && error.sent, String(error));
        return /no answer within 1\.0 s/.test(error.message);
      });
      await waits("1");
      goOff();
      await told;
      await waits("0");
      // The login's.
      await database.ask("SELECT 4", []);
      goOffAll();
      const second = database.ask(SLOW, ["x"]);
      second.catch(() => {});
      await waits("1");
      assert.equal(nextMs(), 2000, "twice the time");
      database.hurryIn(500);
      await until("it hurries", () => nextMs() === 1000);
      await again.release();
      await second;

      // Its last row waits, and more than what lies in sockets has come of those before.
      using third = await withLock(server);
      const rows = "SELECT i, repeat('x', 1000000), CASE WHEN i = 60 THEN " +
        "pg_advisory_xact_lock(7) END FROM generate_series(1, 60) AS i";
      goOffAll();
      const long = database.ask(rows, []);
      long.catch(() => {});
      await waits("1");
      goOff();
      assert.equal(nextMs(), 1000, "it is waited for once more");
      await third.release();
      assert.equal((await long).rows.length, 60);
    } finally {
      database.close();
    }
  },
});

/** Each commit takes four times as long as an answer may below. */
const SLOW_COMMITS = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " +
  "PERFORM pg_sleep(2); RETURN NEW; END $$; CREATE TRIGGER slow BEFORE INSERT ON " +
  "sendq.run FOR EACH ROW EXECUTE FUNCTION slow()";

Deno.test({
  ...unless(NO_POSTGRES, "a change that takes longer than an answer may is made, and told of once"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    const said: string[] = [];
    const say = (level: string) => (words: string) => void said.push(`${level} ${words}`);
    const logger = {
      debug: say("debug"),
      info: say("info"),
      warn: say("warn"),
      error: say("error"),
    };
    const queue = await postgresQueue({ url, logger, answerTimeoutMs: 500 });
    try {
      await queue.enqueue("before");
      await server.sql(SLOW_COMMITS);
      assert.equal(await within("it is stored", queue.enqueue("slow")), 2);
      await server.sql("DROP TRIGGER slow ON sendq.run");
      assert.equal(await queue.enqueue("after"), 3);
      const of = (level: string) => said.filter((line) => line.startsWith(level));
      assert.match(
        of("warn").join(),
        /Queue postgres:.*no answer within 0\.5 s.*asked for again.*until it is known/,
      );
      assert.equal(of("warn").length, 1, said.join("\n"));
      assert(of("debug").length >= 1, said.join("\n"));
      assert.match(of("info").join(), /the database has answered, after [0-9.]+ s more/);
      assert.equal(of("info").length, 1, said.join("\n"));
    } finally {
      await queue.close();
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "what takes longer than an answer may is forwarded, too"),
  async fn() {
    using dir = new TempDir();
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    await server.sql(SLOW_COMMITS);
    await using queue = await OutboundQueue.open(dir.queue);
    await using forwarder = await Forwarder.open(queue, { url, edge: "e", answerTimeoutMs: 500 });
    await queue.enqueue("one");
    await within("it is forwarded", forwarder.drained());
  },
});
