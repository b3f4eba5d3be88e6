/** Forwarders and a real server: what is lost, twice or in another order, and who is refused. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { OptionError, QueueLockedError } from "../../src/base/errors.ts";
import { EdgeRefusedError } from "../../src/postgres/errors.ts";
import type { Clock, Logger } from "../../src/base/ports.ts";
import { serveForwarderStatus } from "../../src/observe/http.ts";
import { parseQueueUrl } from "../../src/postgres/address.ts";
import { Database } from "../../src/postgres/database.ts";
import { packForEdge, takeWithin } from "../../src/postgres/edge_batch.ts";
import { ClusterError, EdgeCalls, type EdgeSession } from "../../src/postgres/edge_calls.ts";
import { lookerAt } from "../../src/postgres/look.ts";
import { Forwarder, type ForwarderOptions, postgresQueue } from "../../src/postgres/postgres.ts";
import { RING_INTERVAL_MS } from "../../src/postgres/options.ts";
import { SCHEMA_VERSION, setUp } from "../../src/postgres/setup.ts";
import { backUpQueue } from "../../src/queue/inspect/backup.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { Sender } from "../../src/sender/sender.ts";
import { runHere } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { HeldSyncs } from "../queue/threads.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import { LossyProxy } from "./lossy_proxy.ts";
import { inCluster, numbers } from "./packets.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

interface Given {
  readonly server: PostgresServer;
  /** The cluster's queue. */
  readonly url: string;
  /** Where the edge's file lies. */
  readonly dir: TempDir;
}

const parts: [name: string, run: (given: Given) => Promise<void>][] = [];
const part = (name: string, run: (given: Given) => Promise<void>) => parts.push([name, run]);

type Options = Partial<ForwarderOptions>;

/** What one server is enough for. */
function forward(
  queue: OutboundQueue | string,
  url: string,
  options: Options = {},
): Promise<Forwarder> {
  return Forwarder.open(queue, {
    ...{ url, durability: "power-loss", edge: "plant 7", answerTimeoutMs: 1000 },
    ...options,
  });
}

/** A log that is kept. */
class Kept implements Logger {
  text = "";
  debug() {}
  info(message: string) {
    this.text += `info ${message}\n`;
  }
  warn(message: string) {
    this.text += `warn ${message}\n`;
  }
  error(message: string) {
    this.text += `error ${message}\n`;
  }
  says(pattern: RegExp): Promise<void> {
    return until(`${pattern} in the log`, () => pattern.test(this.text))
      .catch((error) => {
        throw new Error(`${error.message}, but: ${this.text}`);
      });
  }
}

/** Through a proxy to the server. */
function through(proxy: LossyProxy, { server, url }: Given): string {
  return url.replace(`:${server.port}/`, `:${proxy.port}/`);
}

part("packets go in their order, holes and all, and leave the file", async ({ url, dir }) => {
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(numbers(500));
  await queue.removePackets({ firstId: 1, lastId: 10 });
  await queue.removePackets({ firstId: 100, lastId: 199 });
  await queue.removePackets({ firstId: 500, lastId: 500 });
  await using forwarder = await forward(queue, url);
  await forwarder.drained();
  assert.equal(queue.stats().packets, 0);
  const { through, forwardedPackets } = forwarder.stats();
  assert.deepEqual([through, forwardedPackets], [499, 389]);
  assert.equal(forwarder.state, "forwarding");
  // What comes later, from this process or another, goes at once.
  await queue.enqueue("501");
  await using other = await OutboundQueue.open(dir.queue);
  await other.enqueueMany(["502", "503"]);
  await until("they are forwarded", () => forwarder.stats().through === 503);
  const expected = numbers(503).filter((n) => {
    const id = Number(n);
    return id > 10 && (id < 100 || id > 199) && id !== 500;
  });
  assert.deepEqual(await inCluster(url), expected);
});

