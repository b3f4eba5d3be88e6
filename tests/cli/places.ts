/** Tests that hold wherever a queue lies: in a file, in a spool, and on PostgreSQL. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import type { QueueOptions } from "../../src/queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../src/spool/address.ts";
import { spoolQueue } from "../../src/spool/spool.ts";
import { NO_POSTGRES, PostgresServer } from "../postgres/server.ts";
import { unless } from "../queue/helpers.ts";
import { bytes } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { LIBC, type Outcome, queuePermissions, runHere } from "./helpers.ts";

/** Where a test's queue lies. */
export interface TestPlace {
  /** What `--queue` takes. */
  readonly queue: string;
  /** The same without what is only asked of the database. */
  readonly path: string;
  /** For what else a test makes. */
  readonly dir: TempDir;
  /** Makes another queue, empty, or a place for one. */
  another(): Promise<string>;
  /** What a command needs that looks. */
  readonly look: readonly string[];
  /** What a command needs that changes. */
  readonly change: readonly string[];
  /** What `remove` needs besides. */
  readonly remove: readonly string[];
  /** What `send` needs besides; left out: nothing. */
  readonly send?: readonly string[];
}

/** Opens the queue of a place. */
export function openAt(
  queue: string,
  bounds: Pick<QueueOptions, "maxDeadPackets"> = {},
): Promise<OutboundQueue> {
  if (queue.startsWith("postgres:")) return postgresQueue({ url: queue, ...bounds });
  if (!isSpoolAddress(queue)) return OutboundQueue.open(queue, bounds);
  const { file, name } = parseSpoolAddress(queue);
  return spoolQueue(file, name, bounds);
}

/** Packets 1 to 6, of which 1 is gone, 2 was sent, 4 is a dead letter and 6 expires. */
export async function makeQueue(queue: string): Promise<void> {
  await using opened = await openAt(queue);
  await opened.enqueueMany(
    ["one\n", "two\n", "three\n", "four\n", "ünf\x1b[31m\n"].map((text) => bytes(text)),
  );
  await opened.enqueue(bytes("six\n"), { ttlMs: 3_600_000 });
  const sending = sendingSideOf(opened);
  const tenure = await sending.takeTenure(systemClock);
  await sending.removeThrough(1);
  sending.rememberSent(2);
  await sending.giveUp(4, 3);
  await tenure.release();
}

/** The ids in the queue of a place. */
export async function idsIn(queue: string): Promise<number[]> {
  await using opened = await openAt(queue);
  return (await opened.read(0, 1024 ** 2)).map(({ id }) => id);
}

/** Runs a command on a queue. */
export function on(queue: string, ...args: string[]): Promise<Outcome> {
  return runHere([...args, "-q", queue]);
}

/** Lines of JSON. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** A queue on PostgreSQL. */
export interface DatabasePlace extends TestPlace {
  /** The queue's address for a user who has one role, and is called after it. */
  as(role: string): Promise<string>;
  /** Runs SQL in the database. */
  sql(text: string): Promise<string>;
}

type Tests<Place> = readonly (readonly [name: string, run: (place: Place) => Promise<void>])[];

/**
 * Registers tests for each place.
 *
 * @param tests What holds wherever a queue lies.
 * @param databaseTests What is about a database alone.
 */
export function inEachPlace(tests: Tests<TestPlace>, databaseTests: Tests<DatabasePlace>): void {
  for (const [name, run] of tests) {
    Deno.test(`${name}: in a file`, async () => {
      using dir = new TempDir();
      let others = 0;
      await run({
        ...{ dir, queue: dir.queue, path: dir.queue },
        another: () => Promise.resolve(dir.file(`other ${++others}.db`)),
        look: [`--allow-read=${dir.queue}`],
        change: queuePermissions(dir.queue),
        remove: [],
      });
    });
  }
  for (const [name, run] of tests) {
    Deno.test(`${name}: in a spool`, async () => {
      using dir = new TempDir();
      const file = dir.file("spool.db");
      // Neighbours on both sides, which no test is to notice, nor to change.
      const neighbours = ["before", "behind"].map((name) => `spool:${file}#${name}`);
      const [before = "", behind = ""] = neighbours;
      await makeQueue(before);
      let others = 0;
      const queue = `spool:${file}#tested`;
      await (await openAt(queue)).close();
      await makeQueue(behind);
      await run({
        ...{ dir, queue, path: queue },
        another: () => Promise.resolve(`spool:${file}#other-${++others}`),
        look: [`--allow-read=${file}`],
        change: queuePermissions(file),
        remove: [],
        // As whoever sends has to be granted; see OPERATIONS.
        send: [`--allow-read=${file}.reports`, `--allow-write=${file}.reports`],
      });
      for (const neighbour of neighbours) assert.deepEqual(await idsIn(neighbour), [2, 3, 5, 6]);
    });
  }
  Deno.test({
    ...unless(NO_POSTGRES, "operator's commands on PostgreSQL"),
    async fn(t) {
      await using server = await PostgresServer.start();
      let queues = 0;
      const another = async () =>
        `${await server.makeQueue(`queue ${++queues}`)}?durability=power-loss`;
      const as = async (queue: string, role: string) => {
        const user = `only_${role}`;
        await server.sql(
          `DO $$ BEGIN CREATE USER ${user}; EXCEPTION WHEN duplicate_object THEN NULL; END $$; ` +
            `GRANT ${role} TO ${user}`,
        );
        return queue.replace("postgres@", `${user}@`);
      };
      for (const [name, run] of [...tests, ...databaseTests]) {
        await t.step(name, async () => {
          using dir = new TempDir();
          const queue = await another();
          const net = [`--allow-net=127.0.0.1:${server.port}`];
          await run({
            ...{ dir, queue, another, look: net, change: net },
            path: queue.replace(/\?.*/, ""),
            remove: [`--allow-ffi=${LIBC}`],
            as: (role) => as(queue, role),
            sql: (text) => server.sql(text),
          });
        });
      }
    },
  });
}
