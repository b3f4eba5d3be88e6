import assert from "node:assert/strict";
import { LineChild } from "../../lab/child.ts";
import { compare } from "../../lab/compare.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { readRecord } from "../../lab/record.ts";
import { RecorderProcess } from "../../lab/recorder_process.ts";
import { MAX_COUNTED_GAP_MS } from "../../src/delivery/liveness.ts";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { testUnless } from "../kernel/helpers.ts";
import { OLDER_KERNEL, olderKernelObstacle } from "../kernel/older_kernel.ts";
import type { SenderStatus } from "../../src/delivery/status.ts";

const PACKETS = 600;
const INTERVAL_MS = 10;
const STALL_TIMEOUT_MS = 3000;

const available = await networkAvailable();
const obstacle = available.ok ? undefined : available.reason;
const PULLED =
  "the cable is pulled under load and leads to a new server when it is back: nothing is lost";

testUnless(obstacle, PULLED, () => pullCable([]));
testUnless(
  obstacle ?? await olderKernelObstacle(),
  `${PULLED} (with the TCP_INFO of an older kernel)`,
  () => pullCable(OLDER_KERNEL),
);

/** @param before What stands in front of the sender's command. */
async function pullCable(before: readonly string[]): Promise<void> {
  const directory = await Deno.makeTempDir();
  await using network = await TestNetwork.create();
  const server = {
    address: network.serverAddress,
    spawn: network.spawnerIn("server"),
  };
  const old = await RecorderProcess.start({ ...server, record: `${directory}/old.record` });
  const [program = "", ...first] = [...before, Deno.execPath()];
  await using sender = new LineChild(network.spawnerIn("sender"), program, [
    ...first,
    ...["run", "--no-prompt", `--allow-net=${network.serverAddress}`],
    `--allow-read=${directory}`,
    `--allow-write=${directory}`,
    `--allow-ffi=${libcCandidates().map(({ path }) => path).join(",")}`,
    new URL("cable_child.ts", import.meta.url).pathname,
    `${directory}/outbox.db`,
    `tcp://${network.serverAddress}:${old.port}`,
    ...[String(PACKETS), String(INTERVAL_MS)],
  ]);
  const hear = async (fits: (status: SenderStatus) => boolean) => {
    for (;;) {
      const status: SenderStatus = JSON.parse(await sender.hear());
      if (fits(status)) return status;
    }
  };

  await hear(({ state }) => state === "connected");
  const heal = await network.silentDrop({ direction: "both" });
  const { verdict } = await hear(({ verdict }) => verdict.kind === "path-dead");
  // Silence as the sender has counted it: what this machine held it up for is not in it.
  assert.ok(verdict.kind === "path-dead");
  assert.ok(verdict.silenceMs > STALL_TIMEOUT_MS, `${verdict.silenceMs}`);
  assert.ok(verdict.silenceMs <= STALL_TIMEOUT_MS + MAX_COUNTED_GAP_MS, `${verdict.silenceMs}`);

  await old[Symbol.asyncDispose]();
  await using _new = await RecorderProcess.start({
    ...server,
    port: old.port,
    record: `${directory}/new.record`,
  });
  await heal();
  let closed: { redeliveredPackets: number; queue: { packets: number } } | undefined;
  while (closed === undefined) closed = JSON.parse(await sender.hear()).closed;

  const sent = Array.from({ length: PACKETS }, (_, index) => `${index + 1}\n`);
  const record = readRecord(`${directory}/old.record`, `${directory}/new.record`);
  const comparison = compare(sent, record);
  assert.deepEqual(comparison.lost, []);
  assert.equal(comparison.unknown, 0);
  assert.equal(comparison.outOfOrderWithinConnection, 0);
  assert.equal(comparison.gapsWithinConnection, 0);
  assert.ok(comparison.duplicated <= closed.redeliveredPackets);
  assert.ok(closed.redeliveredPackets > 0, "packets had been written into the dead connection");
  assert.equal(closed.queue.packets, 0);
  await Deno.remove(directory, { recursive: true });
}
