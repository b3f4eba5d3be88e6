import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { FencedError, OptionError, QueueFileError, QueueFullError } from "../../src/base/errors.ts";
import {
  OutcomeUnknownError,
  postgresInspector,
  postgresQueue,
  type PostgresQueueOptions,
  setUp,
} from "../../src/postgres/postgres.ts";
import { SCHEMA_VERSION } from "../../src/postgres/setup.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { Database } from "../../src/postgres/database.ts";
import { settingsOf } from "../../src/postgres/options.ts";
import { STATE } from "../../src/postgres/sql/shared.ts";
import { Sender } from "../../src/sender/sender.ts";
import { unless } from "../queue/helpers.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";
import { LossyProxy } from "./lossy_proxy.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

type Part = (t: { server: PostgresServer; url: string }) => Promise<void>;
const parts: [name: string, run: Part][] = [];
const part = (name: string, run: Part) => parts.push([name, run]);

/** What one server is enough for. */
function open(
  url: string,
  options: Omit<PostgresQueueOptions, "url"> = {},
): Promise<OutboundQueue> {
  return postgresQueue({ url, durability: "power-loss", ...options });
}

async function idsGiven(queue: OutboundQueue): Promise<number[]> {
  const batches = await sendingSideOf(queue).readBatches(0, 1000);
  return batches.flatMap(({ firstId, ends }) => Array.from(ends, (_, i) => firstId + i));
}

const isOf = (reason: string, words: RegExp) => (error: unknown) =>
  error instanceof QueueFileError && error.reason === reason && words.test(error.message);

part("two producers: ids follow commits without a gap, each packet once", async ({ url }) => {
  await using one = await open(url);
  await using two = await open(url);
  const ids: number[] = [];
  await Promise.all([one, two].map(async (queue, which) => {
    for (let i = 0; i < 60; i++) {
      ids.push(
        ...await Promise.all([
          queue.enqueue(`${which} ${i} a`),
          queue.enqueue(`${which} ${i} b`),
        ]),
      );
    }
  }));
  assert.deepEqual(ids.toSorted((a, b) => a - b), Array.from({ length: 240 }, (_, i) => i + 1));
  const packets = await one.read(0, 1e6);
  const texts = packets.map(({ payload }) => new TextDecoder().decode(payload));
  assert.equal(new Set(texts).size, 240);
  // Those of each producer are in the order of its calls.
  for (const which of ["0", "1"]) {
    const own = texts.filter((text) => text.startsWith(which));
    const wanted = Array.from({ length: 60 }, (_, i) => [`${which} ${i} a`, `${which} ${i} b`]);
    assert.deepEqual(own, wanted.flat());
  }
});

part("a lost answer is asked for again, and nothing is stored twice", async ({ server, url }) => {
  await using proxy = new LossyProxy(server.port);
  await using queue = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`));
  for (let i = 1; i <= 20; i++) {
    proxy.breakNext(i % 2 === 0 ? "answer" : "question");
    assert.equal(await queue.enqueue(`packet ${i}`), i);
  }
  assert(proxy.broken >= 20, `${proxy.broken} connections were broken`);
  assert.equal(queue.stats().packets, 20);
});

part("a server that is silent: the question is asked again elsewhere", async ({ server, url }) => {
  await using proxy = new LossyProxy(server.port);
  const { port } = server;
  const both = url.replace(`127.0.0.1:${port}/`, `127.0.0.1:${proxy.port},127.0.0.1:${port}/`);
  await using queue = await open(both, { answerTimeoutMs: 500 });
  assert.equal(await queue.enqueue("over the first"), 1);
  proxy.silence();
  assert.equal(await queue.enqueue("over the second"), 2);
});

part("a queue that is closed without an answer says so", async ({ server, url }) => {
  await using proxy = new LossyProxy(server.port);
  const queue = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`), {
    busyTimeoutMs: 300,
    answerTimeoutMs: 500,
  });
  proxy.silence();
  const stored = queue.enqueue("perhaps").catch((error) => error);
  await new Promise((resolve) => setImmediate(resolve));
  await queue.close();
  const error = await stored;
  assert(error instanceof OutcomeUnknownError, String(error));
  assert.match(error.message, /may store it twice/);
});