part("what another process has stored is on the disk before the cluster has it", async (given) => {
  const { url, dir } = given;
  await using queue = await OutboundQueue.open(dir.queue, { syncIn: "loop" });
  await using forwarder = await forward(queue, url);
  await forwarder.drained();
  using syncs = new HeldSyncs();
  // SQLite syncs the commits of this one; those of a thread would come later.
  await using other = await OutboundQueue.open(dir.queue, { syncIn: "loop" });
  syncs.holds = true;
  const begun = syncs.next();
  await other.enqueue("1");
  await begun;
  assert.deepEqual(await inCluster(url), []);
  syncs.release();
  await until("it is forwarded", () => forwarder.stats().through === 1);
  assert.deepEqual(await inCluster(url), ["1"]);
});

part("one forwarder or sender has the file", async ({ url, dir }) => {
  await using queue = await OutboundQueue.open(dir.queue);
  await using _forwarder = await forward(queue, url);
  await assert.rejects(forward(dir.queue, url), QueueLockedError);
  await assert.rejects(Sender.open(dir.queue, "tcp://127.0.0.1:1"), QueueLockedError);
});

part("lost questions and answers: nothing twice, nothing missing", async (given) => {
  const { server, url, dir } = given;
  await using proxy = new LossyProxy(server.port);
  await using queue = await OutboundQueue.open(dir.queue);
  const log = new Kept();
  await using forwarder = await forward(queue, through(proxy, given), { logger: log });
  for (let round = 0; round < 20; round++) {
    proxy.breakNext(round % 2 === 0 ? "answer" : "question");
    await queue.enqueueMany(numbers(5, round * 5 + 1));
    await forwarder.drained();
  }
  assert(proxy.broken >= 20, `${proxy.broken} connections were broken`);
  assert.deepEqual(await inCluster(url), numbers(100));
  // A break may also meet a ring, which is no question.
  assert(forwarder.stats().failures > 0);
  await log.says(/warn the connection to the database was lost/);
  await log.says(/info packets get through again/);
});

