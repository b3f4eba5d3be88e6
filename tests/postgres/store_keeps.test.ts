import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import type { Database } from "../../src/postgres/database.ts";
import { PostgresStore } from "../../src/postgres/postgres_store.ts";

Deno.test("an open store says once a day that it is there, and no more once it is closed", async () => {
  let timer: { readonly delayMs: number; readonly callback: () => void } | undefined;
  const asked: string[] = [];
  const database = {
    clock: {
      setTimer(delayMs: number, callback: () => void) {
        timer = { delayMs, callback };
        return () => timer = undefined;
      },
    },
    ask(text: string) {
      asked.push(text);
      // Also where the database is away at that time.
      return asked.length === 1
        ? Promise.reject(new Error("away"))
        : Promise.resolve({ rows: [], unreplicated: false });
    },
    close() {},
  } as unknown as Database;
  const store = new PostgresStore({
    clock: systemClock,
    ...{ database, name: "outbox", queueId: 1, path: "postgres://db/packets/outbox" },
    ...{ durability: "machine-loss", lossTimeoutMs: 1000 },
  });
  for (let day = 1; day <= 2; day++) {
    assert.equal(timer?.delayMs, 24 * 60 * 60 * 1000);
    timer.callback();
  }
  const keep = "SELECT sendq.keep($1, $2)";
  assert.deepEqual(asked, [keep, keep]);
  await store.close();
  assert.equal(timer, undefined);
});

Deno.test("a store that is closed asks a database that is away for nothing more", async () => {
  for (const isAway of [false, true]) {
    const asked: string[] = [];
    const database = {
      ...{ isAway, clock: { setTimer: () => () => {} }, close() {} },
      ask(text: string) {
        asked.push(text);
        return Promise.resolve({ rows: [], unreplicated: false });
      },
    } as unknown as Database;
    const store = new PostgresStore({
      clock: systemClock,
      ...{ database, name: "outbox", queueId: 1, path: "postgres://db/packets/outbox" },
      ...{ durability: "machine-loss", lossTimeoutMs: 1000 },
    });
    await store.close();
    assert.deepEqual(asked, isAway ? [] : ["SELECT sendq.forget($1, $2)"]);
  }
});
