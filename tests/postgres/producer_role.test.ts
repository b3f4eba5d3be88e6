import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { Database, type Row } from "../../src/postgres/database.ts";
import { settingsOf } from "../../src/postgres/options.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { bytes } from "../support/bytes.ts";
import { until } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** What is asked for by hand: two packets, `ab` and `c`, unless it is something else. */
interface Asked {
  readonly packets?: string;
  readonly bytes?: string;
  readonly ends?: string;
  readonly left?: string;
}

Deno.test({
  ...unless(NO_POSTGRES, "who may only enqueue stores nothing that would stop the sender"),
  async fn(t) {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    await server.sql("CREATE USER mallory; GRANT sendq_producer TO mallory");
    const database = new Database({
      ...{ address: settingsOf({ url: server.url("outbox", "postgres", "mallory") }).address },
      ...{ clock: systemClock, answerTimeoutMs: 600_000, waitsForStandby: false },
    });
    const commit = async (
      { packets = "{2}", bytes: sizes = "{3}", ends = "{2,3}", left = "{0}" }: Asked,
    ): Promise<readonly Row[]> => {
      const text = "SELECT sendq.commit('outbox', gen_random_uuid(), 1, 1, 'power-loss', NULL, " +
        "0, 99, 99, 0, NULL, 0, 1000, 1000, 'reject', $1, $2, $1, $2, $5, $3, $4)";
      return (await database.ask(text, [packets, sizes, ends, bytes("abc"), left])).rows;
    };
    try {
      await t.step("ends that are none", async () => {
        await commit({});
        const wrong: Asked[] = [
          { ends: "{3,1}" },
          { ends: "{3,3}" },
          { ends: "{0,3}" },
          { ends: "{-1,3}" },
          { ends: "{2147483647,3}" },
          { ends: "{2,2147483647}" },
          { ends: "{2,4}" },
          { ends: "{NULL,3}" },
          { ends: "{1,NULL}" },
          { packets: "{1}", ends: "{2}" },
          { packets: "{1}", ends: "{2147483647}" },
          { packets: "{1}", ends: "{NULL}" },
          { packets: "{1,1}", bytes: "{1,2}", ends: "{2,1}" },
        ];
        for (const asked of wrong) {
          await assert.rejects(
            commit(asked),
            (error) => error instanceof Error && error.message === "the runs are not these packets",
            JSON.stringify(asked),
          );
        }
        await commit({ packets: "{1,1}", bytes: "{1,2}", ends: "{1,2}" });
        await using queue = await postgresQueue({ url, durability: "power-loss" });
        const packets = await queue.read(0, 1000);
        assert.deepEqual(
          packets.map(({ payload }) => new TextDecoder().decode(payload)),
          ["ab", "c", "a", "bc"],
        );
      });

      await t.step("times that are none", async () => {
        const longest = "9223372036854775807";
        for (const left of [longest, `-${longest}`, "NULL", "1"]) {
          await commit({ left: `{${left}}` });
        }
        assert.equal(
          await server.sql("SELECT count(*) FROM sendq.run WHERE expires_at_ms > 2 ^ 53 - 1"),
          "0",
        );
        await using queue = await postgresQueue({ url, durability: "power-loss" });
        const tenure = await sendingSideOf(queue).takeTenure(systemClock);
        const end = sendingSideOf(queue).sweepExpired();
        await until("one has expired", () => queue.stats().expiredPackets === 2);
        end();
        const batches = await sendingSideOf(queue).readBatches(0, 1000);
        assert.equal(batches.reduce((sum, { ends }) => sum + ends.length, 0), 10);
        await tenure.release();
      });
    } finally {
      database.close();
    }
  },
});

Deno.test({
  ...unless(
    NO_POSTGRES,
    "packets whose ends contradict each other are set aside, whatever the checksum says",
  ),
  async fn() {
    await using server = await PostgresServer.start();
    // It says how many packets there are, and not where they end.
    for (const [i, ends] of ["{7,3,9}", "{3,6,8}", "{3,2147483647,9}"].entries()) {
      const url = await server.makeQueue(`q${i}`);
      await using queue = await postgresQueue({ url, durability: "power-loss" });
      for (const first of [1, 4, 7]) {
        await queue.enqueueMany([first, first + 1, first + 2].map((id) => `p ${id}`));
      }
      // As one that was stored by hand before: its checksum is that of what is there.
      await server.sql(
        `UPDATE sendq.run SET ends = '${ends}' WHERE last_id = 6 ` +
          `AND queue = (SELECT id FROM sendq.queue WHERE name = 'q${i}')`,
      );
      await assert.rejects(
        queue.read(3, 1000),
        /end with id 6 are damaged: its packets (do not )?end/,
      );
      const tenure = await sendingSideOf(queue).takeTenure(systemClock);
      const given: number[] = [];
      for (let after = 0;;) {
        const batches = await sendingSideOf(queue).readBatches(after, 1000);
        if (batches.length === 0) break;
        for (const batch of batches) {
          given.push(...Array.from(batch.ends, (_, n) => batch.firstId + n));
        }
        after = given.at(-1) ?? 0;
      }
      assert.deepEqual(given, [1, 2, 3, 7, 8, 9], ends);
      const letters = await queue.deadLetters(0, 1000);
      const damaged = [4, 5, 6].map((id) => [id, "damaged"]);
      assert.deepEqual(letters.map(({ id, reason }) => [id, reason]), damaged);
      await sendingSideOf(queue).removeThrough(9);
      assert.equal(queue.stats().packets, 0);
      await tenure.release();
    }
  },
});