part("a cluster that is away: packets are taken, and go when it is back", async (given) => {
  const { server, url, dir } = given;
  await server.down();
  await using queue = await OutboundQueue.open(dir.queue);
  const log = new Kept();
  await using forwarder = await forward(queue, url, { logger: log });
  await queue.enqueueMany(numbers(10));
  await log.says(/warn no primary can be reached/);
  await until("it says so", () => forwarder.condition.headline === "Not forwarding");
  await using status = serveForwarderStatus(forwarder, { port: 0, undeliverableLimitMs: 1 });
  const healthz = () => fetch(new URL("healthz", status.url));
  await until("it is unhealthy", async () => {
    const answer = await healthz();
    const text = await answer.text();
    return answer.status === 503 && /No packet forwarded for .*no primary can be/is.test(text);
  });
  await server.up();
  await forwarder.drained();
  // Stopped and started under traffic, without the test being told when.
  const going = (async () => {
    for (let n = 11; n <= 400; n++) {
      await queue.enqueue(String(n));
      if (n % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  await until("some have come", () => (forwarder.stats().through ?? 0) > 50);
  await server.down();
  await going;
  await server.up();
  await forwarder.drained();
  await until("it is healthy", async () => {
    const answer = await healthz();
    await answer.body?.cancel();
    return answer.status === 200;
  });
  const metrics = await (await fetch(new URL("metrics", status.url))).text();
  assert.match(metrics, /^sendq_forwarder_through\{edge="plant 7",to="[^"]+"\} 400$/m);
  assert.match(metrics, /^sendq_forwarder_state\{[^}]*name="forwarding"[^}]*\} 1$/m);
  assert.match(metrics, /^sendq_queue_packets\{[^}]*\} 0$/m);
  const report = await (await fetch(new URL("status", status.url))).json();
  assert.deepEqual([report.edge, report.health.ok, report.stats.through], ["plant 7", true, 400]);
  assert.equal((await fetch(new URL("nothing", status.url), { method: "POST" })).status, 405);
  assert.deepEqual(await inCluster(url), numbers(400));
});

part("what is left of a time to live goes along, whatever the edge's clock says", async (given) => {
  const { server, url, dir } = given;
  // A board without a battery.
  const clock: Clock = { ...systemClock, wallMs: () => systemClock.wallMs() - 1_600_000_000_000 };
  await server.down();
  await using queue = await OutboundQueue.open(dir.queue, { clock });
  const log = new Kept();
  await using forwarder = await forward(queue, url, { clock, logger: log });
  await queue.enqueue("for an hour", { ttlMs: 3_600_000 });
  const short = await queue.enqueue("for a moment", { ttlMs: 1 });
  await queue.enqueue("for ever");
  await log.says(/no primary can be reached/);
  await server.up();
  await forwarder.drained();
  assert.deepEqual(await inCluster(url), ["for an hour", "for ever"]);
  const left = await server.sql(
    "SELECT r.expires_at_ms - extract(epoch FROM now()) * 1000 FROM sendq.run r " +
      `JOIN sendq.queue q ON r.queue = q.id WHERE q.name = '${nameIn(url)}' ORDER BY r.last_id`,
  );
  const [hour = "", ever = ""] = left.split("\n");
  assert(Number(hour) > 3_000_000 && Number(hour) <= 3_600_000, left);
  assert.equal(ever, "");
  const [letter] = await queue.deadLetters(0, 1000);
  assert.deepEqual([letter?.id, letter?.reason], [short, "expired"]);
});

part("a full cluster holds packets back in the file, and says so", async ({ url, dir }) => {
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(numbers(10));
  const log = new Kept();
  await using forwarder = await forward(queue, url, { maxPackets: 4, logger: log });
  await log.says(/warn the queue .* is full: packets wait in /);
  assert.equal(forwarder.state, "full");
  assert.equal(forwarder.condition.tone, "warning");
  assert.deepEqual([queue.stats().packets, forwarder.stats().through], [6, 4]);
  await using cluster = await postgresQueue({ url, durability: "power-loss" });
  await cluster.removePackets({ firstId: 1, lastId: 3 });
  await until("there was room for three", () => forwarder.stats().through === 7);
  await cluster.removePackets({ firstId: 1, lastId: 7 });
  await until("there was room for all", () => forwarder.stats().through === 10);
  await log.says(/info there is room in /);
  assert.equal(forwarder.state, "forwarding");
  assert.deepEqual(await inCluster(url), ["8", "9", "10"]);
});

part("a full cluster does not lose sight of an edge that waits", async (given) => {
  const { server, url, dir } = given;
  // Of the forwarder alone: time passes here when the test says so.
  let aheadMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => systemClock.nowMs() + aheadMs };
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany(numbers(10));
  const log = new Kept();
  await using forwarder = await forward(queue, url, { maxPackets: 4, logger: log, clock });
  await log.says(/warn the queue .* is full/);
  const here = `queue = (SELECT id FROM sendq.queue WHERE name = '${nameIn(url)}')`;
  await server.sql(`UPDATE sendq.edge SET seen_at = now() - interval '1 day' WHERE ${here}`);
  aheadMs = 10_000;
  await until("it was seen again, with what waits", async () => {
    const text = "SELECT seen_at > now() - interval '1 hour' AND " +
      `notice->>'queuedPackets' = '6' FROM sendq.edge WHERE ${here}`;
    return await server.sql(text) === "t";
  });
  // There will be no room.
  await forwarder.close({ deliverTimeoutMs: 0 });
});

part("who waits for packets is rung for the last ones, too", async ({ server, url, dir }) => {
  // No ring that was put off comes by itself.
  const nowMs = systemClock.nowMs();
  const clock: Clock = {
    ...systemClock,
    nowMs: () => nowMs,
    setTimer: (delayMs, callback) =>
      delayMs === RING_INTERVAL_MS ? () => {} : systemClock.setTimer(delayMs, callback),
  };
  const id = await server.sql(`SELECT id FROM sendq.queue WHERE name = '${nameIn(url)}'`);
  let rung = 0;
  const listening = new Database({
    ...{ address: parseQueueUrl(url), clock: systemClock, answerTimeoutMs: 600_000 },
    waitsForStandby: false,
    hello: { text: `LISTEN sendq_${id}`, args: [] },
    onNotify: () => rung++,
  });
  try {
    await listening.ask("SELECT 1", []);
    await using queue = await OutboundQueue.open(dir.queue);
    // More than one call takes.
    await queue.enqueueMany(numbers(5000));
    const forwarder = await forward(queue, url, { clock, answerTimeoutMs: 600_000 });
    await forwarder.close({ deliverTimeoutMs: Infinity });
    assert.equal(queue.stats().packets, 0);
    await until("both calls are heard of", () => rung === 2);
  } finally {
    listening.close();
  }
});

part(
  "a packet that the cluster can never take is a dead letter of the edge",
  async ({ url, dir }) => {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["small", "much too large", "small too"]);
    await using forwarder = await forward(queue, url, { maxBytes: 13 });
    await until("both small ones could go", () => queue.stats().deadPackets === 1);
    const [letter] = await queue.deadLetters(0, 1000);
    assert.deepEqual([letter?.id, letter?.reason], [2, "gave-up"]);
    assert.match(letter?.words ?? "", /14 bytes are more than the cluster's queue takes \(13\)/);
    await using cluster = await postgresQueue({ url, durability: "power-loss" });
    await until("the first has come", () => forwarder.stats().through === 1);
    await cluster.removePackets({ firstId: 1, lastId: 1 });
    await forwarder.drained();
    assert.deepEqual(await inCluster(url), ["small too"]);
  },
);

/** The error that ends a forwarder of this file. */
async function refusal(
  path: string,
  url: string,
  options: Options = {},
): Promise<EdgeRefusedError> {
  const forwarder = await forward(path, url, options);
  const error = await within("it ends", forwarder.closed).then(() => undefined, (error) => error);
  assert(error instanceof EdgeRefusedError, String(error));
  await assert.rejects(forwarder.drained(), (again) => again === error);
  return error;
}

part("a restored file is refused, also once it has grown again", async ({ url, dir }) => {
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await using forwarder = await forward(queue, url);
    await queue.enqueueMany(["same", "same", "same"]);
    await forwarder.drained();
    await queue.enqueueMany(["same", "same"]);
    await forwarder.drained();
    await backUpQueue(dir.queue, dir.file("backup.db"));
    await queue.enqueueMany(["same", "same", "same"]);
    await forwarder.drained();
  }
  for (const suffix of ["", "-wal", "-shm"]) {
    await Deno.remove(dir.queue + suffix).catch(() => {});
  }
  await Deno.copyFile(dir.file("backup.db"), dir.queue);
  const short = await refusal(dir.queue, url);
  assert.equal(short.reason, "restored");
  assert.match(short.message, /has packets of this file up to id 8, and the file ends with id 5/);
  assert.match(short.message, /sendq remove.*asNew/s);
  // As many packets as before, the same to the byte: they are others all the same.
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["same", "same", "same", "same"]);
  }
  const grown = await refusal(dir.queue, url);
  assert.equal(grown.reason, "restored");
  assert.match(grown.message, /up to id 8, and in the file that packet is another one/);
  {
    await using queue = await OutboundQueue.open(dir.queue);
    assert.equal(queue.stats().packets, 4, "nothing was removed");
  }
  assert.equal((await inCluster(url)).length, 8, "nothing was forwarded");
  const log = new Kept();
  await using forwarder = await forward(dir.queue, url, { asNew: true, logger: log });
  await forwarder.drained();
  await log.says(/warn .*all that is in the file is forwarded, as from a new edge/);
  assert.equal((await inCluster(url)).length, 12);
  await forwarder.close();
  // From now on it is that file.
  await using again = await forward(dir.queue, url);
  await until("it forwards", () => again.state === "forwarding");
});