part("a database that cannot be reached: nothing is stored, and that is known", async ({ url }) => {
  await using gone = new LossyProxy(1);
  const there = await open(url);
  await there.close();
  const nowhere = url.replace(/:[0-9]+\//, `:${gone.port}/`);
  await assert.rejects(open(nowhere, { busyTimeoutMs: 100 }), isOf("busy", /can be reached/));
});

part("a number that was used up stores nothing any more", async ({ server, url }) => {
  const queue = await open(url);
  await queue.close();
  const name = url.slice(url.lastIndexOf("/") + 1);
  const args = `'${decodeURIComponent(name)}', '7a0b3f9e-0000-4000-8000-000000000001', 1`;
  const id = await server.sql(`SELECT sendq.open_queue('${decodeURIComponent(name)}')->'id'`);
  const at = Object.keys(STATE).indexOf("packets");
  const commit = `SELECT sendq.commit(${args}, ${id}, 'power-loss', NULL, 0, 9, 9, ` +
    "0, NULL, 0, 9, 99, 'reject', '{1}', '{1}', '{1}', '{1}', '{0}', '{1}', 'x')" +
    "->>'state'";
  assert.equal(await server.sql(`SELECT sendq.void(${args})`), '{"void": true}');
  const packets = (state: string) => state.split(",")[at];
  assert.equal(packets(await server.sql(commit)), "0");
  // The other way around: it was done, and that is said.
  const other = commit.replace("0001", "0002");
  assert.equal(packets(await server.sql(other)), "1");
  const told = await server.sql(`SELECT sendq.void(${args.replace("0001", "0002")})->'first'`);
  assert.equal(told, "1");
});

part("a reading takes no row that it does not give", async ({ server, url }) => {
  {
    await using queue = await open(url);
    for (let i = 0; i < 3; i++) await queue.enqueue("x".repeat(1000));
    // One row, ids 4 to 13.
    await queue.enqueueMany(Array.from({ length: 10 }, () => "x".repeat(100)));
    await queue.enqueue("x".repeat(1000));
  }
  const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
  const rows = (afterId: number, maxBytes: number) =>
    server.sql(`SELECT count(*) FROM sendq.read('${name}', ${afterId}, ${maxBytes})`);
  assert.equal(await rows(0, 1000), "1");
  assert.equal(await rows(0, 1), "1");
  assert.equal(await rows(1, 2000), "2");
  // Of a row that begins before it nobody asks how much is left.
  assert.equal(await rows(10, 300), "2");
});

part("a database that has gone back is noticed", async ({ server, url }) => {
  await using queue = await open(url);
  await queue.enqueue("one");
  await server.sql("DELETE FROM sendq.producer");
  await assert.rejects(queue.enqueue("two"), isOf("io", /gone back.*missing/s));
  assert.equal(await queue.enqueue("three"), 2);
});

part("limits hold across producers", async ({ url }) => {
  await using one = await open(url, { maxPackets: 3 });
  await using two = await open(url, { maxPackets: 3, overflow: "wait" });
  await one.enqueueMany(["a", "b"]);
  await assert.rejects(one.enqueueMany(["c", "d"]), QueueFullError);
  const waiting = two.enqueueMany(["e", "f"]);
  const tenure = await sendingSideOf(one).takeTenure(systemClock);
  await sendingSideOf(one).removeThrough(1);
  assert.deepEqual(await waiting, { firstId: 3, lastId: 4 });
  await tenure.release();
});

part("each role may do what it has to, and no more", async ({ server, url }) => {
  const name = url.slice(url.lastIndexOf("/") + 1);
  const users = ["producer", "sender", "operator"].map((role) => `${role}_${server.port}`);
  for (const user of users) {
    const role = `sendq_${user.split("_")[0]}`;
    await server.sql(`CREATE USER ${user}; GRANT ${role} TO ${user}`);
  }
  await server.sql(`CREATE USER nobody_${server.port}`);
  const as = (user: string) => `postgres://${user}@127.0.0.1:${server.port}/postgres/${name}`;
  const [producer = "", sender = "", operator = ""] = users.map(as);
  const lacks = (user: string | undefined, role: string) =>
    isOf("read-only", new RegExp(`the user ${user} is no ${role}\\..*GRANT ${role} TO ${user}\\.`));

  await assert.rejects(
    open(as(`nobody_${server.port}`)),
    isOf("read-only", /permission denied .* GRANT sendq_producer TO it/),
  );
  await using enqueueing = await open(producer);
  assert.equal(await enqueueing.enqueue("one"), 1);
  assert.equal(await enqueueing.enqueue("two"), 2);
  const noSender = lacks(users[0], "sendq_sender");
  const noOperator = lacks(users[0], "sendq_operator");
  await assert.rejects(sendingSideOf(enqueueing).readBatches(0, 100), noSender);
  await assert.rejects(sendingSideOf(enqueueing).takeTenure(systemClock), noSender);
  await assert.rejects(enqueueing.removePackets({ firstId: 1, lastId: 1 }), noOperator);
  await using dropping = await open(producer, { maxPackets: 2, overflow: "drop-oldest" });
  await assert.rejects(dropping.enqueue("three"), noSender);

  await using sending = await open(sender);
  const tenure = await sendingSideOf(sending).takeTenure(systemClock);
  assert.equal((await sendingSideOf(sending).readBatches(0, 100)).length, 2);
  await sendingSideOf(sending).removeThrough(1);
  await sendingSideOf(sending).giveUp(2, 2);
  await assert.rejects(sending.deadLetters(0, 100), lacks(users[1], "sendq_operator"));
  await assert.rejects(
    sending.requeue({ firstId: 2, lastId: 2 }),
    lacks(users[1], "sendq_operator"),
  );
  using looking = await postgresInspector({ url: sender });
  assert.equal((await looking.counts()).deadPackets, 1);
  // How many are kept, who only enqueues has no say in; who may give packets up has.
  const keepsNone = { maxDeadPackets: 0, maxDeadBytes: 0 };
  await using enqueueingMore = await open(producer, keepsNone);
  await enqueueingMore.enqueue("three");
  assert.equal((await looking.counts()).deadPackets, 1, "the dead letter is still there");
  await using sendingMore = await open(sender, { ...keepsNone, maxDeadPackets: 1 });
  await sendingMore.enqueue("four");
  assert.deepEqual(
    [(await looking.counts()).deadPackets, (await looking.counts()).droppedPackets],
    [0, 1],
    "a sender bounds them, as in a file",
  );
  await sendingSideOf(sending).giveUp(3, 2);
  for (
    const look of [
      () => looking.packet(2),
      () => looking.deadLetter(2),
      () => looking.countDeadLetters(),
      () => looking.check(),
    ]
  ) await assert.rejects(look, lacks(users[1], "sendq_operator"));
  await tenure.release();

  await using operating = await open(operator);
  assert.equal((await operating.deadLetters(0, 100)).length, 1);
  using inspector = await postgresInspector({ url: operator });
  assert.equal((await inspector.deadLetter(3))?.attempts, 2);
  assert.equal((await operating.requeue({ firstId: 3, lastId: 3 })).packets, 1);
  // Nobody reaches past the functions.
  await assert.rejects(
    server.sql(`SET ROLE ${users[2]}; SELECT * FROM sendq.run`),
    /permission denied/,
  );
});

part("a removal needs the right to send; what is enqueued beside it does not", async ({ url }) => {
  await using queue = await open(url, { leaseTtlMs: 500 });
  await using other = await open(url, { leaseTtlMs: 500 });
  await queue.enqueueMany(["a", "b", "c"]);
  const sending = sendingSideOf(queue);
  await assert.rejects(sending.removeThrough(1), FencedError);
  const tenure = await sending.takeTenure(systemClock);
  await sending.removeThrough(1);
  // As if the process had been stopped for a while.
  await tenure.release();
  const next = await sendingSideOf(other).takeTenure(systemClock);
  assert.equal(next.epoch, tenure.epoch + 1);
  const [removal, enqueue] = await Promise.allSettled([
    sending.removeThrough(2),
    queue.enqueue("d"),
  ]);
  assert(removal.status === "rejected" && removal.reason instanceof FencedError);
  assert.deepEqual(enqueue, { status: "fulfilled", value: 4 });
  assert.equal(queue.stats().packets, 3);
  await next.release();
});

part("a sender that dies is replaced when its beat has stood still", async ({ server, url }) => {
  await using proxy = new LossyProxy(server.port);
  const ttl = { leaseTtlMs: 600, answerTimeoutMs: 500 };
  await using first = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`), {
    ...ttl,
  });
  await using second = await open(url, { ...ttl });
  await first.enqueueMany(["a", "b"]);
  const tenure = await sendingSideOf(first).takeTenure(systemClock);
  const lapsed = new Promise<void>((resolve) => tenure.subscribeLapsed(resolve));
  const lost = new Promise<Error>((resolve) => tenure.subscribeLost(resolve));
  const taking = sendingSideOf(second).takeTenure(systemClock).then((tenure) => ({
    tenure,
    firstWasOver: !(heldMs() > 0),
  }));
  const heldMs = () => tenure.validForMs();
  proxy.silence();
  await lapsed;
  const { tenure: next, firstWasOver } = await taking;
  assert(firstWasOver, "both could have sent");
  await sendingSideOf(second).removeThrough(1);
  proxy.heal();
  assert((await lost) instanceof FencedError);
  await assert.rejects(sendingSideOf(first).removeThrough(2), FencedError);
  // Nor from the middle, as an operator does.
  await assert.rejects(first.removePackets({ firstId: 2, lastId: 2 }), FencedError);
  await tenure.release();
  await next.release();
});

part(
  "a right that has lapsed is valid again, where nobody has taken it",
  async ({ server, url }) => {
    await using proxy = new LossyProxy(server.port);
    await using queue = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`), {
      leaseTtlMs: 500,
      answerTimeoutMs: 500,
    });
    const tenure = await sendingSideOf(queue).takeTenure(systemClock);
    const lapsed = new Promise<void>((resolve) => tenure.subscribeLapsed(resolve));
    proxy.silence();
    await lapsed;
    assert(tenure.validForMs() <= 0);
    proxy.heal();
    await until("it is renewed", () => tenure.validForMs() > 0);
    await tenure.release();
  },
);

