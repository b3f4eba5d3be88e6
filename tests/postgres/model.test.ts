import assert from "node:assert/strict";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import { systemClock } from "../../src/base/clock.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { unless } from "../queue/helpers.ts";
import { checkAgainstArrays, type ModelPlace } from "../queue/model.ts";
import { LossyProxy } from "./lossy_proxy.ts";
import { NO_POSTGRES, PostgresServer } from "./server.ts";

/** In the database: fails statements on the packets, as a full disk does. */
const FAULTS = `
  CREATE SEQUENCE fault_count;
  CREATE TABLE fault (until bigint NOT NULL);
  INSERT INTO fault VALUES (0);
  CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    -- A sequence counts on, also where the transaction is undone.
    IF (SELECT until FROM public.fault) > 0
      AND nextval('public.fault_count') <= (SELECT until FROM public.fault) THEN
      RAISE EXCEPTION 'injected' USING ERRCODE = '58030';
    END IF;
    RETURN NULL;
  END $$;
  CREATE TRIGGER fault AFTER INSERT OR UPDATE OR DELETE ON sendq.run
    FOR EACH ROW EXECUTE FUNCTION fault();
`;

Deno.test({
  ...unless(NO_POSTGRES, "on PostgreSQL, any sequence of operations agrees with an array"),
  async fn(t) {
    await using server = await PostgresServer.start();
    let queues = 0;
    let broken = 0;
    await t.step("with lost questions and lost answers, which nobody notices", async () => {
      await checkAgainstArrays(async () => {
        const url = await server.makeQueue(`lossy ${++queues}`);
        const proxy = new LossyProxy(server.port);
        return {
          ...placeOf(server, url.replace(`:${server.port}/`, `:${proxy.port}/`)),
          hidesFaults: true,
          faults: {
            fail: (_, code, times) => {
              for (let i = 0; i < times; i++) proxy.breakNext(code > 10 ? "question" : "answer");
            },
            heal: () => proxy.heal(),
          },
          async [Symbol.asyncDispose]() {
            broken += proxy.broken;
            await proxy[Symbol.asyncDispose]();
          },
        };
      }, 12);
      assert(broken > 0, "nothing was lost");
    });
    await t.step("with statements that fail", async () => {
      await server.sql(FAULTS);
      let failed = 0;
      await checkAgainstArrays(async () => {
        const url = await server.makeQueue(`failing ${++queues}`);
        return {
          ...placeOf(server, url),
          faults: {
            async fail(_, __, times) {
              failed++;
              await server.sql(
                `UPDATE fault SET until = (SELECT last_value FROM fault_count) + ${times}`,
              );
            },
            async heal() {
              await server.sql("UPDATE fault SET until = 0");
            },
          },
          [Symbol.asyncDispose]: () => Promise.resolve(),
        };
      }, 12);
      assert(failed > 0, "nothing has failed");
    });
  },
});

function placeOf(
  server: PostgresServer,
  url: string,
): Pick<ModelPlace, "open" | "quiet" | "setTime"> {
  return {
    setTime: (wallMs) => server.setClock(wallMs),
    async open(options) {
      const { driver: _, syncIn: __, durability: ___, ...shared } = options;
      // Nobody else sends, so that the lease is a matter of the epoch alone.
      const queue = await postgresQueue({ ...shared, url, durability: "power-loss" });
      const tenure = await sendingSideOf(queue).takeTenure(systemClock);
      const close = queue.close.bind(queue);
      queue.close = async () => {
        await close();
        await tenure.release();
      };
      return queue;
    },
    // Behind every change that is under way.
    async quiet(queue) {
      await queue.removeDeadLetters({ firstId: 0, lastId: 0 });
    },
  };
}
