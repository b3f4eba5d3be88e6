/**
 * Senders as processes and servers of their own: what is killed, stopped and continued.
 * How long it takes is measured elsewhere; here it is what arrives.
 */
import assert from "node:assert/strict";
import { postgresQueue, setUp } from "../../src/postgres/postgres.ts";
import { SCHEMA_VERSION } from "../../src/postgres/setup.ts";
import type { OutboundQueue } from "../../src/queue/queue.ts";
import { LIBC, runWith, Sendq } from "../cli/helpers.ts";
import { unless } from "../queue/helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { until as untilOf } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** Three servers and a few processes on a busy machine. */
const DEADLINE_MS = 180_000;

function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  return untilOf(what, condition, DEADLINE_MS);
}

const ALONE = "?durability=power-loss";

/** The permissions that docs/CLUSTER.md names. */
function sendPermissions(ports: readonly number[], remote: string): string[] {
  const hosts = [...ports.map((port) => `127.0.0.1:${port}`), remote.replace("tcp://", "")];
  return ["--no-prompt", `--allow-net=${hosts.join(",")}`, `--allow-ffi=${LIBC}`];
}

function sender(url: string, ports: readonly number[], remote: string): Sendq {
  return new Sendq(sendPermissions(ports, remote), [
    ...["send", remote, "-q", url, "--input", "none", "--hold", "100ms"],
  ]);
}

/** Stores lines with numbers, without an end, until it is told to stop. */
class Producer {
  #stopped = false;
  readonly #done: Promise<number>;
  /** The highest number that was acknowledged. */
  acknowledged = 0;

  constructor(queue: OutboundQueue) {
    this.#done = this.#run(queue);
    // Whoever waits for it is told; a test that has failed before does not.
    this.#done.catch(() => {});
  }

  async #run(queue: OutboundQueue): Promise<number> {
    for (let n = 1; !this.#stopped; n++) {
      await queue.enqueue(`${n}\n`);
      this.acknowledged = n;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return this.acknowledged;
  }

  /** Returns how many packets were acknowledged. */
  stop(): Promise<number> {
    this.#stopped = true;
    return this.#done;
  }
}

/** The numbers of whole lines. */
function numbersIn(text: string): number[] {
  return text.split("\n").slice(0, -1).map(Number);
}

/** Everything up to a number has come, on each connection in order and without a gap. */
function checkArrived(texts: readonly string[], upTo: number): void {
  const seen = new Set<number>();
  for (const [i, text] of texts.entries()) {
    const numbers = numbersIn(text);
    for (const [at, number] of numbers.entries()) {
      const before = numbers[at - 1];
      if (before !== undefined) assert.equal(number, before + 1, `connection ${i}, line ${at}`);
      seen.add(number);
    }
  }
  const missing = Array.from({ length: upTo }, (_, i) => i + 1).filter((n) => !seen.has(n));
  assert.deepEqual(missing, [], "acknowledged packets have not arrived");
}

