/**
 * Spreads seeds over the cores, and survives code that never returns.
 *
 * @module
 */

import process from "node:process";
import type { RunResult } from "./run.ts";
import type { WorkOrder, WorkReport } from "./worker.ts";

/** What to run. */
export interface PoolOptions {
  /** `worker.ts`, of this tree or of a copy. */
  readonly workerUrl: URL;
  readonly fromSeed: number;
  readonly count: number;
  readonly workers: number;
  /**
   * How much CPU time a seed may take, in milliseconds; it takes some ten of them,
   * and one that has had this much will never end.
   *
   * @default {10_000}
   */
  readonly hungAfterCpuMs?: number;
  /** Whether to go on after this result. */
  readonly onResult: (result: RunResult) => boolean;
}

/** Seeds a worker is given at once. */
const CHUNK = 20;
/** How often the CPU time is looked at. */
const LOOK_MS = 500;

/** Runs seeds until all are done or `onResult` has had enough. */
export async function runSeeds(options: PoolOptions): Promise<void> {
  const { workerUrl, fromSeed, count, workers, hungAfterCpuMs = 10_000, onResult } = options;
  const directory = await Deno.makeTempDir({ prefix: "sendq-simulation-" });
  let nextSeed = fromSeed;
  let goOn = true;
  const work = async (index: number): Promise<void> => {
    const queuePath = `${directory}/${index}.db`;
    // Only its name is used; the database itself is in memory.
    await Deno.writeFile(queuePath, new Uint8Array());
    while (goOn && nextSeed < fromSeed + count) {
      const worker = new Worker(workerUrl, { type: "module" });
      try {
        await drive(worker, queuePath);
      } finally {
        worker.terminate();
      }
    }
  };
  /** One worker, until there is nothing left to do or it has hung. */
  const drive = async (worker: Worker, queuePath: string): Promise<void> => {
    while (goOn && nextSeed < fromSeed + count) {
      const from = nextSeed;
      const size = Math.min(CHUNK, fromSeed + count - nextSeed);
      nextSeed += size;
      const hungAt = await oneChunk(
        worker,
        { queuePath, fromSeed: from, count: size },
        // The process's time is all that can be read; its threads have equal shares of it.
        workers * hungAfterCpuMs,
        (result) => {
          if (goOn && !onResult(result)) goOn = false;
        },
      );
      if (hungAt !== undefined) {
        if (goOn && !onResult(hungAt)) goOn = false;
        return;
      }
    }
  };
  try {
    await Promise.all(Array.from({ length: workers }, (_, index) => work(index)));
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/**
 * Runs a chunk. A run awaits nothing but its own steps, so that one which never
 * comes back is computing: it is known by the CPU time that goes by without a
 * result. The wall clock would blame it for what else the machine has to do.
 *
 * @param hungAfterCpuMs CPU time of the process.
 * @returns What to report of the seed that never came back; its chunk's rest is left out.
 */
function oneChunk(
  worker: Worker,
  order: WorkOrder,
  hungAfterCpuMs: number,
  onResult: (result: RunResult) => void,
): Promise<RunResult | undefined> {
  return new Promise((resolve) => {
    let seed = order.fromSeed;
    /** Since the last word of the worker; loading its code may take as much as it needs. */
    let since: ReturnType<typeof process.cpuUsage> | undefined;
    const watchdog = setInterval(() => {
      if (since === undefined) return;
      const { user, system } = process.cpuUsage(since);
      if ((user + system) / 1000 > hungAfterCpuMs) over(broken(seed, "the run does not end"));
    }, LOOK_MS);
    const over = (result: RunResult | undefined): void => {
      clearInterval(watchdog);
      worker.onmessage = worker.onerror = null;
      resolve(result);
    };
    worker.onmessage = ({ data }: MessageEvent<WorkReport>) => {
      if (data.kind === "free") return over(undefined);
      since = process.cpuUsage();
      if (data.kind === "begun") return;
      seed = data.result.seed + 1;
      onResult(data.result);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      over(broken(seed, `the run broke off: ${event.message}`));
    };
    worker.postMessage(order);
  });
}

function broken(seed: number, violation: string): RunResult {
  return {
    seed,
    violation,
    simulatedMs: 0,
    events: 0,
    accepted: 0,
    delivered: 0,
    duplicates: 0,
    lostUnread: 0,
    dead: 0,
    connections: 0,
  };
}