part("a file that is refused changes nothing, whatever name it comes under", async (given) => {
  const { server, url, dir } = given;
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await using forwarder = await forward(queue, url);
    await queue.enqueue("one");
    await forwarder.drained();
    await backUpQueue(dir.queue, dir.file("backup.db"));
    await queue.enqueue("two");
    await forwarder.drained();
  }
  const edges = () =>
    server.sql(
      "SELECT e.id, e.name, e.epoch, through, seen_at FROM sendq.edge e JOIN sendq.queue q " +
        `ON q.id = e.queue WHERE q.name = '${nameIn(url)}'`,
    );
  const before = await edges();
  for (const edge of ["plant 8", "plant 7"]) {
    const error = await refusal(dir.file("backup.db"), url, { edge });
    assert.deepEqual([error.reason, error.edge], ["restored", edge]);
    assert.equal(await edges(), before, edge);
  }
  // So the name still tells the file that has it from another one.
  {
    await using queue = await OutboundQueue.open(dir.file("other.db"));
    await queue.enqueue("of another file");
  }
  assert.equal((await refusal(dir.file("other.db"), url)).reason, "replaced");
  assert.equal(await edges(), before);
});

part("a file that was made anew under the same name is refused", async ({ url, dir }) => {
  {
    await using forwarder = await forward(dir.queue, url);
    await forwarder.queue.enqueueMany(numbers(3));
    await forwarder.drained();
  }
  for (const suffix of ["", "-wal", "-shm", ".lock"]) {
    await Deno.remove(dir.queue + suffix).catch(() => {});
  }
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["a", "b", "c", "d", "e"]);
  }
  const error = await refusal(dir.queue, url);
  assert.deepEqual([error.reason, error.edge], ["replaced", "plant 7"]);
  assert.match(
    error.message,
    /another file was forwarded under this name, with packets up to id 3/,
  );
  assert.deepEqual(await inCluster(url), numbers(3));
  // The path is the name, where none is given.
  const unnamed = await Forwarder.open(dir.queue, { url, durability: "power-loss" });
  assert.equal(unnamed.edge, await Deno.realPath(dir.queue));
  await unnamed.close({ deliverTimeoutMs: 0 });
  await using forwarder = await forward(dir.queue, url, { asNew: true });
  await forwarder.drained();
  assert.deepEqual(await inCluster(url), [...numbers(3), "a", "b", "c", "d", "e"]);
  const looker = lookerAt({ url });
  const { edges } = await looker.look();
  looker.close();
  assert.deepEqual(
    edges.map(({ name, through, packets }) => [name, through, packets]),
    [["plant 7", 5, 5], [undefined, 3, 3]],
  );
});

