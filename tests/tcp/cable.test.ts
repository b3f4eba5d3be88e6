/**
 * Paths that die, on a real kernel: network namespaces and a cable between them.
 */
import assert from "node:assert/strict";
import { LineChild } from "../../lab/child.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { RecorderProcess } from "../../lab/recorder_process.ts";
import { MAX_COUNTED_GAP_MS } from "../../src/delivery/liveness.ts";
import { libcGrant } from "../../src/kernel/libc.ts";
import type { SocketOptions, WatchOptions } from "../../src/tcp/tcp.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const STALL_TIMEOUT_MS = 3000;

const available = await networkAvailable();
// deno-lint-ignore no-console -- an ignored test has to say why
if (!available.ok) console.warn(`cable tests of tcp ignored: ${available.reason}`);

interface Stage {
  readonly network: TestNetwork;
  readonly server: RecorderProcess;
  readonly client: LineChild;
  /** Waits for a line with this key and a value that fits, and gives the value. */
  hear<T>(key: string, fits?: (value: T) => boolean): Promise<T>;
}

function onANetwork(
  name: string,
  options: {
    readonly watch?: WatchOptions;
    readonly socket?: SocketOptions;
    /** Watched by its ends alone, and this stands for the client's. */
    readonly ownName?: string;
  },
  play: (stage: Stage) => Promise<void>,
): void {
  Deno.test({
    name,
    ignore: !available.ok,
    async fn() {
      using directory = new TempDir();
      await using network = await TestNetwork.create();
      await using server = await RecorderProcess.start({
        record: `${directory.path}/record`,
        address: network.serverAddress,
        spawn: network.spawnerIn("server"),
      });
      await using client = new LineChild(network.spawnerIn("sender"), Deno.execPath(), [
        ...["run", "--quiet", "--no-prompt", "--no-check"],
        ...[`--allow-net=${network.serverAddress}`, `--allow-ffi=${libcGrant()}`],
        new URL("cable_child.ts", import.meta.url).pathname,
        ...[network.serverAddress, String(server.port)],
        JSON.stringify(options.watch ?? {}),
        JSON.stringify(options.socket ?? {}),
        ...(options.ownName === undefined ? [] : [options.ownName]),
      ]);
      // What comes from two sides of the child comes in any order.
      const waiting: Record<string, unknown>[] = [];
      const hear = async <T>(key: string, fits: (value: T) => boolean = () => true) => {
        for (let index = 0;; index++) {
          const told = waiting[index] ?? JSON.parse(await client.hear());
          waiting[index] = told;
          if (!(key in told) || !fits(told[key])) continue;
          waiting.splice(index, 1);
          return told[key];
        }
      };
      assert.equal(await hear("verdict"), "healthy");
      await play({ network, server, client, hear });
    },
  });
}

/** What the server's program has read. */
function received({ reader }: RecorderProcess): number {
  return reader.update().packetCount;
}

onANetwork("the cable is pulled: told after 3 s of silence, and a pending read fails at once", {
  watch: { stallTimeoutMs: STALL_TIMEOUT_MS },
}, async ({ network, server, client, hear }) => {
  await client.say("write one");
  await client.say("drained");
  assert.equal(await hear("drained"), true);
  await until("the server has read it", () => received(server) === 1);

  const heal = await network.silentDrop({ direction: "both" });
  await client.say("write two");
  await hear("wrote");
  await client.say("drained");
  const verdict = await hear<{ kind: string; silenceMs: number }>("aborted");
  assert.equal(verdict.kind, "path-dead");
  // Silence as the watch has counted it: what this machine held it up for is not in it.
  assert.ok(verdict.silenceMs > STALL_TIMEOUT_MS, `${verdict.silenceMs}`);
  assert.ok(verdict.silenceMs <= STALL_TIMEOUT_MS + MAX_COUNTED_GAP_MS, `${verdict.silenceMs}`);
  assert.equal(await hear("notDrained"), "path-dead");
  await hear("verdict", (kind) => kind === "path-dead");
  assert.equal(await hear("readFailed"), "ConnectionReset");
  // Reset, it has nothing left that could arrive once the path is back.
  await heal();
  await client.say("state");
  assert.equal(await hear("state"), "CLOSE");
  assert.equal(received(server), 1);
});

onANetwork("an outage that heals in time is no death, and drained waits for its end", {
  watch: { stallTimeoutMs: 60_000 },
}, async ({ network, server, client, hear }) => {
  const heal = await network.silentDrop({ direction: "to-client" });
  await client.say("write one");
  assert.ok(await hear<number>("wrote") > 0);
  await client.say("drained");
  await hear("verdict", (kind) => kind === "slow");
  // The server has it; its acknowledgements are lost.
  await until("the server has read it", () => received(server) === 1);
  await heal();
  assert.equal(await hear("drained"), true);
  await hear("verdict", (kind) => kind === "healthy");
});

onANetwork("an idle connection: keepalive ends it, and the signal tells", {
  socket: { keepAlive: { idleMs: 1000, intervalMs: 1000, count: 3 } },
}, async ({ network, hear }) => {
  await network.silentDrop({ direction: "both" });
  assert.equal((await hear<{ kind: string }>("aborted")).kind, "died");
});

onANetwork("a link of this host that is down is named", {
  watch: { stallTimeoutMs: STALL_TIMEOUT_MS },
}, async ({ network, client, hear }) => {
  await client.say("write one");
  await client.say("drained");
  assert.equal(await hear("drained"), true);
  await network.ownLinkDown();
  await client.say("write two");
  const verdict = await hear<{ kind: string; fault?: { kind: string } }>("aborted");
  assert.equal(verdict.kind, "local-fault");
  assert.equal(verdict.fault?.kind, "link-down");
});

onANetwork("an address that is gone is named, also where a listener calls it 0.0.0.0", {
  watch: { stallTimeoutMs: STALL_TIMEOUT_MS },
  ownName: "0.0.0.0",
}, async ({ network, client, hear }) => {
  await network.deleteAddress();
  await client.say("write one");
  const verdict = await hear<{ kind: string; fault?: { words: string } }>("aborted");
  assert.equal(
    verdict.fault?.words,
    `the local address ${network.senderAddress} was removed from eth0`,
  );
});
