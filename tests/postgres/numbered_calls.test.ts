import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { OutcomeUnknownError } from "../../src/base/errors.ts";
import { rest } from "../../src/base/waits.ts";
import type { Answer, Database } from "../../src/postgres/database.ts";
import { ConnectionLostError } from "../../src/postgres/errors.ts";
import { NumberedCalls } from "../../src/postgres/numbered_calls.ts";

function saidByServer(code: string): Error {
  return Object.assign(new Error(`server said ${code}`), { name: "PostgresError", code });
}

const answer = (fields: object): Answer => ({ rows: [{ answer: fields }], unreplicated: false });

Deno.test("a number whose answer is lost is asked for until there is one, whatever fails meanwhile", async () => {
  const replies: (Error | Answer)[] = [
    new ConnectionLostError("the standby did not answer in time", true),
    saidByServer("55P03"), // a lock could not be had: the first try holds it
    saidByServer("55P03"), // for using the number up, too
    saidByServer("57014"),
    answer({ counted: true, id: 7 }), // it was stored after all
  ];
  const asked: unknown[][] = [];
  const database = {
    clock: systemClock,
    ask(text: string, args: readonly unknown[]): Promise<Answer> {
      asked.push([text, ...args]);
      const reply = replies.shift();
      assert(reply !== undefined, "asked once too often");
      return reply instanceof Error ? Promise.reject(reply) : Promise.resolve(reply);
    },
  } as unknown as Database;
  const calls = new NumberedCalls({
    ...{ database, name: "outbox", path: "postgres://db/packets/outbox", closeTimeoutMs: 1000 },
  });
  const { producer } = calls;
  const fields = await calls.ask({ text: "SELECT sendq.commit($1, $2, $3)", args: () => [] });
  assert.equal(fields["id"], 7);
  // Another producer or number would have said nothing of this one, and stored it again.
  assert.equal(calls.producer, producer);
  for (const [, name, id, number] of asked) {
    assert.deepEqual([name, id, number], ["outbox", producer, 1]);
  }
  assert.equal(asked.length, 5);
});

Deno.test("a queue that is closed while each wait for a standby is given up has an end", async () => {
  let asked = 0;
  const database = {
    clock: systemClock,
    hurryIn() {},
    async ask(): Promise<Answer> {
      await rest(systemClock, 1);
      if (++asked > 1000) throw saidByServer("SQ001");
      return { ...answer({ counted: true }), unreplicated: true };
    },
  } as unknown as Database;
  const calls = new NumberedCalls({
    ...{ database, name: "outbox", path: "postgres://db/packets/outbox", closeTimeoutMs: 300 },
  });
  const asking = calls.ask({ text: "SELECT sendq.commit($1, $2, $3)", args: () => [] });
  calls.closing();
  await assert.rejects(asking, OutcomeUnknownError);
  assert(asked < 10, `asked ${asked} times without a pause`);
});