part("a copy that is forwarded beside its original is told from it", async ({ url, dir }) => {
  await using queue = await OutboundQueue.open(dir.queue);
  await using original = await forward(queue, url);
  await queue.enqueueMany(numbers(3));
  await original.drained();
  await backUpQueue(dir.queue, dir.file("copy.db"));
  await using copy = await OutboundQueue.open(dir.file("copy.db"));
  const second = await forward(copy, url, { logger: new Kept() });
  await until("the copy was let in", () => second.state === "forwarding");
  await queue.enqueue("of the original");
  await original.drained();
  await copy.enqueue("of the copy");
  await assert.rejects(within("it ends", second.closed), (error) => {
    assert(error instanceof EdgeRefusedError, String(error));
    return error.reason === "restored";
  });
  assert.equal(copy.stats().packets, 1);
  assert.deepEqual(await inCluster(url), [...numbers(3), "of the original"]);
});

part("what was asked before somebody began anew does nothing any more", async ({ url }) => {
  const address = parseQueueUrl(url);
  const calls = () =>
    new EdgeCalls({
      database: new Database({
        ...{ address, clock: systemClock, answerTimeoutMs: 5000, waitsForStandby: false },
      }),
      ...{ name: address.name, path: url, edge: "plant 7", durability: "power-loss" },
      ...{ maxPackets: 100, maxBytes: 100, clock: systemClock },
    });
  const [late, present] = [calls(), calls()];
  const id = crypto.randomUUID();
  const begin = async (calls: EdgeCalls): Promise<EdgeSession> => {
    const looked = await calls.open(id, false, undefined);
    assert("markMs" in looked && !("epoch" in looked), "a look opens nothing");
    const session = await calls.open(id, false, looked);
    assert("epoch" in session);
    return session;
  };
  const notice = { queuedPackets: 1, queuedBytes: 1, oldestAgeMs: 0, deadPackets: 0 };
  const batch = (firstId: number, text: string) =>
    packForEdge([{
      ...{ firstId, bytes: new TextEncoder().encode(text), expiresAtMs: Infinity },
      ends: Uint32Array.of(text.length),
    }]);
  const before = await begin(late);
  const now = await begin(present);
  assert.deepEqual([before.epoch, now.epoch], [1, 2]);
  const overtaken = (error: unknown) =>
    error instanceof ClusterError && /another forwarder has begun/.test(error.message);
  await assert.rejects(late.forward(id, before, batch(1, "late"), 7, notice), overtaken);
  await assert.rejects(late.beat(id, before, notice), overtaken);
  assert.equal(await present.forward(id, now, batch(1, "first"), 7, notice), undefined);
  // Twice under one epoch, or with a gap: it is not what the cluster has.
  await assert.rejects(present.forward(id, now, batch(1, "first"), 7, notice), overtaken);
  await assert.rejects(
    present.forward(id, { ...now, through: 2 }, batch(3, "third"), 7, notice),
    overtaken,
  );
  await present.beat(id, now, notice);
  const outdated = await late.open(id, false, before);
  assert(!("epoch" in outdated), "what it has looked at has changed since");
  const again = await begin(late);
  assert.deepEqual(
    [again.epoch, again.through, again.markMs, again.markCrc],
    [3, 1, 7, batch(1, "first").lastCrc],
  );
  assert.deepEqual(await inCluster(url), ["first"]);
  late.close();
  present.close();
});

