/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

/**
 * Runs seeds of the lease on a core of its own.
 *
 * @module
 */

import { runLease } from "./lease_run.ts";
import type { WorkOrder, WorkReport } from "./worker.ts";

const post = (report: WorkReport): void => self.postMessage(report);

let rejected: unknown;
self.addEventListener("unhandledrejection", (event) => {
  rejected ??= event.reason ?? "undefined";
  event.preventDefault();
});

self.addEventListener("message", async (event: MessageEvent<WorkOrder>) => {
  const { fromSeed, count } = event.data;
  post({ kind: "begun" });
  for (let seed = fromSeed; seed < fromSeed + count; seed++) {
    rejected = undefined;
    const result = await runLease(seed);
    const violation = result.violation ??
      (rejected === undefined ? undefined : `nobody handled a rejection: ${String(rejected)}`);
    post({ kind: "result", result: { ...result, violation } });
  }
  post({ kind: "free" });
});
