import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { parseQueueUrl } from "../../src/postgres/address.ts";
import { Database } from "../../src/postgres/database.ts";
import { ConnectionLostError } from "../../src/postgres/errors.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { OLDER_ROUNDS, Primary } from "../../src/postgres/primary.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { until, within } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

Deno.test("a primary moves with a newer timeline, and not back to an old one", () => {
  const primary = new Primary();
  let moves = 0;
  const unsubscribe = primary.subscribe(() => moves++);
  primary.found(0, "00000001");
  assert.deepEqual([primary.first, moves], [0, 0]);
  primary.found(2, "00000002");
  assert.deepEqual([primary.first, moves], [2, 1]);
  primary.found(0, "00000001");
  assert.deepEqual([primary.first, moves], [2, 1], "one that was replaced");
  assert.equal(primary.found(0, "00000001", OLDER_ROUNDS - 1), false);
  primary.found(2, "0000000A");
  assert.deepEqual([primary.first, moves], [2, 1], "the same server once more");
  unsubscribe();
  assert.equal(primary.found(1, "0000000B"), true);
  assert.deepEqual([primary.first, moves], [1, 1]);
  primary.subscribe(() => moves++);
  assert.equal(primary.found(0, "00000001", OLDER_ROUNDS), true, "the database was restored");
  assert.deepEqual([primary.first, primary.timeline, moves], [0, "00000001", 2]);
});

/** Lets everybody in: AuthenticationOk, ReadyForQuery. */
const WELCOME = Uint8Array.of(0x52, 0, 0, 0, 8, 0, 0, 0, 0, 0x5a, 0, 0, 0, 5, 0x49);

for (const [after, welcome] of [["a login", WELCOME], ["nothing", undefined]] as const) {
  Deno.test(`close behind a host that says nothing after ${after} ends at once`, async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const database = new Database({
      address: parseQueueUrl(`postgres://postgres@127.0.0.1:${port},127.0.0.1:${port}/none/outbox`),
      ...{ clock: systemClock, answerTimeoutMs: 600_000, waitsForStandby: false },
    });
    const question = database.ask("SELECT 1", []);
    const told = assert.rejects(question, (error) => {
      assert(error instanceof ConnectionLostError, String(error));
      assert.equal(error.sent, false);
      return true;
    });
    using host = await listener.accept();
    const buffer = new Uint8Array(4096);
    assert((await host.read(buffer) ?? 0) > 0);
    if (welcome !== undefined) {
      await host.write(welcome);
      assert((await host.read(buffer) ?? 0) > 0, "the first question");
    }
    database.close();
    await within("it is told", told);
    const ended = async () => {
      while (await host.read(buffer) !== null);
    };
    await within("the connection has ended", ended().catch(() => {}));
  });
}

for (const isWelcome of [false, true]) {
  const does = isWelcome ? "hangs up on a question" : "lets nobody log in";
  Deno.test(`a host that ${does} is told of in words`, async () => {
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    const database = new Database({
      address: parseQueueUrl(`postgres://postgres@127.0.0.1:${port}/none/outbox`),
      ...{ clock: systemClock, answerTimeoutMs: 600_000, waitsForStandby: false },
    });
    const words = isWelcome
      ? /^no primary can be reached \(127\.0\.0\.1:\d+: the server has ended it\)$/
      : /^no primary can be reached \(127\.0\.0\.1:\d+: it accepts connections, and .* not answer\)$/;
    const told = assert.rejects(database.ask("SELECT 1", []), { message: words });
    using host = await listener.accept();
    if (isWelcome) {
      const buffer = new Uint8Array(4096);
      assert((await host.read(buffer) ?? 0) > 0);
      await host.write(WELCOME);
      assert((await host.read(buffer) ?? 0) > 0, "the first question");
      await host.closeWrite();
    }
    await within("it is told", told);
    database.close();
  });
}

Deno.test("close before a connection was begun: none is", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const database = new Database({
    address: parseQueueUrl(`postgres://postgres@127.0.0.1:${listener.addr.port}/none/outbox`),
    ...{ clock: systemClock, answerTimeoutMs: 600_000, waitsForStandby: false },
  });
  const question = database.ask("SELECT 1", []);
  database.close();
  await assert.rejects(within("it is told", question), /the connection is closed/);
  await assert.rejects(database.ask("SELECT 1", []), /the connection is closed/);
});