/** Brings the database back to how it is now, as a restore or a lossy failover does. */
async function snapshot(server: PostgresServer): Promise<() => Promise<void>> {
  const tables = ["queue", "run", "dead_letter", "producer", "lease"];
  await server.sql(
    "DROP SCHEMA IF EXISTS saved CASCADE; CREATE SCHEMA saved; " +
      tables.map((table) => `CREATE TABLE saved.${table} AS TABLE sendq.${table}`).join("; "),
  );
  return async () => {
    const copies = tables.map((table) =>
      `INSERT INTO sendq.${table} OVERRIDING SYSTEM VALUE SELECT * FROM saved.${table}`
    );
    await server.sql(
      ["BEGIN", "TRUNCATE sendq.queue, sendq.run CASCADE", ...copies, "COMMIT"].join("; "),
    );
  };
}

const wentBack = (error: unknown) =>
  error instanceof FencedError && /gone back to an earlier state/.test(error.message);

part("what took the place of what was read is not removed", async ({ server, url }) => {
  // The beat comes late enough for the removal to find it out.
  await using queue = await open(url, { leaseTtlMs: 600_000 });
  await using other = await open(url);
  await other.enqueueMany(["a", "b"]);
  const sending = sendingSideOf(queue);
  const tenure = await sending.takeTenure(systemClock);
  const lost = new Promise<Error>((resolve) => tenure.subscribeLost(resolve));
  await sending.readBatches(0, 100);
  const goBack = await snapshot(server);
  assert.equal(await other.enqueue("c"), 3);
  await sending.pollOtherProcesses();
  assert.equal((await sending.readBatches(2, 100))[0]?.firstId, 3);
  await goBack();
  await using next = await open(url);
  assert.equal(await next.enqueue("another one"), 3);
  await assert.rejects(sending.removeThrough(3), wentBack);
  assert(wentBack(await lost));
  assert(tenure.validForMs() <= 0);
  await assert.rejects(sending.removeThrough(3), FencedError);
  await assert.rejects(sending.readBatches(0, 100), wentBack);
  assert.equal((await next.read(2, 100))[0]?.payload.length, "another one".length);
  await tenure.release();
});

