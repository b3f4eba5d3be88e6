/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

/**
 * Runs seeds in a thread of its own, so that somebody is left to notice when a command
 * does not come back.
 *
 * @module
 */

import { main } from "../src/cli/main.ts";
import { runSeed, type SeedReport } from "./run.ts";

/** Seeds to run. */
export interface WorkOrder {
  readonly fromSeed: number;
  readonly count: number;
}

/**
 * What a worker says: that its code is loaded, which command it begins with, and what
 * came of a seed.
 */
export type WorkReport =
  | { readonly kind: "begun" }
  | { readonly kind: "command"; readonly name: string; readonly what: string }
  | { readonly kind: "seed"; readonly report: SeedReport };

const post = (report: WorkReport): void => self.postMessage(report);

let rejected: unknown;
self.addEventListener("unhandledrejection", (event) => {
  rejected ??= event.reason ?? "undefined";
  event.preventDefault();
});

self.addEventListener("message", async ({ data }: MessageEvent<WorkOrder>) => {
  post({ kind: "begun" });
  for (let seed = data.fromSeed; seed < data.fromSeed + data.count; seed++) {
    rejected = undefined;
    const report = await runSeed(seed, {
      main,
      onCommand: (name, what) => post({ kind: "command", name, what }),
    });
    const violations = rejected === undefined
      ? report.violations
      : [...report.violations, `nobody handled a rejection: ${String(rejected)}`];
    post({ kind: "seed", report: { ...report, violations } });
  }
});
