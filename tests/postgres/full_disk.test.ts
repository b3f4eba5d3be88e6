import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

Deno.test({
  name: "a sender is given packets where the disk has no room for a file to sort them in",
  ignore: NO_POSTGRES !== undefined,
  async fn() {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    // The plan is that of a queue with some hundred runs, and each file is one too many.
    server.set(`
      enable_indexscan = off
      enable_bitmapscan = off
      work_mem = 1MB
      temp_file_limit = 0
    `);
    await server.reload();
    await using queue = await postgresQueue({ url });
    await queue.enqueueMany(Array.from({ length: 128 }, () => new Uint8Array(16_000).fill(7)));
    const sending = sendingSideOf(queue);
    const tenure = await sending.takeTenure(systemClock);
    let lastId = 0;
    while (lastId < queue.lastId) {
      const batches = await sending.readBatches(lastId, 1024 * 1024);
      assert.equal(batches[0]?.firstId, lastId + 1);
      for (const { firstId, ends } of batches) lastId = firstId + ends.length - 1;
    }
    await sending.removeThrough(lastId);
    assert.equal(queue.stats().packets, 0);
    await tenure.release();
  },
});
