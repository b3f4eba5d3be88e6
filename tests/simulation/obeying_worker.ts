/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />

/**
 * A worker of the simulation's pool whose "seeds" say what it does: 1 answers at
 * once, 2 waits without using the processor, 3 computes for ever.
 */
import type { WorkOrder, WorkReport } from "../../simulation/worker.ts";

/** A test knows it, too. */
const WAIT_MS = 500;

const post = (report: WorkReport): void => self.postMessage(report);

self.addEventListener("message", ({ data }: MessageEvent<WorkOrder>) => {
  post({ kind: "begun" });
  for (let seed = data.fromSeed; seed < data.fromSeed + data.count; seed++) {
    if (seed === 2) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, WAIT_MS);
    for (; seed === 3;);
    post({
      kind: "result",
      result: {
        ...{ seed, violation: undefined, simulatedMs: 0, events: 0, accepted: 0, delivered: 0 },
        ...{ duplicates: 0, lostUnread: 0, dead: 0, connections: 0 },
      },
    });
  }
  post({ kind: "free" });
});
