/** A queue's file is written by the caller's thread or by a Worker: what holds for one holds for both. */
import type { QueueOptions } from "../../src/queue/options.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { SqliteError } from "../../src/queue/sqlite/driver.ts";
import { WorkerStoreClient } from "../../src/queue/worker/client.ts";
import { FaultDriver, unless } from "./helpers.ts";

export const THREADS = ["main", "worker"] as const;

/** Opens a queue. */
export type Open = (path: string, options?: QueueOptions) => Promise<OutboundQueue>;

/**
 * A test that is run for both threads.
 *
 * @param run Gets what opens a queue in the thread in question.
 * @param missing Why it cannot be run here.
 */
export function inEachThread(
  name: string,
  run: (open: Open) => Promise<void>,
  missing?: string,
): void {
  for (const commitIn of THREADS) {
    Deno.test({
      ...unless(missing, `${name} (commitIn ${commitIn})`),
      fn: () => run((path, options) => OutboundQueue.open(path, { commitIn, ...options })),
    });
  }
}

/** Makes statements of a queue fail. */
export interface Faults {
  /** What the queue has to be opened with. */
  readonly options: QueueOptions;
  /** From now on, up to `times` statements that begin with `start` fail with SQLite's `code`. */
  fail(start: string, code: number, times: number): void;
  heal(): void;
}

/** Faults in this thread. */
export function faultsHere(): Faults {
  const driver = new FaultDriver();
  return {
    options: { driver },
    fail: (start, code, times) => driver.failNext(start, code, times),
    heal: () => driver.heal(),
  };
}

/** What a Worker's driver does before a statement; it stands in a file beside the queue. */
export interface FaultOrder {
  /** Each order has another. */
  readonly id: number;
  /** Statements that begin with this. */
  readonly start: string;
  readonly times: number;
  /**
   * - a number: the statement fails with this code
   * - `"hold"`: it waits until the order is gone
   * - `"throw"`: the Worker meets an error that nobody catches
   * - `"exit"`: the Worker ends
   */
  readonly what: number | "hold" | "throw" | "exit";
}

function orderPath(queuePath: string): string {
  return `${queuePath}.fault`;
}

/** Carries orders out; for the Worker. */
export function obeyingDriver(queuePath: string, exit: () => void): FaultDriver {
  const driver = new FaultDriver();
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let id = 0, left = 0;
  driver.fault = (sql) => {
    const order = readOrder(queuePath);
    if (order === undefined || !sql.startsWith(order.start)) return undefined;
    if (order.id !== id) {
      id = order.id;
      left = order.times;
    }
    if (left-- <= 0) return undefined;
    switch (order.what) {
      case "hold":
        while (readOrder(queuePath)?.id === id) Atomics.wait(sleeper, 0, 0, 1);
        return undefined;
      case "throw":
        queueMicrotask(() => {
          throw new Error("out of order");
        });
        return undefined;
      case "exit":
        exit();
        return undefined;
      default:
        return new SqliteError(order.what, `injected ${order.what}`);
    }
  };
  return driver;
}

function readOrder(queuePath: string): FaultOrder | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(orderPath(queuePath)));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Faults in the Workers of the queue at `path`, opened while this is not disposed of. */
export class WorkerFaults implements Faults, Disposable {
  readonly options: QueueOptions = { commitIn: "worker" };
  readonly #path: string;
  readonly #module = WorkerStoreClient.module;
  #orders = 0;

  constructor(path: string) {
    this.#path = path;
    WorkerStoreClient.module = new URL("./children/fault_worker.ts", import.meta.url);
  }

  fail(start: string, code: number, times: number): void {
    this.order(start, code, times);
  }

  order(start: string, what: FaultOrder["what"], times = 1): void {
    const order: FaultOrder = { id: ++this.#orders, start, what, times };
    const path = orderPath(this.#path);
    // In one go: the Worker may look at any moment.
    Deno.writeTextFileSync(`${path}.new`, JSON.stringify(order));
    Deno.renameSync(`${path}.new`, path);
  }

  heal(): void {
    try {
      Deno.removeSync(orderPath(this.#path));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }

  [Symbol.dispose](): void {
    WorkerStoreClient.module = this.#module;
  }
}