part(
  "a sender whose own removal is forgotten ends, and removes no more",
  async ({ server, url }) => {
    await using queue = await open(url, { leaseTtlMs: 600_000 });
    await queue.enqueueMany(["a", "b", "c"]);
    const sending = sendingSideOf(queue);
    const tenure = await sending.takeTenure(systemClock);
    await sending.readBatches(0, 100);
    const goBack = await snapshot(server);
    await sending.removeThrough(1);
    await goBack();
    await assert.rejects(sending.removeThrough(2), isOf("io", /gone back/));
    await assert.rejects(sending.removeThrough(2), FencedError);
    assert.equal(await server.sql("SELECT packets FROM sendq.queue ORDER BY id DESC LIMIT 1"), "3");
    await tenure.release();
  },
);

part(
  "a tenure that the database has forgotten ends with its next beat",
  async ({ server, url }) => {
    await using queue = await open(url, { leaseTtlMs: 500 });
    const goBack = await snapshot(server);
    const tenure = await sendingSideOf(queue).takeTenure(systemClock);
    const lost = new Promise<Error>((resolve) => tenure.subscribeLost(resolve));
    await goBack();
    assert(wentBack(await lost));
    await tenure.release();
  },
);

part("a version that was known and is gone is noticed by looking", async ({ server, url }) => {
  await using queue = await open(url, { leaseTtlMs: 600_000 });
  await using other = await open(url);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  const lost = new Promise<Error>((resolve) => tenure.subscribeLost(resolve));
  const goBack = await snapshot(server);
  await other.enqueue("a");
  await sendingSideOf(queue).pollOtherProcesses();
  assert.equal(queue.stats().packets, 1);
  await goBack();
  await sendingSideOf(queue).pollOtherProcesses();
  assert(wentBack(await lost));
  assert.equal(queue.stats().packets, 0);
  await tenure.release();
});

