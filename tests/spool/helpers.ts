import { DatabaseSync } from "node:sqlite";
import { systemClock } from "../../src/base/clock.ts";
import type { Clock } from "../../src/base/ports.ts";
import type { QueueOptions } from "../../src/queue/options.ts";
import type { OutboundQueue } from "../../src/queue/queue.ts";
import { spoolQueue } from "../../src/spool/spool.ts";

/** Time whose timers never go off: what happens all the same was not waited for. */
export const NO_TIMERS: Clock = { ...systemClock, setTimer: () => () => {} };

/** Queues of a spool, for a test to close. */
interface OpenedQueues<Names extends readonly string[]> extends AsyncDisposable {
  readonly all: { readonly [I in keyof Names]: OutboundQueue };
}

/** Opens queues of a spool, one after the other, so that their numbers are in this order. */
export async function openAll<const Names extends readonly string[]>(
  file: string,
  names: Names,
  options: QueueOptions = {},
): Promise<OpenedQueues<Names>> {
  const queues: OutboundQueue[] = [];
  for (const name of names) queues.push(await spoolQueue(file, name, options));
  return {
    // One for each name.
    all: queues as unknown as OpenedQueues<Names>["all"],
    async [Symbol.asyncDispose]() {
      for (const queue of queues) await queue.close();
    },
  };
}

/** Runs SQL in a spool's file, as another process would. */
export function sql(file: string, text: string): void {
  const database = new DatabaseSync(file);
  try {
    database.exec(text);
  } finally {
    database.close();
  }
}

/** All rows that a SELECT finds. */
export function rows(file: string, text: string): unknown[] {
  const database = new DatabaseSync(file, { readOnly: true });
  try {
    return database.prepare(text).all();
  } finally {
    database.close();
  }
}

/** A child script of these tests, with the flags that it needs and no others. */
export function child(script: string, file: string, ...args: string[]): Deno.ChildProcess {
  const files = [file, `${file}.lock`, `${file}.reports`].join(",");
  return new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--no-prompt", "--no-lock", "--no-check"],
      `--allow-read=${files},${file}-wal`,
      `--allow-write=${files}`,
      new URL(`./children/${script}`, import.meta.url).pathname,
      ...[file, ...args],
    ],
    stdout: "piped",
    stderr: "inherit",
    stdin: "piped",
  }).spawn();
}
