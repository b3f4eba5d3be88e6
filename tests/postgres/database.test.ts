import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { parseQueueUrl } from "../../src/postgres/address.ts";
import { Database } from "../../src/postgres/database.ts";
import { ConnectionLostError } from "../../src/postgres/errors.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { Primary } from "../../src/postgres/primary.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
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
  primary.found(2, "0000000A");
  assert.deepEqual([primary.first, moves], [2, 1], "the same server once more");
  unsubscribe();
  primary.found(1, "0000000B");
  assert.deepEqual([primary.first, moves], [1, 1]);
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