part(
  "a second tenure of the same queue sends what is there, not what it remembers",
  async ({ url }) => {
    await using queue = await open(url);
    await using other = await open(url);
    const sending = sendingSideOf(queue);
    const first = await sending.takeTenure(systemClock);
    sending.subscribe(() => {});
    await queue.enqueueMany(["a", "b", "c", "d"]);
    await first.release();
    const between = await sendingSideOf(other).takeTenure(systemClock);
    await other.removePackets({ firstId: 2, lastId: 2 });
    await between.release();
    const second = await sending.takeTenure(systemClock);
    assert.deepEqual(await idsGiven(queue), [1, 3, 4]);
    await sending.removeThrough(4);
    assert.equal(queue.stats().packets, 0);
    await second.release();
  },
);

part("a sender that was taken over may begin again on the same queue", async ({ server, url }) => {
  await using proxy = new LossyProxy(server.port);
  const ttl = { leaseTtlMs: 600 };
  await using queue = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`), ttl);
  await using other = await open(url, ttl);
  await queue.enqueueMany(["a", "b", "c"]);
  const sending = sendingSideOf(queue);
  const first = await sending.takeTenure(systemClock);
  const lost = new Promise<Error>((resolve) => first.subscribeLost(resolve));
  await sending.readBatches(0, 100);
  proxy.silence();
  const between = await sendingSideOf(other).takeTenure(systemClock);
  proxy.heal();
  assert((await lost) instanceof FencedError);
  await between.release();
  const second = await sending.takeTenure(systemClock);
  // What is left of the first one is put away late, and takes nothing from the second.
  await first.release();
  assert.deepEqual(await idsGiven(queue), [1, 2, 3]);
  await sending.removeThrough(3);
  assert.equal(queue.stats().packets, 0);
  await second.release();
});

for (const found of ["beat", "removal"] as const) {
  part(
    `a database has gone back, found by a ${found}: the next tenure sends what it has now`,
    async ({ server, url }) => {
      await using queue = await open(url, { leaseTtlMs: found === "beat" ? 500 : 600_000 });
      const sending = sendingSideOf(queue);
      sending.subscribe(() => {});
      await queue.enqueue("1");
      const first = await sending.takeTenure(systemClock);
      const lost = new Promise<Error>((resolve) => first.subscribeLost(resolve));
      const goBack = await snapshot(server);
      await queue.enqueueMany(["old 2", "old 3"]);
      assert.deepEqual(await idsGiven(queue), [1, 2, 3]);
      await queue.enqueueMany(["old 4", "old 5"]);
      if (found === "beat") {
        const grows = "SELECT l.beat > s.beat FROM sendq.lease l JOIN saved.lease s " +
          "USING (queue) ORDER BY queue DESC LIMIT 1";
        await until("it has a beat", async () => await server.sql(grows) === "t");
      }
      await goBack();
      // With the lease one change less than there was: all counts of changes are what they were.
      await using other = await open(url);
      await other.enqueueMany(["new 2", "new 3", "new 4"]);
      if (found === "removal") await assert.rejects(sending.removeThrough(1), isOf("io", /back/));
      assert(wentBack(await lost));
      await first.release();
      // Who held the lease by the snapshot has not given it up there.
      await server.sql("UPDATE sendq.lease SET holder = NULL");
      const second = await sending.takeTenure(systemClock);
      assert.equal(queue.stats().packets, 4);
      const batches = await sending.readBatches(0, 1000);
      const texts = batches.map(({ bytes }) => new TextDecoder().decode(bytes)).join("");
      assert.equal(texts, "1new 2new 3new 4");
      if (found === "beat") {
        // It does not know the changes from before. That is told once, and ends no new tenure.
        await assert.rejects(sending.removeThrough(4), isOf("io", /gone back/));
      }
      await sending.removeThrough(4);
      // Not lost; on a slow machine it may have lapsed for a moment.
      await until("it is valid", () => second.validForMs() > 0);
      assert.equal(queue.stats().packets, 0);
      await second.release();
    },
  );
}

part("what another tenure has reserved counts for nothing in the next", async ({ server, url }) => {
  await using queue = await open(url);
  const sending = sendingSideOf(queue);
  const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
  await queue.enqueue("x");
  const first = await sending.takeTenure(systemClock);
  sending.subscribe(() => {});
  const goBack = await snapshot(server);
  const many = Array.from({ length: 3000 }, () => "x");
  await queue.enqueueMany(many);
  await sending.readBatches(0, 1e6);
  await first.release();
  await goBack();
  // Who held the lease by the snapshot has not given it up there.
  await server.sql("UPDATE sendq.lease SET holder = NULL");
  const second = await sending.takeTenure(systemClock);
  await assert.rejects(queue.enqueueMany(many), isOf("io", /gone back/));
  assert.deepEqual(await queue.enqueueMany(many), { firstId: 2, lastId: 3001 });
  // Out of memory, so that reading them has told nobody.
  const given = (await sending.readBatches(1, 1e6)).at(-1);
  assert.equal(given && given.firstId + given.ends.length - 1, 3001);
  const reserved = "SELECT max(reserved_through) FROM sendq.producer WHERE queue = " +
    `(SELECT id FROM sendq.queue WHERE name = '${name}')`;
  assert.equal(await server.sql(reserved), "3001", "what is sent now is not told");
  await second.release();
});

part("who looks beside a sender of its own changes nothing", async ({ server, url }) => {
  await using storing = await open(url);
  await storing.enqueueMany(["one", "two"]);
  await using queue = await open(url);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  const id = "(SELECT max(id) FROM sendq.queue)";
  const written = () =>
    server.sql(
      `SELECT q.version, (SELECT jsonb_agg(p ORDER BY p.id) FROM sendq.producer p ` +
        `WHERE p.queue = q.id) FROM sendq.queue q WHERE q.id = ${id}`,
    );
  const before = await written();
  for (let i = 0; i < 3; i++) assert.equal((await queue.read(0, 1000)).length, 2);
  assert.equal(await written(), before);
  assert.deepEqual(await idsGiven(queue), [1, 2]);
  assert.notEqual(await written(), before, "what is going to be sent is told");
  await tenure.release();
});

part("a read that comes late does not count reads backwards", async ({ server, url }) => {
  const queue = await open(url);
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  const reader = crypto.randomUUID();
  const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
  const fence = await server.sql(
    "SELECT jsonb_build_object('epoch', epoch, 'tenure', tenure, 'reader', " +
      `'${reader}', 'reads', 0) FROM sendq.queue ` +
      `WHERE name = '${name}'`,
  );
  const ask = (call: number) =>
    `SELECT count(*) FROM sendq.hand_out('${name}', ` +
    `'${reader}', ${call}, '${fence}', 0, 100, 0)`;
  const calls = `SELECT call FROM sendq.producer WHERE id = '${reader}'`;
  const connect = () =>
    new Database({
      ...{ address: settingsOf({ url }).address, clock: systemClock },
      ...{ answerTimeoutMs: 600_000, waitsForStandby: false },
    });
  const first = connect(), second = connect();
  try {
    await server.sql(ask(1));
    await second.ask("BEGIN", []);
    await second.ask(ask(2), []);
    // The first try of the second read has looked at the row, and waits for it.
    const late = first.ask(ask(2), []);
    await until("it waits", async () =>
      await server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' " +
          "AND query LIKE '%hand_out%' AND pid <> pg_backend_pid()",
      ) === "1");
    await second.ask(ask(3), []);
    await second.ask("COMMIT", []);
    await late;
  } finally {
    first.close();
    second.close();
  }
  assert.equal(await server.sql(calls), "3");
  await tenure.release();
  await queue.close();
});

part("the next sender knows what may have been sent, and no less", async ({ server, url }) => {
  await using proxy = new LossyProxy(server.port);
  const ttl = { leaseTtlMs: 500, busyTimeoutMs: 3000 };
  await using first = await open(url.replace(`:${server.port}/`, `:${proxy.port}/`), ttl);
  await using second = await open(url, ttl);
  await second.enqueueMany(Array.from({ length: 20 }, (_, i) => `packet ${i + 1}`));
  const before = await sendingSideOf(first).takeTenure(systemClock);
  assert.equal(sendingSideOf(first).sentThroughId, 0);
  const [batch] = await sendingSideOf(first).readBatches(0, 1);
  assert.equal(batch?.firstId, 1);
  const handedOut = batch.ends.length;
  // It dies: nobody hears any more of what it has sent.
  proxy.silence();
  const next = await sendingSideOf(second).takeTenure(systemClock);
  assert(sendingSideOf(second).sentThroughId >= handedOut);
  // One that ends in order says what it has sent, and what it had in hand is not told.
  await sendingSideOf(second).readBatches(0, 1000);
  const { sentThroughId } = sendingSideOf(second);
  sendingSideOf(second).rememberSent(sentThroughId);
  await next.release();
  await using third = await open(url);
  const last = await sendingSideOf(third).takeTenure(systemClock);
  assert.equal(sendingSideOf(third).sentThroughId, sentThroughId);
  await last.release();
  // What is left of the first one can be put away.
  proxy.heal();
  await before.release();
});

part(
  "a sender's own packets are reserved with their commit, so many at a time",
  async ({ server, url }) => {
    await using queue = await open(url);
    const sending = sendingSideOf(queue);
    const tenure = await sending.takeTenure(systemClock);
    sending.subscribe(() => {});
    await queue.enqueueMany(Array.from({ length: 3000 }, () => "x"));
    const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
    const reserved = "SELECT max(reserved_through) FROM sendq.producer WHERE queue = " +
      `(SELECT id FROM sendq.queue WHERE name = '${name}')`;
    assert.equal(await server.sql(reserved), "1024", "before anybody has read");
    assert.equal((await sending.readBatches(0, 10))[0]?.firstId, 1);
    assert.equal(await server.sql(reserved), "1024", "reading them has asked for nothing");
    await tenure.release();
    // It has sent nothing: what it gave back in order was not sent.
    await using next = await open(url);
    const after = await sendingSideOf(next).takeTenure(systemClock);
    assert.equal(sendingSideOf(next).sentThroughId, 0);
    await after.release();
  },
);

part("who has stored nothing for a month is not forgotten while it is there", async (t) => {
  const { server, url } = t;
  await using queue = await open(url);
  await queue.enqueue("one");
  const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
  const old = "UPDATE sendq.producer SET called_at = now() - interval '31 days' WHERE queue = " +
    `(SELECT id FROM sendq.queue WHERE name = '${name}')`;
  const id = await server.sql(`${old} RETURNING id`);
  // What an open queue does once a day.
  await server.sql(`SELECT sendq.keep('${name}', '{${id}}')`);
  await (await open(url)).close();
  assert.equal(await queue.enqueue("two"), 2);
  await server.sql(old);
  await (await open(url)).close();
  await assert.rejects(queue.enqueue("three"), isOf("io", /gone back/));
});

part("who does not wait is told that another one sends", async ({ url }) => {
  await using first = await open(url);
  await using second = await open(url, { standBy: false });
  const tenure = await sendingSideOf(first).takeTenure(systemClock);
  await assert.rejects(sendingSideOf(second).takeTenure(systemClock), /already has a sender/);
  await tenure.release();
});

part("a commit that means too little is refused, at open and later", async ({ server, url }) => {
  await assert.rejects(postgresQueue({ url }), isOf("io", /synchronous_standby_names is empty/));
  await using queue = await open(url);
  await queue.enqueue("one");
  server.set("full_page_writes = off");
  await server.reload();
  try {
    await until(
      "it is refused",
      () => queue.enqueue("two").then(() => false, isOf("io", /full_page_writes is off/)),
    );
    await using careless = await open(url, { durability: "process-crash" });
    await careless.enqueue("three");
  } finally {
    server.set("full_page_writes = on");
    await server.reload();
  }
});

part("setup can be repeated, by two at once, and leaves what is there", async ({ server }) => {
  await server.sql("CREATE DATABASE another");
  const url = server.url("outbox", "another");
  const setups = await Promise.all([setUp(url), setUp(url)]);
  assert.deepEqual(
    setups.map(({ versionBefore }) => versionBefore).toSorted(),
    [0, SCHEMA_VERSION],
  );
  await using queue = await open(url);
  await queue.enqueue("one");
  const version = SCHEMA_VERSION;
  assert.deepEqual(await setUp(url), { versionBefore: version, version, queue: "outbox" });
  assert.equal((await queue.read(0, 100)).length, 1);
  await server.sql(`INSERT INTO sendq.migration (version) VALUES (${version + 1})`, "another");
  const newer = isOf("newer-version", /version \d+ .* knows \d/);
  await assert.rejects(setUp(url), newer);
  await assert.rejects(open(url), newer);
});

part("a queue that was removed is gone for whoever has it open, also when it is made anew", async ({
  server,
  url,
}) => {
  const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
  const gone = isOf("not-a-queue", /it was removed from the database.*Make it anew.*start this/s);
  await using proxy = new LossyProxy(server.port);
  const overProxy = url.replace(`:${server.port}/`, `:${proxy.port}/`);
  await using queue = await open(url);
  await using idle = await open(url);
  await using lossy = await open(overProxy);
  using inspector = await postgresInspector({ url });
  await queue.enqueueMany(["a", "b"]);
  await lossy.enqueue("c");
  const sending = sendingSideOf(queue);
  const tenure = await sending.takeTenure(systemClock);
  await server.sql(`DELETE FROM sendq.queue WHERE name = '${name}'`);
  // Also where the answer was lost, so that it could have been stored before.
  proxy.breakNext("answer");
  await assert.rejects(lossy.enqueue("d"), gone);
  const calls = [
    () => queue.enqueue("e"),
    () => sending.removeThrough(1),
    () => queue.removePackets({ firstId: 2, lastId: 2 }),
    () => queue.requeue({ firstId: 2, lastId: 2 }),
    () => queue.deadLetters(0, 100),
    () => sending.pollOtherProcesses(),
    () => sending.takeTenure(systemClock),
  ];
  for (const call of calls) await assert.rejects(call, gone);
  for (
    const look of [() => inspector.counts(), () => inspector.packet(1), () => inspector.check()]
  ) {
    await assert.rejects(look, gone);
  }
  assert(gone(queue.misplaced()));
  assert.equal(idle.misplaced(), undefined, "nobody has asked yet");
  await server.makeQueue(name);
  for (const call of calls) await assert.rejects(call, gone);
  // Who notices only now does not take the new one for the old one either.
  await assert.rejects(idle.enqueue("f"), gone);
  await assert.rejects(idle.enqueue("g"), gone);
  await using anew = await open(url);
  assert.equal(await anew.enqueue("h"), 1);
  await tenure.release();
});

part("a sender whose queue is removed ends, and says so", async ({ server, url }) => {
  const name = decodeURIComponent(url.slice(url.lastIndexOf("/") + 1));
  await using peer = new ReadingServer();
  const queue = await open(url);
  await using sender = await Sender.open(queue, peer.remote, { closesQueue: true });
  await sender.enqueue("one\n");
  await sender.drained();
  await server.sql(`DELETE FROM sendq.queue WHERE name = '${name}'`);
  await assert.rejects(sender.closed, isOf("not-a-queue", /it was removed from the database/));
});

part("a connection that is made again while nobody asks listens again", async ({ server, url }) => {
  const { address } = settingsOf({ url });
  // With several servers the client library would go to the next one by itself.
  const hosts = [...address.hosts, ...address.hosts];
  let rings = 0;
  const database = new Database({
    address: { ...address, hosts },
    clock: systemClock,
    answerTimeoutMs: 5000,
    waitsForStandby: false,
    hello: { text: "LISTEN bell", args: [] },
    onNotify: () => rings++,
  });
  const askTwice = async () => {
    // The first one may find out that the connection is lost.
    await database.ask("SELECT 1", []).catch(() => {});
    await database.ask("SELECT 1", []);
  };
  try {
    for (let turn = 1; turn <= 3; turn++) {
      await askTwice();
      await server.sql("NOTIFY bell");
      await until("it rings", () => rings === turn);
      await server.sql(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity " +
          "WHERE pid IN (SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT 1%')",
      );
    }
  } finally {
    database.close();
  }
});

part("what is missing is said, with what to do", async ({ server, url }) => {
  await server.sql("CREATE DATABASE bare");
  await assert.rejects(
    open(server.url("outbox", "bare")),
    isOf("not-a-queue", /no schema sendq.*sendq postgres setup/s),
  );
  await assert.rejects(open(server.url("none")), isOf("not-a-queue", /there is no queue none/));
  await assert.rejects(open(server.url("q", "absent")), isOf("not-a-queue", /Create the database/));
  await assert.rejects(open(`${url}?sslmode=perhaps`), OptionError);
  await assert.rejects(open(server.url()), /name must be given/);
  await assert.rejects(open(url, { leaseTtlMs: 1 }), OptionError);
  await assert.rejects(open(url, { maxPacketBytes: 2 ** 28 }), OptionError);
});

part("a password is in no message", async ({ server }) => {
  const url = `postgres://who:secret@127.0.0.1:${server.port}/absent/outbox`;
  await assert.rejects(open(url), (error) => {
    assert(error instanceof QueueFileError);
    assert(!Deno.inspect(error).includes("secret"), Deno.inspect(error));
    return true;
  });
  await assert.rejects(open("postgres://who:secret@host"), (error) => {
    assert(error instanceof OptionError);
    assert(!Deno.inspect(error).includes("secret"), Deno.inspect(error));
    return true;
  });
});

Deno.test({
  ...unless(NO_POSTGRES, "a queue on PostgreSQL"),
  async fn(t) {
    await using server = await PostgresServer.start();
    for (const [i, [name, run]] of parts.entries()) {
      await t.step(name, async () => await run({ server, url: await server.makeQueue(`q${i}`) }));
    }
  },
});