Deno.test({
  ...unless(NO_POSTGRES, "a primary that was replaced is not used while a newer one is known"),
  async fn() {
    await using old = await PostgresServer.start();
    await using young = await old.standby("p2");
    await young.promote();
    const primary = new Primary();
    primary.first = 1;
    let rounds = 0;
    const connect = () =>
      new Database({
        address: parseQueueUrl(
          `postgres://postgres@127.0.0.1:${old.port},127.0.0.1:${young.port}/postgres/outbox`,
        ),
        clock: {
          nowMs: () => systemClock.nowMs(),
          wallMs: () => systemClock.wallMs(),
          defer: (callback) => systemClock.defer(callback),
          // Nothing is gained by resting between two rounds.
          setTimer(delayMs, callback) {
            if (delayMs !== 200) return systemClock.setTimer(delayMs, callback);
            rounds++;
            return systemClock.setTimer(1, callback);
          },
        },
        ...{ answerTimeoutMs: 600_000, waitsForStandby: false, primary },
      });
    const one = connect(), two = connect();
    try {
      const where = async (database: Database) =>
        (await database.ask("SELECT inet_server_port() AS port", [])).rows[0]?.["port"];
      assert.equal(await where(one), young.port);
      await young.down();
      const isGone = (error: unknown) => error instanceof ConnectionLostError;
      // The first one may find out that the connection is lost.
      await assert.rejects(where(one), isGone);
      for (let i = 0; i < 3; i++) {
        await assert.rejects(where(one), /the timeline 00000001, and 00000002 is newer/);
        await assert.rejects(where(two), /the timeline 00000001, and 00000002 is newer/);
      }
      await young.up();
      assert.equal(await where(one), young.port);
      rounds = 0;
      await young.down();
      await assert.rejects(where(one), isGone);
      // It is never seen again: the older one is what there is.
      await until(
        "the older one is used",
        () =>
          where(one).then((port) => port === old.port, (error) => {
            assert(isGone(error), String(error));
            return false;
          }),
        // A round has two servers, and the machine may be busy.
        180_000,
      );
      // Not sooner.
      assert(rounds >= OLDER_ROUNDS, String(rounds));
      assert.equal(await where(two), old.port, "all connections know it");
    } finally {
      one.close();
      two.close();
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "who waits for an old primary is told when another one is found"),
  async fn() {
    await using old = await PostgresServer.start();
    await using young = await old.standby("p2");
    const primary = new Primary();
    const connect = (...servers: PostgresServer[]) =>
      new Database({
        address: parseQueueUrl(
          `postgres://postgres@${
            servers.map(({ port }) => `127.0.0.1:${port}`).join(",")
          }/postgres/outbox`,
        ),
        clock: systemClock,
        // Nobody is told by this one.
        answerTimeoutMs: 600_000,
        waitsForStandby: false,
        primary,
      });
    const waiting = connect(old, young);
    const looking = connect(old, young);
    try {
      const where = async (database: Database) =>
        (await database.ask("SELECT inet_server_port() AS port", [])).rows[0]?.["port"];
      assert.deepEqual([await where(waiting), await where(looking)], [old.port, old.port]);
      const question = waiting.ask("SELECT pg_sleep(600)", []);
      question.catch(() => {});
      // Both believe to be the primary now, and the old one does not say a word.
      await young.promote();
      await old.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity " +
          "WHERE application_name = 'sendq' AND query NOT LIKE '%pg_sleep%'",
      );
      const found = connect(old, young);
      primary.first = 1;
      try {
        assert.equal(await where(found), young.port);
      } finally {
        found.close();
      }
      await assert.rejects(question, (error) => {
        assert(error instanceof ConnectionLostError);
        assert.equal(error.sent, true);
        return true;
      });
      assert.equal(await where(waiting), young.port);
      assert.equal(await where(looking), young.port);
    } finally {
      waiting.close();
      looking.close();
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "who has waited for its turn to send knows what was done meanwhile"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    await using waiting = await postgresQueue({ url });
    await using storing = await postgresQueue({ url });
    await storing.enqueueMany(["1\n", "2\n", "3\n"]);
    const side = sendingSideOf(storing);
    const tenure = await side.takeTenure(systemClock);
    await side.removeThrough(2);
    const turn = sendingSideOf(waiting).takeTenure(systemClock);
    await tenure.release();
    const next = await turn;
    try {
      assert.deepEqual(
        [waiting.stats().packets, sendingSideOf(waiting).removedThroughId],
        [1, 2],
      );
    } finally {
      await next.release();
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a weak commit is told of, also when another question is asked meanwhile"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.sql(
      "CREATE FUNCTION weak() RETURNS void LANGUAGE plpgsql AS $$ BEGIN " +
        "RAISE WARNING 'it means too little' USING ERRCODE = 'SQ003'; " +
        "PERFORM pg_advisory_xact_lock(7); END $$",
    );
    const connect = () =>
      new Database({
        ...{ address: parseQueueUrl(server.url("outbox")), clock: systemClock },
        ...{ answerTimeoutMs: 600_000, waitsForStandby: false },
      });
    const database = connect(), holder = connect();
    try {
      await holder.ask("SELECT pg_advisory_lock(7)", []);
      const weak = database.ask("SELECT weak()", []);
      // It has warned, and is not answered.
      await until("it waits", async () =>
        await server.sql(
          "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'",
        ) === "1");
      const meanwhile = database.ask("SELECT 1", []);
      await holder.ask("SELECT pg_advisory_unlock(7)", []);
      assert.equal((await weak).weakness, "it means too little");
      await meanwhile;
      assert.equal((await database.ask("SELECT 1", [])).weakness, undefined, "it is said once");
    } finally {
      database.close();
      holder.close();
    }
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "settings of a database change neither bytes nor who has to wait"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    await server.sql("ALTER DATABASE postgres SET bytea_output = 'escape'");
    await server.sql("ALTER DATABASE postgres SET default_transaction_isolation = serializable");
    await using queue = await postgresQueue({ url });
    const packets = [Uint8Array.of(0xff), Uint8Array.of(0, 92, 10, 65)];
    for (const packet of packets) await queue.enqueue(packet);
    const read = await queue.read(0, 1 << 20);
    assert.deepEqual(read.map(({ payload }) => [...payload]), packets.map((bytes) => [...bytes]));
    const holder = new Database({
      ...{ address: parseQueueUrl(url), clock: systemClock },
      ...{ answerTimeoutMs: 600_000, waitsForStandby: false },
    });
    const waits = (event: string) =>
      until(`somebody waits for ${event}`, async () => {
        const text = `SELECT count(*) FROM pg_stat_activity WHERE wait_event = '${event}'`;
        return await server.sql(text) !== "0";
      });
    const tenure = await sendingSideOf(queue).takeTenure(systemClock);
    try {
      await holder.ask("SELECT pg_advisory_lock(7)", []);
      const other = server.sql(
        "UPDATE sendq.queue SET version = version + 1; SELECT pg_advisory_xact_lock(7)",
      );
      await waits("advisory");
      const released = tenure.release();
      await waits("transactionid");
      await holder.ask("SELECT pg_advisory_unlock(7)", []);
      await other;
      await released;
      assert.equal(await server.sql("SELECT holder IS NULL FROM sendq.lease"), "t");
    } finally {
      holder.close();
      await tenure.release();
    }
  },
});

Deno.test({
  ...unless(
    NO_POSTGRES,
    "a setting that keeps checksums from being written is told, and stores nothing",
  ),
  async fn() {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await server.sql("CREATE USER loader IN ROLE sendq_sender");
    await server.sql("ALTER USER loader SET session_replication_role = replica");
    const url = `${server.url("outbox", "postgres", "loader")}?durability=power-loss`;
    await assert.rejects(postgresQueue({ url }), (error) => {
      assert(error instanceof QueueFileError, String(error));
      assert.equal(error.reason, "io");
      assert.match(error.message, /writes no checksums .* session_replication_role .* Take that/);
      return true;
    });
    await server.sql("ALTER USER loader RESET session_replication_role");
    await using queue = await postgresQueue({ url });
    await queue.enqueue("one");
    assert.equal((await queue.read(0, 1024)).length, 1);
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a user whose transactions are read-only is told so"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await server.sql("CREATE USER reader IN ROLE sendq_sender");
    await server.sql("ALTER USER reader SET default_transaction_read_only = on");
    const url = `${server.url("outbox", "postgres", "reader")}?durability=power-loss`;
    await using queue = await postgresQueue({ url, busyTimeoutMs: 0 });
    await assert.rejects(queue.enqueue("one"), /takes no changes .* default_transaction_read_only/);
  },
});
