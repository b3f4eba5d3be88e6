import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { postgresInspector, postgresQueue } from "../../src/postgres/postgres.ts";
import { PassingTime } from "../../src/queue/read/queue_time.ts";
import { type OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { until } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const HOUR_MS = 3_600_000;

/** The clock of another machine. */
const ahead = (byMs: number) => ({
  nowMs: () => systemClock.nowMs(),
  wallMs: () => systemClock.wallMs() + byMs,
  setTimer: (delayMs: number, callback: () => void) => systemClock.setTimer(delayMs, callback),
  defer: (callback: () => void) => systemClock.defer(callback),
});

/** Sends nothing, and makes dead letters of what has expired, until it is over. */
async function whileSweeping(queue: OutboundQueue, work: () => Promise<void>): Promise<void> {
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  const end = sendingSideOf(queue).sweepExpired();
  await work();
  end();
  await tenure.release();
}

Deno.test("time that passes does not follow a clock that is set", () => {
  const clock = new ManualClock();
  const time = new PassingTime(clock);
  const atMs = time.nowMs() + 60_000;
  clock.wall += HOUR_MS;
  assert.equal(time.nowMs(), atMs - 60_000);
  assert.equal(time.toWallMs(atMs), clock.wall + 60_000);
  assert.equal(time.isToBeNoted, false);
  clock.advance(60_000);
  assert.equal(time.nowMs(), atMs);
  assert.deepEqual(time.moment(), { wallMs: atMs, clockOffsetMs: 0, knownOffsetMs: 0 });
});

Deno.test({
  ...unless(NO_POSTGRES, "packets on PostgreSQL expire by the database's clock"),
  async fn(t) {
    await using server = await PostgresServer.start();
    const at = (name: string) => `queue = (SELECT id FROM sendq.queue WHERE name = '${name}')`;

    await t.step("machines whose clocks differ expire none of each other's packets", async () => {
      const url = await server.makeQueue("clocks");
      const open = (byMs: number, ttlMs?: number) =>
        postgresQueue({
          ...{ url, durability: "power-loss", clock: ahead(byMs) },
          ...(ttlMs === undefined ? {} : { ttlMs }),
        });
      await using right = await open(0, HOUR_MS / 2);
      await right.enqueueMany(["one", "two", "three"]);
      await whileSweeping(right, async () => {
        for (const byMs of [-HOUR_MS, HOUR_MS, -3000, 3000, 0]) {
          await using other = await open(byMs);
          await other.enqueue("from elsewhere");
          // Its own are worth sending for as long as anybody's.
          await other.enqueue("for a while", { ttlMs: HOUR_MS / 2 });
          await right.enqueue("from here");
        }
        const wrong = await open(-HOUR_MS);
        const id = await wrong.enqueue("worth a moment", { ttlMs: 1 });
        await until("it has expired", async () => {
          await sendingSideOf(right).pollOtherProcesses();
          return right.stats().expiredPackets > 0;
        });
        assert.equal(right.stats().expiredPackets, 1);
        await wrong.requeue({ firstId: id, lastId: id }, { ttlMs: HOUR_MS });
        await wrong.close();
      });
      assert.equal(right.stats().expiredPackets, 1);
      assert.equal(
        await server.sql(
          "SELECT clock_offset_ms, abs(written_at_ms - extract(epoch FROM now()) * 1000) < 600000 " +
            "FROM sendq.queue WHERE name = 'clocks'",
        ),
        "0|t",
      );
      // All that expire do so within half an hour, but for what was put back.
      assert.equal(
        await server.sql(
          `SELECT count(*) FROM sendq.run WHERE ${at("clocks")} AND expires_at_ms - ` +
            "extract(epoch FROM now()) * 1000 NOT BETWEEN 1000000 AND 1810000",
        ),
        "1",
      );
      // Who looks with a wrong clock is told when they expire by that.
      const shown: string[] = [];
      using inspector = await postgresInspector({ url, clock: ahead(-HOUR_MS) });
      for await (const { state } of inspector.packets()) shown.push(state);
      assert.deepEqual([...new Set(shown)], ["waiting"]);
    });

    for (
      const [how, byMs] of [
        ["set back", HOUR_MS],
        // 500 days: one of the two readings is none.
        ["none that can be right", -500 * 24 * HOUR_MS],
      ] as const
    ) {
      await t.step(`a clock of the database's that is ${how}: time goes on`, async () => {
        const name = `database ${how}`;
        const url = await server.makeQueue(name);
        await using queue = await postgresQueue({ url, durability: "power-loss" });
        await queue.enqueue("worth an hour", { ttlMs: HOUR_MS });
        await queue.enqueue("worth a moment", { ttlMs: 1 });
        // As if the last change had been made by the clock before.
        await server.sql(
          `UPDATE sendq.queue SET written_at_ms = written_at_ms + ${byMs} WHERE name = '${name}'; ` +
            `UPDATE sendq.run SET expires_at_ms = expires_at_ms + ${byMs} WHERE ${at(name)}`,
        );
        await whileSweeping(queue, async () => {
          await queue.enqueue("by the clock that there is now");
          await until("the second one has expired", () => queue.stats().expiredPackets > 0);
        });
        assert.equal(queue.stats().expiredPackets, 1);
        assert.equal((await queue.read(0, 1000)).length, 2);
        const offset = await server.sql(
          `SELECT clock_offset_ms FROM sendq.queue WHERE name = '${name}'`,
        );
        // Less by what has passed meanwhile.
        assert(Math.abs(Number(offset) - byMs) < 600_000, offset);
      });
    }
  },
});
