import assert from "node:assert/strict";
import { bootMs } from "../../src/kernel/boot_clock.ts";
import { until } from "../support/until.ts";

Deno.test("the clock since boot goes on, is the kernel's, and is not behind the monotonic one", async () => {
  const uptimeMs = () => {
    const { stdout } = new Deno.Command("cat", { args: ["/proc/uptime"] }).outputSync();
    return Number(new TextDecoder().decode(stdout).split(" ")[0]) * 1000;
  };
  const before = uptimeMs();
  const now = bootMs();
  // /proc/uptime counts hundredths of a second.
  assert(before - 10 <= now && now <= uptimeMs() + 10, `${now} ms`);
  await until("time goes on", () => bootMs() > now);
});
