/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

/**
 * Runs seeds on a core of its own.
 *
 * @module
 */

import { run, type RunResult } from "./run.ts";

/** Seeds to run, one message a time. */
export interface WorkOrder {
  readonly queuePath: string;
  readonly fromSeed: number;
  readonly count: number;
}

/** What a worker says: that its code is loaded, one result a seed, then that it is free. */
export type WorkReport =
  | { readonly kind: "begun" }
  | { readonly kind: "result"; readonly result: RunResult }
  | { readonly kind: "free" };

const post = (report: WorkReport): void => self.postMessage(report);

let rejected: unknown;
self.addEventListener("unhandledrejection", (event) => {
  rejected ??= event.reason ?? "undefined";
  event.preventDefault();
});

self.addEventListener("message", async (event: MessageEvent<WorkOrder>) => {
  const { queuePath, fromSeed, count } = event.data;
  post({ kind: "begun" });
  for (let seed = fromSeed; seed < fromSeed + count; seed++) {
    rejected = undefined;
    const result = await run(seed, { queuePath });
    const violation = result.violation ??
      (rejected === undefined ? undefined : `nobody handled a rejection: ${String(rejected)}`);
    post({ kind: "result", result: { ...result, violation } });
  }
  post({ kind: "free" });
});
