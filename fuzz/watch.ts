/**
 * Runs seeds in a Worker and watches it from outside: a command that computes for ever
 * cannot be stopped from within.
 *
 * @module
 */

import type { SeedReport } from "./run.ts";
import type { WorkReport } from "./worker.ts";

/** What to run. */
export interface WatchOptions {
  /** `worker.ts`, or one that misbehaves. */
  readonly workerUrl: URL;
  readonly fromSeed: number;
  readonly count: number;
  /**
   * How long a command may take, in milliseconds. It takes less than a second; the bound
   * only tells what never ends from what a busy machine is slow at.
   *
   * @default {60_000}
   */
  readonly hungAfterMs?: number;
  /** Told what came of each seed, in order. */
  readonly onReport: (report: SeedReport) => void;
}

/** Runs seeds until all are done. */
export async function watchSeeds(options: WatchOptions): Promise<void> {
  const { fromSeed, count, onReport } = options;
  for (let seed = fromSeed; seed < fromSeed + count;) {
    const worker = new Worker(options.workerUrl, { type: "module" });
    try {
      await watchWorker(worker, { ...options, fromSeed: seed, count: fromSeed + count - seed }, {
        onReport: (report) => {
          seed = report.seed + 1;
          onReport(report);
        },
      });
    } finally {
      worker.terminate();
    }
  }
}

/** Until all its seeds are done, or one of them has broken it. */
function watchWorker(
  worker: Worker,
  { fromSeed, count, hungAfterMs = 60_000 }: WatchOptions,
  { onReport }: Pick<WatchOptions, "onReport">,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let seed = fromSeed;
  let [name, what] = ["making the queue", ""];
  const broken = (violation: string): void => {
    onReport({ seed, what, commands: [], violations: [`${name} ${violation}`] });
    resolve();
  };
  /** Runs since the last word of the worker; loading its code may take as long as it needs. */
  let timer: ReturnType<typeof setTimeout> | undefined;
  worker.onmessage = ({ data }: MessageEvent<WorkReport>) => {
    clearTimeout(timer);
    timer = setTimeout(() => broken(`does not end in ${hungAfterMs} ms`), hungAfterMs);
    if (data.kind === "begun") return;
    if (data.kind === "command") {
      ({ name, what } = data);
      return;
    }
    onReport(data.report);
    seed++;
    [name, what] = ["making the queue", ""];
    if (seed === fromSeed + count) resolve();
  };
  worker.onerror = (event) => {
    event.preventDefault();
    broken(`breaks off: ${event.message}`);
  };
  worker.postMessage({ fromSeed, count });
  return promise.finally(() => {
    clearTimeout(timer);
    worker.onmessage = worker.onerror = null;
  });
}
