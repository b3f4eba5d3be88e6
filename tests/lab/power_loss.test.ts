import assert from "node:assert/strict";
import { examine, traceSender } from "../../lab/power_loss.ts";
import { straceMissing } from "../../lab/strace.ts";

const PACKETS = 30;

const missing = await straceMissing();
// deno-lint-ignore no-console -- an ignored test has to say why
if (missing !== undefined) console.warn(`power-loss tests ignored: ${missing}`);

for (
  const [place, syncIn] of [
    ["file", "loop"],
    ["file", "threads"],
    ["spool", "loop"],
    ["spool", "threads"],
  ] as const
) {
  Deno.test({
    name:
      `no power cut takes a packet whose enqueue resolved, and none is deleted before it was acked (${place}, syncIn ${syncIn})`,
    ignore: missing !== undefined,
    async fn(t) {
      const directory = await Deno.makeTempDir();
      const traced = await traceSender(directory, PACKETS, syncIn, place);

      await t.step("every disk that a power cut could have left keeps the promise", async () => {
        const findings = await examine(traced, directory);
        assert.deepEqual(findings.violations, []);
        assert.equal(findings.stored, PACKETS);
        assert.equal(findings.removed, PACKETS);
        assert.ok(findings.disks > 2 * PACKETS);
      });

      await t.step("the check finds a sender that does not wait for its syncs", async () => {
        const calls = traced.calls.filter(({ name }) => name !== "fsync" && name !== "fdatasync");
        assert.notDeepEqual((await examine({ ...traced, calls }, directory)).violations, []);
      });

      await t.step("the check finds a sender that deletes what was not acknowledged", async () => {
        const calls = traced.calls.filter(({ args }) => !args.includes("TCP_INFO"));
        assert.notDeepEqual((await examine({ ...traced, calls }, directory)).violations, []);
      });
      await Deno.remove(directory, { recursive: true });
    },
  });
}
