/** Many senders of one process on one spool, to a server on a real socket. */
import assert from "node:assert/strict";
import { QueueLockedError } from "../../src/base/errors.ts";
import { Sender } from "../../src/sender/sender.ts";
import { spooledQueues, spoolInspector, spoolQueue } from "../../src/spool/spool.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";

const SENDERS = 50;
const PACKETS = 60;
/** Every so many a sender's first connection is cut off, once so many packets have come. */
const CUT_EACH = 10;
const CUT_AFTER = 5;

const nameOf = (index: number) => `line-${String(index).padStart(2, "0")}`;
const packetOf = (index: number, n: number) => `${nameOf(index)} ${n}\n`;

/** Answers lines, and has of each queue what came over each of its connections. */
class LineServer implements AsyncDisposable {
  readonly #server = new ScriptedServer().start();
  readonly #serving: Promise<void>;
  /** By queue, for each connection what came, in order. */
  readonly came = new Map<string, number[][]>();
  cuts = 0;

  constructor() {
    this.#serving = this.#server.serve(async (connection) => {
      const numbers: number[] = [];
      let rest = "";
      for (;;) {
        const part = await connection.read();
        if (part === "") break;
        const lines = (rest + part).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const [name = "", n = ""] = line.split(" ");
          if (numbers.length === 0) this.#connectionsOf(name).push(numbers);
          numbers.push(Number(n));
          // It may have left.
          await connection.write("OK\n").catch(() => {});
          if (!this.#isToBeCut(name, numbers.length)) continue;
          this.cuts++;
          return connection.close();
        }
      }
      connection.close();
    });
  }

  #connectionsOf(name: string): number[][] {
    const known = this.came.get(name) ?? [];
    this.came.set(name, known);
    return known;
  }

  #isToBeCut(name: string, count: number): boolean {
    return Number(name.slice(-2)) % CUT_EACH === 3 && this.#connectionsOf(name).length === 1 &&
      count === CUT_AFTER;
  }

  get remote(): string {
    return this.#server.remote;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
    await this.#serving;
  }
}

Deno.test("fifty senders on one spool, some of them cut off: everything arrives in order", async () => {
  using dir = new TempDir();
  await using server = new LineServer();
  const senders = await Promise.all(
    Array.from({ length: SENDERS }, async (_, index) => {
      const queue = await spoolQueue(dir.queue, nameOf(index));
      return await Sender.open(queue, server.remote, {
        // What was cut off before the server's program has read it was delivered to nobody.
        confirm: { framing: "lines", accepted: /^OK$/, maxUnanswered: 20, answerTimeoutMs: 60_000 },
        ...{ backoffFirstMs: 1, backoffCapMs: 10 },
        closesQueue: true,
      });
    }),
  );
  await assert.rejects(
    Sender.open(await spoolQueue(dir.queue, nameOf(7)), server.remote, { closesQueue: true }),
    QueueLockedError,
  );
  for (let n = 0; n < PACKETS; n++) {
    // Those of all queues are stored together.
    const ids = await Promise.all(
      senders.map((sender, index) => sender.enqueue(packetOf(index, n))),
    );
    assert.deepEqual([...new Set(ids)], [n + 1]);
  }
  await within("all have drained", Promise.all(senders.map((sender) => sender.drained())));
  await within("all have ended", Promise.all(senders.map((sender) => sender.close())));
  assert.equal(server.cuts, SENDERS / CUT_EACH);
  assert.equal(server.came.size, SENDERS);
  for (let index = 0; index < SENDERS; index++) {
    const connections = server.came.get(nameOf(index)) ?? assert.fail(nameOf(index));
    const seen = new Set<number>();
    for (const numbers of connections) {
      // In order, from what nobody had confirmed on: nothing is left out.
      assert((numbers[0] ?? 0) <= seen.size, `${nameOf(index)}: ${numbers[0]} behind ${seen.size}`);
      assert.deepEqual(numbers, numbers.map((_, i) => (numbers[0] ?? 0) + i));
      for (const n of numbers) seen.add(n);
    }
    assert.equal(seen.size, PACKETS, nameOf(index));
  }
  const left = (await spooledQueues(dir.queue)).map(({ packets, lastId }) => [packets, lastId]);
  assert.deepEqual(left, Array(SENDERS).fill([0, PACKETS]));
  using inspector = await spoolInspector(dir.queue, nameOf(3));
  assert.deepEqual(await inspector.check(), []);
});
