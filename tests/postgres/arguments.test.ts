import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { parseQueueUrl } from "../../src/postgres/address.ts";
import { Database } from "../../src/postgres/database.ts";
import { ConnectionLostError } from "../../src/postgres/errors.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { unless } from "../queue/helpers.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

const MiB = 1024 ** 2;

Deno.test({
  ...unless(NO_POSTGRES, "what cannot be sent is the caller's own error, and disturbs nobody"),
  async fn(t) {
    await using server = await PostgresServer.start();

    await t.step("values come as they went", async () => {
      const database = new Database({
        ...{ address: parseQueueUrl(server.url("outbox")), clock: systemClock },
        ...{ answerTimeoutMs: 600_000, waitsForStandby: false },
      });
      try {
        const bytes = new Uint8Array(9).map((_, i) => 250 + i).subarray(2);
        const text = "SELECT $1::bytea AS b, $2::jsonb AS j, $3::text AS t, $4::bigint AS n, " +
          "$5::boolean AS yes, $6::integer[] AS list, $7::bytea AS none";
        // Not known to the connection yet, and known.
        for (let i = 0; i < 2; i++) {
          const args = [bytes, { a: [1, "\\x é"] }, "\\x41", 2 ** 52, true, "{1,2}", null];
          const { rows: [row = {}] } = await database.ask(text, args);
          assert.deepEqual(new Uint8Array(row["b"] as Uint8Array), new Uint8Array(bytes));
          assert.deepEqual(row["j"], { a: [1, "\\x é"] });
          assert.deepEqual(
            [row["t"], row["n"], row["yes"], row["list"], row["none"]],
            ["\\x41", String(2 ** 52), true, "{1,2}", null],
          );
        }
      } finally {
        database.close();
      }
    });

    await t.step("the question that is under way is answered all the same", async () => {
      const connect = () =>
        new Database({
          ...{ address: parseQueueUrl(server.url("outbox")), clock: systemClock },
          ...{ answerTimeoutMs: 600_000, waitsForStandby: false },
        });
      const database = connect(), holder = connect();
      try {
        const length = "SELECT length($1::bytea) AS length, pg_backend_pid() AS pid";
        const { rows: [first] } = await database.ask(length, [new Uint8Array(3)]);
        await holder.ask("SELECT pg_advisory_lock(7)", []);
        const waiting = database.ask("SELECT pg_advisory_xact_lock(7), 'answered' AS words", []);
        const loop: Record<string, unknown> = {};
        loop["self"] = loop;
        const wrong: [unknown, RegExp][] = [
          [new Uint8Array(256 * MiB), /268435456 bytes are more than one value may have/],
          [loop, /circular/i],
          [undefined, /an argument is missing/],
        ];
        for (const [arg, words] of wrong) {
          await assert.rejects(database.ask(length, [arg]), (error) => {
            assert(error instanceof Error && !(error instanceof ConnectionLostError));
            assert.match(error.message, words);
            return true;
          });
        }
        await holder.ask("SELECT pg_advisory_unlock(7)", []);
        assert.equal((await waiting).rows[0]?.["words"], "answered");
        // Over the same connection.
        assert.deepEqual((await database.ask(length, [new Uint8Array(3)])).rows, [first]);
      } finally {
        database.close();
        holder.close();
      }
    });

    await t.step("packets that are too many for one transaction are refused", async () => {
      const url = await server.makeQueue("outbox");
      await using queue = await postgresQueue({
        ...{ url, durability: "power-loss", maxPacketBytes: 64 * MiB, maxBytes: 2 ** 31 },
      });
      const packet = new Uint8Array(64 * MiB);
      await assert.rejects(
        queue.enqueueMany([packet, packet, packet, packet]),
        (error) => error instanceof RangeError && /store them in several calls/.test(error.message),
      );
      assert.equal(await queue.enqueue("one"), 1);
    });
  },
});
