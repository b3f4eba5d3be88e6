import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { OptionError, QueueFileError } from "../../src/base/errors.ts";
import { postgresInspector, postgresQueue, setUp } from "../../src/postgres/postgres.ts";
import { DROP_FUNCTIONS, FUNCTIONS, SCHEMA_VERSION } from "../../src/postgres/setup.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { text } from "../support/bytes.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const isOf = (reason: string, words: RegExp) => (error: unknown) =>
  error instanceof QueueFileError && error.reason === reason && words.test(error.message);
const ROLES = ["sendq_producer", "sendq_sender", "sendq_operator"];

Deno.test("setup makes no queue under a name that nobody could open", async () => {
  for (const name of ["a%0ab", "x".repeat(201)]) {
    await assert.rejects(
      setUp(`postgres://postgres@127.0.0.1:1/none/${name}`),
      (error) => error instanceof OptionError && error.option === "name",
    );
  }
});

Deno.test({
  ...unless(NO_POSTGRES, "setup by who is no superuser, and from an older version"),
  async fn(t) {
    await using server = await PostgresServer.start();
    const asDeployer = (database: string) => server.url("outbox", database, "deployer");
    await server.sql("CREATE USER deployer CREATEROLE");
    await server.sql("CREATE USER helper");

    await t.step("who may make no schema is told what to be granted", async () => {
      await server.sql("CREATE DATABASE one");
      await assert.rejects(
        setUp(asDeployer("one")),
        isOf(
          "read-only",
          /permission denied.*GRANT CREATE ON DATABASE one TO deployer.*CREATEROLE/,
        ),
      );
    });

    await t.step("a database that cannot write each character is refused, unchanged", async () => {
      await server.sql(
        "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
      );
      await assert.rejects(
        setUp(server.url("outbox", "latin")),
        isOf("not-a-queue", /has the encoding LATIN1.*CREATE DATABASE … ENCODING 'UTF8'/),
      );
      const schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'sendq'";
      assert.equal(await server.sql(schemas, "latin"), "0");
    });

    await t.step("a schema of this name that is somebody's own is left as it is", async () => {
      await server.sql("CREATE DATABASE taken");
      await server.sql("CREATE SCHEMA sendq", "taken");
      await assert.rejects(
        setUp(server.url("outbox", "taken")),
        isOf("not-a-queue", /schema sendq that .* has not made.*ALTER SCHEMA sendq RENAME TO/),
      );
    });

    await t.step("CREATE on the database and CREATEROLE are enough", async () => {
      await server.sql("GRANT CREATE ON DATABASE one TO deployer");
      assert.deepEqual(
        await setUp(asDeployer("one")),
        { versionBefore: 0, version: SCHEMA_VERSION, queue: "outbox" },
      );
      // Who has made the schema may use all of it.
      const url = asDeployer("one");
      await using queue = await postgresQueue({ url, durability: "power-loss" });
      assert.equal(await queue.enqueue("one"), 1);
      using inspector = await postgresInspector({ url });
      assert.deepEqual(await inspector.check(), []);
      // Another one needs a role, of which there is one for each trade.
      const other = server.url("outbox", "one", "helper");
      await assert.rejects(postgresQueue({ url: other }), isOf("read-only", /permission denied/));
      await server.sql("SET ROLE deployer; GRANT sendq_producer TO helper");
      await using producer = await postgresQueue({ url: other, durability: "power-loss" });
      assert.equal(await producer.enqueue("two"), 2);
    });

    await t.step("without CREATEROLE where the roles are there already", async () => {
      await server.sql("ALTER USER deployer NOCREATEROLE");
      await server.sql("CREATE DATABASE two OWNER deployer");
      assert.equal((await setUp(asDeployer("two"))).versionBefore, 0);
      // Nobody else brings the schema along, or makes queues in it without the role.
      const other = server.url("more", "two", "helper");
      await assert.rejects(setUp(other), isOf("read-only", /GRANT sendq_operator TO helper/));
      await server.sql("GRANT sendq_operator TO helper");
      assert.equal((await setUp(other)).queue, "more");
    });

    await t.step("a schema of version 1 is brought along, with all that is in it", async () => {
      const file = new URL("./schema_1.sql", import.meta.url);
      await server.sql("CREATE DATABASE old");
      await server.sql(Deno.readTextFileSync(file), "old");
      const url = server.url("outbox", "old");
      await server.sql(
        "INSERT INTO sendq.queue (name) VALUES ('held'); INSERT INTO sendq.lease " +
          "SELECT id, 1, 1, 'somebody', '' FROM sendq.queue WHERE name = 'held'",
        "old",
      );
      const older = isOf("not-a-queue", /has version 1 of sendq's schema.*sendq postgres setup/);
      await assert.rejects(postgresQueue({ url, durability: "power-loss" }), older);
      await assert.rejects(postgresInspector({ url }), older);
      // What cannot be brought along whole stays as it is.
      const tables =
        "SELECT string_agg(conname, ' ' ORDER BY conname), (SELECT max(version) FROM " +
        "sendq.migration) FROM pg_constraint WHERE connamespace = 'sendq'::regnamespace";
      const before = await server.sql(tables, "old");
      await server.sql("CREATE FUNCTION sendq.keep_run() RETURNS integer RETURN 1", "old");
      await server.sql("CREATE VIEW one AS SELECT sendq.keep_run()", "old");
      await assert.rejects(setUp(url), isOf("io", /keep_run/));
      assert.equal(await server.sql(tables, "old"), before);
      await server.sql("DROP VIEW one; DROP FUNCTION sendq.keep_run", "old");
      assert.deepEqual(
        await setUp(url),
        { versionBefore: 1, version: SCHEMA_VERSION, queue: "outbox" },
      );
      // For how long a holder of before takes its beats for good, nobody knows.
      assert.equal(
        await server.sql("SELECT array_agg(ttl_ms ORDER BY queue) FROM sendq.lease", "old"),
        "{600000,600000}",
      );
      using inspector = await postgresInspector({ url });
      assert.deepEqual(await inspector.check(), []);
      const packets = await Array.fromAsync(inspector.packets({ payloadBytes: Infinity }));
      assert.deepEqual(packets.map(({ id, payload }) => [id, text(payload)]), [
        [2, "two"],
        [4, "four"],
      ]);
      await using queue = await postgresQueue({ url, durability: "power-loss" });
      assert.equal((await queue.requeue({ firstId: 3, lastId: 3 })).ids?.firstId, 5);
      const tenure = await sendingSideOf(queue).takeTenure(systemClock);
      await sendingSideOf(queue).removeThrough(4);
      await tenure.release();
      assert.deepEqual(await inspector.check(), []);
    });

    for (const database of ["one", "old"]) {
      await t.step(`what nobody may do by hand: ${database}`, async () => {
        const url = server.url("by hand", database);
        await setUp(url);
        await using queue = await postgresQueue({ url, durability: "power-loss" });
        await queue.enqueueMany(["one", "two"]);
        const id = "(SELECT id FROM sendq.queue WHERE name = 'by hand')";
        const refused = async (set: string, words: RegExp) => {
          const [table, column] = set.startsWith("run") ? ["run", "queue"] : ["queue", "id"];
          const sql = `UPDATE sendq.${set.replace(":", " SET")} WHERE ${table}.${column} = ${id}`;
          await assert.rejects(server.sql(sql, database), words, sql);
        };
        for (
          const set of [
            ...["packets = -1", "packets = 3", "packets = 0", "bytes = 1", "bytes = 0"],
            ...["removed_through = 1", "sent_through = 3", "last_id = 1", "dead_packets = -1"],
            "dead_bytes = -1",
          ]
        ) await refused(`queue: ${set}`, /the counts of queue by hand contradict/);
        for (
          const set of ["first_id = 0", "first_id = 3", "ends = '{6}'", "payload = ''"]
        ) await refused(`run: ${set}`, /the packets that end with id 2 contradict/);
        // A checksum is the database's own, and what is changed on purpose is no damage.
        await server.sql(
          `UPDATE sendq.run SET payload = 'oneTWO', checksum = NULL WHERE queue = ${id}`,
          database,
        );
        using inspector = await postgresInspector({ url });
        assert.deepEqual(await inspector.check(), []);
        const runs = `SELECT count(*) FROM sendq.run WHERE queue = ${id}`;
        assert.equal(await server.sql(runs, database), "1");
        // Its packets go with a queue.
        const gone = await server.sql(
          `WITH q AS (DELETE FROM sendq.queue WHERE id = ${id} RETURNING id) SELECT id FROM q`,
          database,
        );
        const left = `SELECT count(*) FROM sendq.run WHERE queue = ${gone}`;
        assert.equal(await server.sql(left, database), "0");
      });
    }

    await t.step("functions are made anew, and what triggers need is there", async () => {
      const url = server.url("anew", "old");
      await setUp(url);
      await server.sql(`BEGIN; ${DROP_FUNCTIONS} ${FUNCTIONS} COMMIT`, "old");
      await using queue = await postgresQueue({ url, durability: "power-loss" });
      await queue.enqueue("one");
      using inspector = await postgresInspector({ url });
      assert.deepEqual(await inspector.check(), []);
    });

    await t.step("whoever empties the queues by hand leaves the next ones nothing", async () => {
      const url = server.url("emptied", "two");
      const user = { durability: "power-loss" } as const;
      await setUp(url);
      await using queue = await postgresQueue({ url, ...user });
      await queue.enqueueMany(["old", "older"]);
      await server.sql("TRUNCATE sendq.queue RESTART IDENTITY CASCADE", "two");
      await setUp(url);
      await using next = await postgresQueue({ url, ...user });
      await next.enqueue("new");
      const packets = await next.read(0, 1000);
      assert.deepEqual(packets.map(({ id, payload }) => [id, text(payload)]), [[1, "new"]]);
    });

    await t.step("functions are for who has a role, and for nobody else", async () => {
      for (const database of ["one", "two", "old"]) {
        const open = await server.sql(
          "SELECT count(*) FROM pg_proc WHERE pronamespace = 'sendq'::regnamespace " +
            "AND has_function_privilege('public', oid, 'EXECUTE')",
          database,
        );
        assert.equal(open, "0", database);
        for (const role of ROLES) {
          const tables =
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'sendq'::regnamespace " +
            `AND relkind = 'r' AND relname <> 'migration' AND has_table_privilege('${role}', oid, ` +
            "'SELECT, INSERT, UPDATE, DELETE')";
          assert.equal(await server.sql(tables, database), "0", `${role} in ${database}`);
        }
      }
    });
  },
});