Deno.test("what one call takes: whole packets, at least one, within the bounds", () => {
  const batch = (firstId: number, ends: number[]) => ({
    firstId,
    bytes: new Uint8Array(ends.at(-1) ?? 0),
    ends: Uint32Array.from(ends),
    expiresAtMs: Infinity,
  });
  const batches = [batch(1, [10, 20, 30]), batch(7, [5]), batch(8, [100, 101])];
  const taken = (maxPackets: number, maxBytes: number) => {
    const { lastId, packets, payload } = packForEdge(takeWithin(batches, { maxPackets, maxBytes }));
    return [lastId, packets, payload.length];
  };
  assert.deepEqual(taken(9, 999), [9, 6, 136]);
  assert.deepEqual(taken(9, 136), [9, 6, 136]);
  assert.deepEqual(taken(9, 135), [8, 5, 135]);
  assert.deepEqual(taken(9, 134), [7, 4, 35]);
  assert.deepEqual(taken(9, 34), [3, 3, 30]);
  assert.deepEqual(taken(2, 999), [2, 2, 20]);
  assert.deepEqual(taken(3, 999), [3, 3, 30]);
  assert.deepEqual(taken(1, 1), [1, 1, 10]);
});

Deno.test("an answer that is on the primary alone is none: a forwarder begins anew", async () => {
  const database = {
    clock: systemClock,
    ask: () =>
      Promise.resolve({ rows: [{ answer: { epoch: 1, through: 1 } }], unreplicated: true }),
  } as unknown as Database;
  const calls = new EdgeCalls({
    ...{ database, name: "q", path: "postgres://db/q", edge: "e", durability: "machine-loss" },
    ...{ maxPackets: 1, maxBytes: 1, clock: systemClock },
  });
  const isNone = (error: unknown) =>
    error instanceof ClusterError && /wait for a standby was given up/.test(error.message);
  const id = crypto.randomUUID();
  await assert.rejects(calls.open(id, false, undefined), isNone);
  const session = { epoch: 1, through: 0, markMs: 0, markCrc: 0 };
  const batch = packForEdge([{
    ...{ firstId: 1, bytes: new Uint8Array(1), ends: Uint32Array.of(1), expiresAtMs: Infinity },
  }]);
  const notice = { queuedPackets: 1, queuedBytes: 1, oldestAgeMs: 0, deadPackets: 0 };
  await assert.rejects(calls.forward(id, session, batch, 0, notice), isNone);
});