Deno.test({
  ...unless(NO_POSTGRES, "the command on PostgreSQL, with no more permissions than it says"),
  async fn(t) {
    await using server = await PostgresServer.start();
    const url = `${server.url("outbox")}${ALONE}`;
    const net = ["--no-prompt", `--allow-net=127.0.0.1:${server.port}`];
    await t.step("setup makes what is missing, and says what there was", async () => {
      const first = await runWith(net, ["postgres", "setup", server.url("outbox")]);
      assert.deepEqual(first, {
        code: 0,
        out: `${
          server.url("outbox")
        }: made the schema sendq, version ${SCHEMA_VERSION}; the queue outbox is ready\n`,
        err: "",
      });
      const again = await runWith(net, ["postgres", "setup", server.url()]);
      assert.match(
        again.out,
        new RegExp(`the schema sendq is there, version ${SCHEMA_VERSION}\n$`),
      );
    });
    await t.step("what is missing is named", async () => {
      const denied = await runWith(["--no-prompt"], ["enqueue", "-q", url, "one"]);
      assert.equal(denied.code, 77);
      assert.match(denied.err, new RegExp(`: --allow-net=127.0.0.1:${server.port}\\n$`));
      const weak = await runWith(net, ["enqueue", "-q", server.url("outbox"), "one"]);
      assert.equal(weak.code, 1);
      assert.match(weak.err, /synchronous_standby_names is empty/);
      const file = await runWith(net, ["backup", "-q", url, "copy.db"]);
      assert.equal(file.code, 2);
      assert.match(file.err, /is about a file/);
      const nameless = await runWith(net, ["enqueue", "-q", server.url(), "one"]);
      assert.equal(nameless.code, 2);
      assert.match(nameless.err, /the queue's name is missing/);
    });
    await t.step("enqueue, status, send", async () => {
      const stored = await runWith(net, ["enqueue", "-q", url, "one", "two"]);
      assert.deepEqual(stored, { code: 0, out: "stored 2 packets, ids 1 to 2\n", err: "" });
      const before = await runWith(net, ["status", "-q", url]);
      assert.match(
        before.out,
        /^packets +2, .*\nstored +2 ever\nsurvives .*\nstandbys +No commit waits/m,
      );
      assert.match(before.out, /^sender +none runs$/m);

      await using legacy = new ScriptedServer().start();
      const texts = legacy.readAll();
      await using running = sender(url, [server.port], legacy.remote);
      await until("both have come", () => texts.join("") === "one\ntwo\n");
      await until("the queue is empty", async () => {
        const { out } = await runWith(net, ["status", "-q", url, "--json"]);
        const { queue, sender } = JSON.parse(out);
        return queue.packets === 0 && sender?.epoch === 1 && sender.drainedPackets === 2;
      });
      running.child.kill("SIGTERM");
      assert.equal(await running.ended(), 0, running.stderr);
      const after = await runWith(net, ["status", "-q", url, "--json"]);
      assert.equal(JSON.parse(after.out).sender, null);
    });
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a sender is killed, or stopped and continued: another one goes on"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}${ALONE}`;
    await using queue = await postgresQueue({ url });
    await using legacy = new ScriptedServer().start();
    const texts = legacy.readAll();
    const producer = new Producer(queue);
    const start = () => sender(url, [server.port], legacy.remote);
    const grows = async (connection: number) => {
      const before = numbersIn(texts[connection] ?? "").length;
      await until(
        `connection ${connection} goes on`,
        () => numbersIn(texts[connection] ?? "").length > before + 20,
      );
    };
    await using first = start();
    await grows(0);
    await using second = start();
    await second.says(/standing by: process [0-9]+ sends/);
    first.child.kill("SIGKILL");
    await grows(1);
    // What the first had in hand is told beforehand, as the most that comes again.
    const [, most = "0"] = /up to ([0-9]+) packets were sent/.exec(second.stderr) ?? [];
    const lastOfFirst = numbersIn(texts[0] ?? "").at(-1) ?? 0;
    const firstOfSecond = numbersIn(texts[1] ?? "")[0] ?? 0;
    assert(
      lastOfFirst + 1 - firstOfSecond <= Number(most),
      `${firstOfSecond} to ${lastOfFirst} came twice, and up to ${most} were told`,
    );

    await using third = start();
    await third.says(/standing by/);
    second.child.kill("SIGSTOP");
    await grows(2);
    const sentByStopped = texts[1];
    second.child.kill("SIGCONT");
    assert.equal(await second.ended(), 1);
    assert.match(second.stderr, /another sender has taken it over/);
    await grows(2);
    assert.equal(texts[1], sentByStopped, "the one that was stopped has sent something");

    // One that stops in order gives its right up: nobody waits for it to run out.
    await using fourth = start();
    await fourth.says(/standing by/);
    third.child.kill("SIGTERM");
    await third.ended();
    await grows(3);
    const acknowledged = await producer.stop();
    await until("all is delivered", () => texts.at(-1)?.endsWith(`\n${acknowledged}\n`) === true);
    checkArrived(texts, acknowledged);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "the primary is found wherever it stands among the servers"),
  async fn() {
    await using primary = await PostgresServer.start();
    await using first = await primary.standby("p2");
    await using second = await primary.standby("p3");
    const ports = [first, second, primary].map(({ port }) => port);
    const address = (order: readonly number[]) =>
      `postgres://postgres@${order.map((port) => `127.0.0.1:${port}`).join(",")}/postgres/outbox`;
    await setUp(address(ports));
    for (const order of [ports, ports.toReversed(), [first.port, primary.port, second.port]]) {
      await using queue = await postgresQueue({ url: `${address(order)}${ALONE}` });
      await queue.enqueue("1\n");
    }
    await assert.rejects(
      postgresQueue({ url: `${address([first.port, second.port])}${ALONE}` }),
      (error: Error) => {
        assert.match(error.message, new RegExp(`:${first.port}: it is a standby`));
        assert.match(error.message, new RegExp(`:${second.port}: it is a standby`));
        return true;
      },
    );
    // A connection that ends while nobody asks is made again, and looked at again.
    await using queue = await postgresQueue({ url: `${address(ports)}${ALONE}` });
    await queue.enqueue("2\n");
    await primary.sql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sendq'",
    );
    await queue.enqueue("3\n");
    assert.equal(queue.lastId, 5);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "three servers: standbys are lost, a wait is given up, the primary dies"),
  async fn() {
    await using first = await PostgresServer.start();
    await first.makeQueue("outbox");
    await using second = await first.standby("p2");
    await using third = await first.standby("p3");
    first.set("synchronous_standby_names = 'ANY 1 (p2, p3)'");
    await first.reload();
    await until("a standby is waited for", async () => {
      const text = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
      return await first.sql(text) === "2";
    });
    const ports = [first.port, second.port, third.port];
    const url = `postgres://postgres@${ports.map((port) => `127.0.0.1:${port}`).join(",")}` +
      "/postgres/outbox";
    await using queue = await postgresQueue({
      ...{ url, answerTimeoutMs: 1000 },
      // However long the machine takes for a failover.
      busyTimeoutMs: DEADLINE_MS,
    });
    assert.equal(await queue.enqueue("1\n"), 1);

    // Both standbys are gone: nothing is acknowledged, however often the wait is given up.
    await second.down();
    await third.down();
    let settled = false;
    const waiting = queue.enqueue("2\n").finally(() => settled = true);
    const waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%commit%'";
    for (let i = 0; i < 3; i++) {
      await until(
        "it waits for a standby",
        async () => await first.sql(`SELECT 1 ${waits} LIMIT 1`) === "1",
      );
      await first.sql(`SELECT pg_cancel_backend(pid) ${waits}`);
    }
    assert.equal(settled, false, "acknowledged by nobody");
    assert.match(first.log, /canceling wait for synchronous replication/);
    await second.up();
    assert.equal(await waiting, 2);

    // The primary dies under traffic, and is never seen again.
    await third.up();
    await using legacy = new ScriptedServer().start();
    const texts = legacy.readAll();
    await using sending = sender(url, ports, legacy.remote);
    await until("it sends", () => texts.join("").includes("2\n"));
    const stored = numbersIn(texts.join("")).length;
    assert.equal(stored, 2);
    const ids: number[] = [];
    let stopped = false;
    const producing = (async () => {
      for (let n = 3; !stopped; n++) ids.push(await queue.enqueue(`${n}\n`));
    })();
    producing.catch(() => {});
    await until("there is traffic", () => numbersIn(texts.join("")).length > 50);
    await first.down();
    const before = ids.length;
    // Whoever has most of the log becomes the primary, the other one its standby.
    const [ahead, behind] = await Promise.all(
      [second, third].map(async (one) =>
        BigInt(
          await one.sql(
            "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint",
          ),
        )
      ),
    ).then(([two = 0n, three = 0n]) => two >= three ? [second, third] : [third, second]);
    assert(ahead && behind);
    ahead.set("synchronous_standby_names = 'ANY 1 (p2, p3)'");
    await ahead.reload();
    await until(
      "it will wait for standbys",
      async () => await ahead.sql("SHOW synchronous_standby_names") !== "",
    );
    await ahead.promote();
    const name = behind === second ? "p2" : "p3";
    behind.set(
      `primary_conninfo = 'host=127.0.0.1 port=${ahead.port} user=postgres application_name=${name}'`,
    );
    await behind.reload();
    await until("packets are stored again", () => ids.length > before + 20);
    stopped = true;
    await producing;
    assert.deepEqual(ids, Array.from(ids, (_, i) => i + 3), "ids follow each other");
    await until(
      "all is delivered",
      () => numbersIn(texts.at(-1) ?? "").at(-1) === ids.length + 2,
    );
    checkArrived(texts, ids.length + 2);
    sending.child.kill("SIGTERM");
    await until(
      "the queue is empty",
      async () => await ahead.sql("SELECT packets FROM sendq.queue") === "0",
    );
    assert.equal(await ahead.sql("SELECT last_id FROM sendq.queue"), String(ids.length + 2));
  },
});
