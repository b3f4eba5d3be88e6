/**
 * Runs seeds in a Worker and watches it from outside: a command that computes for ever
 * cannot be stopped from within.
 *
 * @module
 */

import { systemClock } from "../src/base/clock.ts";
import type { Clock } from "../src/base/ports.ts";
import type { SeedReport } from "./run.ts";
import type { WorkReport } from "./worker.ts";

/** What to run. */
export interface WatchOptions {
  /** `worker.ts`, or one that misbehaves. */
  readonly workerUrl: URL;
  readonly fromSeed: number;
  readonly count: number;
  /**
   * Tells when a command has taken too long.
   *
   * @default {systemClock}
   */
  readonly clock?: Pick<Clock, "setTimer">;
  /** Told what came of each seed, in order. */
  readonly onReport: (report: SeedReport) => void;
}

/**
 * How long a command may take. It takes less than a second; the bound only tells what
 * never ends from what a busy machine is slow at.
 */
const HUNG_AFTER_MS = 60_000;

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
  { fromSeed, count, clock = systemClock }: WatchOptions,
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
  let cancel = (): void => {};
  worker.onmessage = ({ data }: MessageEvent<WorkReport>) => {
    cancel();
    cancel = clock.setTimer(HUNG_AFTER_MS, () => broken(`does not end in ${HUNG_AFTER_MS} ms`));
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
    cancel();
    worker.onmessage = worker.onerror = null;
  });
}