part("a cluster that promises too little gets nothing", async ({ url, dir }) => {
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue("one");
  const log = new Kept();
  const forwarder = await forward(queue, url, { durability: "machine-loss", logger: log });
  await log.says(/warn .*synchronous_standby_names is empty/);
  await forwarder.close({ deliverTimeoutMs: 0 });
  assert.equal(queue.stats().packets, 1);
  assert.deepEqual(await inCluster(url), []);
});

part(
  "a database that has gone back is named, and what comes goes on",
  async ({ server, url, dir }) => {
    await using queue = await OutboundQueue.open(dir.queue);
    const log = new Kept();
    await using forwarder = await forward(queue, url, { logger: log });
    await queue.enqueueMany(numbers(3));
    await forwarder.drained();
    await server.sql(`DELETE FROM sendq.edge WHERE queue = (
    SELECT id FROM sendq.queue WHERE name = '${nameIn(url)}')`);
    await queue.enqueue("4");
    await forwarder.drained();
    await log.says(/warn the cluster has gone back .* up to id 3 were acknowledged/);
    assert.deepEqual(await inCluster(url), numbers(4));
  },
);

part("a database that goes back while nothing comes is named", async ({ server, url, dir }) => {
  let aheadMs = 0;
  const clock: Clock = {
    ...systemClock,
    nowMs: () => systemClock.nowMs() + aheadMs,
    // It looks whether it has to say that it lives, as soon as the test says that it has.
    setTimer: (delayMs, callback) => systemClock.setTimer(Math.min(delayMs, 50), callback),
  };
  await using queue = await OutboundQueue.open(dir.queue);
  const log = new Kept();
  await using forwarder = await forward(queue, url, { logger: log, clock });
  await queue.enqueueMany(numbers(3));
  await forwarder.drained();
  // To a moment at which this forwarder had begun.
  await server.sql(`UPDATE sendq.edge SET through = 1 WHERE queue = (
    SELECT id FROM sendq.queue WHERE name = '${nameIn(url)}')`);
  aheadMs = 10_000;
  await log.says(/warn the cluster has gone back .* up to id 3 .* up to 1 alone/);
  await queue.enqueue("4");
  await forwarder.drained();
});

part(
  "a producer's role is enough, and each role's words are there",
  async ({ server, url, dir }) => {
    const user = `edge_${server.port}`;
    await server.sql(
      `CREATE USER ${user}; GRANT sendq_producer TO ${user}; CREATE USER no_${user}`,
    );
    const as = (who: string) => url.replace("postgres@", `${who}@`);
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue("one");
    const log = new Kept();
    const nobody = await forward(queue, as(`no_${user}`), { logger: log });
    await log.says(/warn .*GRANT sendq_producer/);
    await nobody.close({ deliverTimeoutMs: 0 });
    await using forwarder = await forward(queue, as(user));
    await forwarder.drained();
    assert.deepEqual(await inCluster(url), ["one"]);
  },
);

part("status shows each edge, how far it is and when it was seen", async ({ url, dir }) => {
  await using forwarder = await forward(dir.queue, url);
  await forwarder.queue.enqueueMany(numbers(3));
  await forwarder.drained();
  const text = await runHere(["status", "-q", url]);
  assert.match(text.out, /^edge +plant 7: 3 packets, through id 3; seen .* ago at 127\.0\.0\.1/m);
  const { edges } = JSON.parse((await runHere(["status", "-q", url, "--json"])).out);
  assert.equal(edges.length, 1);
  assert.deepEqual([edges[0].name, edges[0].through, edges[0].bytes], ["plant 7", 3, 3]);
  // One that has ended with everything forwarded leaves nothing that is said to wait there.
  await forwarder.queue.enqueueMany(numbers(500));
  await forwarder.close();
  const ended = await runHere(["status", "-q", url]);
  assert.match(ended.out, /^edge +plant 7: 503 packets, through id 503; seen .* at 127\.0\.0\.1$/m);
});

