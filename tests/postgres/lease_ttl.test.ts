import assert from "node:assert/strict";
import {
  Lease,
  type LeaseOptions,
  type LeaseRow,
  type LeaseTable,
} from "../../src/postgres/lease.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { systemClock } from "../../src/base/clock.ts";
import { unless } from "../queue/helpers.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { until } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** A lease in a database that answers at once, unless it is cut off from who asks. */
class Row {
  row: LeaseRow = { epoch: 0, tenure: undefined, beat: 0, holder: undefined, ttlMs: 0 };
  readonly cutOff = new Set<string>();

  tableFor(name: string): LeaseTable {
    const reach = () => {
      if (this.cutOff.has(name)) throw new Error("it cannot be reached");
    };
    return {
      look: () => Promise.resolve(this.row),
      take: (seen, holder, tenure, ttlMs) => {
        if (seen !== this.row) return Promise.resolve(undefined);
        const taken = { epoch: seen.epoch + 1, beat: seen.beat + 1 };
        this.row = { ...taken, tenure, holder, ttlMs };
        return Promise.resolve(taken);
      },
      // deno-lint-ignore require-await
      beat: async (held) => {
        reach();
        if (held.tenure !== this.row.tenure) return "taken";
        this.row = { ...this.row, beat: this.row.beat + 1, ttlMs: held.ttlMs };
        return this.row.beat;
      },
      // deno-lint-ignore require-await
      leave: async () => {
        this.row = { ...this.row, beat: this.row.beat + 1, holder: undefined };
      },
      close: () => {},
    };
  }
}

Deno.test("a holder with a longer lease is waited for as long as it takes its beats for good", async () => {
  for (const [heldMs, watchedMs] of [[30_000, 3000], [3000, 30_000], [600_000, 500]] as const) {
    const clock = new ManualClock();
    const database = new Row();
    const options = (holder: string, ttlMs: number): LeaseOptions => ({
      ...{ table: database.tableFor(holder), clock, ttlMs, holder, path: "queue" },
      ...{ waits: true, tell: () => {} },
    });
    const pass = async (forMs: number) => {
      for (const untilMs = clock.nowMs() + forMs; clock.nowMs() < untilMs;) {
        clock.advance(Math.min(clock.nextInMs ?? forMs, untilMs - clock.nowMs()));
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    const first = await Lease.take(options("first", heldMs));
    const taken: Lease[] = [];
    const waiting = Lease.take(options("second", watchedMs)).then((lease) => {
      // Whoever begins is alone.
      assert(first.validForMs() <= 0, `the first one had ${first.validForMs()} ms more`);
      taken.push(lease);
    });
    await pass(2 * heldMs);
    assert.equal(taken.length, 0, "one that lives is not followed");
    database.cutOff.add("first");
    const longestMs = Math.max(heldMs, watchedMs);
    // Since its last beat a fifth of its lease may have passed.
    await pass(0.79 * longestMs);
    assert.equal(taken.length, 0);
    await pass(0.3 * longestMs);
    await waiting;
    assert.equal(database.row.ttlMs, watchedMs);
    await taken[0]?.release();
    await first.release();
  }
});

Deno.test({
  ...unless(NO_POSTGRES, "a lease on PostgreSQL says for how long its beats are good"),
  async fn() {
    await using server = await PostgresServer.start();
    const url = await server.makeQueue("outbox");
    const ttl = () => server.sql("SELECT ttl_ms FROM sendq.lease");
    for (const leaseTtlMs of [600_000, 500.5]) {
      await using queue = await postgresQueue({ url, durability: "power-loss", leaseTtlMs });
      const tenure = await sendingSideOf(queue).takeTenure(systemClock);
      assert.equal(await ttl(), String(Math.ceil(leaseTtlMs)));
      await tenure.release();
    }
    // A beat says it, too.
    const [epoch, tenure, beat] = (await server.sql("SELECT epoch, tenure, beat FROM sendq.lease"))
      .split("|");
    await server.sql("UPDATE sendq.lease SET holder = 'somebody'");
    await server.sql(
      `SELECT sendq.lease_beat('outbox', ${epoch}, '${tenure}', ${beat}, 7000, '', 'power-loss')`,
    );
    assert.equal(await ttl(), "7000");
  },
});

Deno.test({
  ...unless(NO_POSTGRES, "a beat that the database refuses says why, until one is taken"),
  async fn() {
    await using server = await PostgresServer.start();
    await server.makeQueue("outbox");
    await server.sql("CREATE USER sender IN ROLE sendq_sender; GRANT sendq_producer TO sender");
    const url = server.url("outbox", "postgres", "sender");
    await using queue = await postgresQueue({ url, durability: "power-loss", leaseTtlMs: 500 });
    const tenure = await sendingSideOf(queue).takeTenure(systemClock);
    try {
      const lease = () => sendingSideOf(queue).cluster()?.lease;
      await until("a beat is taken", () => lease()?.failure === null);
      await server.sql("REVOKE sendq_sender FROM sender");
      await until("it is told", () => /GRANT sendq_sender TO sender/.test(lease()?.failure ?? ""));
      await until("it has lapsed", () => lease()?.validForMs === 0);
      await server.sql("GRANT sendq_sender TO sender");
      await until("it is renewed", () => {
        const { validForMs = 0, failure } = lease() ?? {};
        return validForMs > 0 && failure === null;
      });
    } finally {
      await tenure.release();
    }
  },
});
