import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { postgresInspector, postgresQueue, setUp } from "../../src/postgres/postgres.ts";
import { SCHEMA_VERSION } from "../../src/postgres/setup.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { text } from "../support/bytes.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const isOf = (reason: string, words: RegExp) => (error: unknown) =>
  error instanceof QueueFileError && error.reason === reason && words.test(error.message);
const ROLES = ["sendq_producer", "sendq_sender", "sendq_operator"];

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
      const older = isOf("not-a-queue", /has version 1 of sendq's schema.*sendq postgres setup/);
      await assert.rejects(postgresQueue({ url, durability: "power-loss" }), older);
      await assert.rejects(postgresInspector({ url }), older);
      assert.deepEqual(
        await setUp(url),
        { versionBefore: 1, version: SCHEMA_VERSION, queue: "outbox" },
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
