import { OutboundQueue } from "../../src/queue/queue.ts";
import { TempDir } from "../support/temp_dir.ts";
import { FaultDriver } from "./helpers.ts";
import { checkAgainstArrays } from "./model.ts";
import { PLACES } from "./threads.ts";

for (const syncIn of PLACES) {
  Deno.test(`any sequence of operations agrees with an array (syncIn ${syncIn})`, async () => {
    await checkAgainstArrays(() => {
      const dir = new TempDir();
      const driver = new FaultDriver();
      return Promise.resolve({
        faults: {
          fail: (start, code, times) => driver.failNext(start, code, times),
          heal: () => driver.heal(),
        },
        open: (options) => OutboundQueue.open(dir.queue, { driver, syncIn, ...options }),
        [Symbol.asyncDispose]() {
          dir[Symbol.dispose]();
          return Promise.resolve();
        },
      });
    }, syncIn === "threads" ? 40 : 100);
  });
}