part("a schema without edges: it is said what to do, and setup brings it along", async (given) => {
  const { server, dir } = given;
  const database = "version_1";
  await server.sql(`CREATE DATABASE ${database}`);
  const file = new URL("./schema_1.sql", import.meta.url);
  await server.sql(Deno.readTextFileSync(file), database);
  const url = server.url("outbox", database);
  const looked = await runHere(["status", "-q", url]);
  assert.equal(looked.code, 1);
  assert.match(looked.err, /sendq postgres setup/);
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue("from the edge");
  const log = new Kept();
  await using forwarder = await forward(queue, url, { logger: log });
  await log.says(/warn .*no schema sendq of this version.*sendq postgres setup/);
  assert.deepEqual(
    await setUp(url),
    { versionBefore: 1, version: SCHEMA_VERSION, queue: "outbox" },
  );
  await forwarder.drained();
  assert.deepEqual(await inCluster(url), ["two", "four", "from the edge"]);
  await server.sql("INSERT INTO sendq.migration (version) VALUES (99)", database);
  await using other = await OutboundQueue.open(dir.file("other.db"));
  const newer = await forward(other, url, { edge: "other", logger: log });
  await log.says(/warn .*has version 99 of sendq's schema.*Use a newer sendq/);
  await newer.close({ deliverTimeoutMs: 0 });
});

part("what is asked for wrongly is named", async ({ url, dir }) => {
  await assert.rejects(forward(dir.queue, "tcp://one:1"), OptionError);
  await assert.rejects(forward(dir.queue, url, { edge: "a\nb" }), /edge must have/);
  await assert.rejects(forward(dir.queue, url, { maxPackets: 0 }), /maxPackets must be/);
  await using cluster = await postgresQueue({ url, durability: "power-loss" });
  await assert.rejects(forward(cluster, url), /must be a file/);
  await assert.rejects(forward(dir.queue, `${url}?weaker=warn`), (error) => {
    return error instanceof OptionError && error.option === "weaker" &&
      /must be refuse for a forwarder: .* packets wait in the edge's file/.test(error.message);
  });
  await (await forward(dir.queue, `${url}?weaker=refuse`)).close();
});

function nameIn(url: string): string {
  return url.slice(url.lastIndexOf("/") + 1);
}

Deno.test({
  ...unless(NO_POSTGRES, "edges that forward"),
  async fn(t) {
    await using server = await PostgresServer.start();
    for (const [i, [name, run]] of parts.entries()) {
      await t.step(name, async () => {
        using dir = new TempDir();
        await run({ server, dir, url: await server.makeQueue(`q${i}`) });
      });
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "the primary dies under a forwarder: it goes on with the standby"),
  async fn() {
    await using first = await PostgresServer.start();
    await first.makeQueue("outbox");
    await using second = await first.standby("p2");
    first.set("synchronous_standby_names = 'p2'");
    await first.reload();
    await until("the standby is waited for", async () => {
      const text = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
      return await first.sql(text) === "1";
    });
    using dir = new TempDir();
    await using queue = await OutboundQueue.open(dir.queue);
    const hosts = [first, second].map(({ port }) => `127.0.0.1:${port}`).join(",");
    const log = new Kept();
    // Its commits wait for the standby; the standby's own, later, for nobody.
    await using forwarder = await forward(
      queue,
      `postgres://postgres@${hosts}/postgres/outbox`,
      { logger: log },
    );
    let stored = 0;
    let stopped = false;
    const storing = (async () => {
      while (!stopped) {
        await queue.enqueue(String(++stored));
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    await until("there is traffic", () => (forwarder.stats().through ?? 0) > 50);
    await first.down();
    await log.says(/warn /);
    await second.promote();
    const before = forwarder.stats().through ?? 0;
    await until("it goes on", () => (forwarder.stats().through ?? 0) > before + 50);
    stopped = true;
    await storing;
    await forwarder.drained();
    assert.deepEqual(await inCluster(second.url("outbox")), numbers(stored));
    assert(!/gone back/.test(log.text), log.text);
  },
});
