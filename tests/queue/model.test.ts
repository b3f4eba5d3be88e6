import { OutboundQueue } from "../../src/queue/queue.ts";
import { TempDir } from "../support/temp_dir.ts";
import { checkAgainstArrays } from "./model.ts";
import { faultsHere, THREADS, WorkerFaults } from "./threads.ts";

for (const commitIn of THREADS) {
  Deno.test(`any sequence of operations agrees with an array (commitIn ${commitIn})`, async () => {
    await checkAgainstArrays(() => {
      const dir = new TempDir();
      const workerFaults = commitIn === "worker" ? new WorkerFaults(dir.queue) : undefined;
      const faults = workerFaults ?? faultsHere();
      return Promise.resolve({
        faults,
        open: (options) => OutboundQueue.open(dir.queue, { ...faults.options, ...options }),
        [Symbol.asyncDispose]() {
          workerFaults?.[Symbol.dispose]();
          dir[Symbol.dispose]();
          return Promise.resolve();
        },
      });
    }, commitIn === "worker" ? 40 : 100);
  });
}
