import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { lookerAt } from "../../src/postgres/look.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { systemClock } from "../../src/base/clock.ts";
import { unless } from "../queue/helpers.ts";
import { within } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

Deno.test({
  ...unless(
    NO_POSTGRES,
    "a lease whose row was removed by hand is told of, and setup makes it anew",
  ),
  async fn() {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    const isTold = (error: unknown) => {
      assert(error instanceof QueueFileError, String(error));
      assert.equal(error.reason, "not-a-queue");
      assert.match(error.message, /its row in the table sendq\.lease was removed.*postgres setup/);
      return true;
    };
    await using queue = await postgresQueue({ url });
    await queue.enqueue("kept");
    await server.sql("TRUNCATE sendq.lease");
    const looker = lookerAt({ url });
    try {
      await assert.rejects(looker.look(), isTold);
      const sending = sendingSideOf(queue);
      await assert.rejects(within("it is told", sending.takeTenure(systemClock)), isTold);
      await server.makeQueue("outbox");
      const tenure = await within("it is taken", sending.takeTenure(systemClock));
      const { counts, lease } = await looker.look();
      assert.deepEqual([counts.packets, lease?.epoch], [1, 1]);
      await tenure.release();
    } finally {
      looker.close();
    }
  },
});
