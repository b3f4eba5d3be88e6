/** Warnings that a server gives beside a commit, and that say nothing about it. */
import assert from "node:assert/strict";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { unless } from "../queue/helpers.ts";
import { within } from "../support/until.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

Deno.test({
  ...unless(NO_POSTGRES, "a commit beside which the server warns of something else is one"),
  fn: async () => {
    await using server = await PostgresServer.start();
    const url = `${await server.makeQueue("outbox")}?durability=power-loss`;
    await server.sql(
      "CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS " +
        "$$ BEGIN RAISE WARNING 'stored'; RETURN NEW; END $$; " +
        "CREATE TRIGGER tell AFTER INSERT ON sendq.run FOR EACH ROW EXECUTE FUNCTION public.tell()",
    );
    {
      await using queue = await postgresQueue({ url });
      assert.equal(await within("a trigger of somebody's warns", queue.enqueue("one")), 1);
    }
    await server.runOutOfTransactions();
    await using queue = await postgresQueue({ url });
    assert.equal(await within("transactions run out", queue.enqueue("two")), 2);
    assert.match(server.log, /WARNING: +database "\w+" must be vacuumed within/);
  },
});
