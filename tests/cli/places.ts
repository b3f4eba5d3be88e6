/** Tests that hold wherever a queue lies: in a file, and on PostgreSQL. */
import { systemClock } from "../../src/base/clock.ts";
import { postgresQueue } from "../../src/postgres/postgres.ts";
import type { QueueOptions } from "../../src/queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
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
}

/** Opens the queue of a place. */
export function openAt(
  queue: string,
  bounds: Pick<QueueOptions, "maxDeadPackets"> = {},
): Promise<OutboundQueue> {
  return queue.startsWith("postgres:")
    ? postgresQueue({ url: queue, ...bounds })
    : OutboundQueue.open(queue, bounds);
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
