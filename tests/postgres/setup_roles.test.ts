import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { SCHEMA_VERSION, setUp } from "../../src/postgres/setup.ts";
import { unless } from "../queue/helpers.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

Deno.test({
  ...unless(NO_POSTGRES, "setup in two databases of a server at once makes the roles once"),
  async fn(t) {
    await using server = await PostgresServer.start();
    const memberships = () =>
      server.sql(
        "SELECT string_agg(format('%s %s', roleid::regrole, member::regrole), ', ' ORDER BY roleid) " +
          "FROM pg_auth_members WHERE roleid::regrole::text LIKE 'sendq%'",
      );
    const CHAIN = "sendq_producer sendq_sender, sendq_sender sendq_operator";
    /** As setup in another database, until this one waits for it. */
    const meanwhile = async (database: string, statements: string) => {
      await server.sql(`CREATE DATABASE ${database}`);
      const other = server.sql(`
        DO $$ BEGIN
          ${statements}
          PERFORM pg_advisory_xact_lock(7);
          FOR i IN 1 .. 400 LOOP
            PERFORM pg_stat_clear_snapshot();
            EXIT WHEN EXISTS (SELECT FROM pg_stat_activity
              WHERE application_name = 'sendq' AND wait_event_type = 'Lock');
            PERFORM pg_sleep(0.05);
          END LOOP;
        END $$`);
      const begun = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7";
      while (await server.sql(begun) === "0");
      const result = await setUp(server.url("outbox", database));
      await other;
      assert.deepEqual(result, { versionBefore: 0, version: SCHEMA_VERSION, queue: "outbox" });
      assert.equal(await memberships(), CHAIN);
    };

    await t.step("where they are being made", () =>
      meanwhile(
        "one",
        "CREATE ROLE sendq_producer; CREATE ROLE sendq_sender; CREATE ROLE sendq_operator; " +
          "GRANT sendq_producer TO sendq_sender; GRANT sendq_sender TO sendq_operator;",
      ));

    await t.step("where they are there, and are being granted to each other", async () => {
      await server.sql(
        "REVOKE sendq_producer FROM sendq_sender; REVOKE sendq_sender FROM sendq_operator",
      );
      await meanwhile(
        "two",
        "GRANT sendq_producer TO sendq_sender; GRANT sendq_sender TO sendq_operator;",
      );
    });
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "setup whose connection is lost changes nothing, and says what to do"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.sql("CREATE DATABASE one");
    // It waits for this one, which ends its connection then.
    const other = server.sql(`
      DO $$ BEGIN
        CREATE ROLE sendq_producer;
        FOR i IN 1 .. 400 LOOP
          PERFORM pg_stat_clear_snapshot();
          EXIT WHEN (SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = 'sendq' AND wait_event_type = 'Lock');
          PERFORM pg_sleep(0.05);
        END LOOP;
        RAISE EXCEPTION 'undone';
      END $$`).catch(() => {});
    const running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%CREATE ROLE%' " +
      "AND wait_event = 'PgSleep'";
    while (await server.sql(running) === "0");
    const url = server.url("outbox", "one");
    await assert.rejects(
      setUp(url),
      (error) =>
        error instanceof QueueFileError && error.reason === "busy" &&
        /the connection to the database was lost.*or nothing was.*setup again/.test(error.message),
    );
    await other;
    assert.deepEqual(await setUp(url), {
      ...{ versionBefore: 0, version: SCHEMA_VERSION, queue: "outbox" },
    });
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "who may not connect to the database is told of that, not of roles alone"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.sql("CREATE DATABASE one");
    await setUp(server.url("outbox", "one"));
    await server.sql(`
      CREATE USER producer; GRANT sendq_producer TO producer;
      REVOKE CONNECT ON DATABASE one FROM public`);
    await assert.rejects(
      postgresQueue({ url: server.url("outbox", "one", "producer") }),
      (error) =>
        error instanceof QueueFileError && error.reason === "read-only" &&
        /permission denied for database "one"\. .*it needs CONNECT on the database/
          .test(error.message),
    );
  },
});
