/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

/**
 * A worker of the fuzzer whose "seeds" say what it does: 1 answers at once, 2 computes
 * for ever, 3 throws where nobody catches it.
 */
import type { WorkOrder, WorkReport } from "../../fuzz/worker.ts";

const post = (report: WorkReport): void => self.postMessage(report);

self.addEventListener("message", ({ data }: MessageEvent<WorkOrder>) => {
  post({ kind: "begun" });
  for (let seed = data.fromSeed; seed < data.fromSeed + data.count; seed++) {
    post({ kind: "command", name: "list", what: `seed ${seed}` });
    for (; seed === 2;);
    if (seed === 3) throw new Error("planted");
    post({ kind: "seed", report: { seed, what: "", commands: [], violations: [] } });
  }
});
