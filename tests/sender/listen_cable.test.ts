/**
 * A server that connects to us, and whose cable is pulled: what it had not held comes to
 * it again on its next connection.
 */
import assert from "node:assert/strict";
import { LineChild } from "../../lab/child.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { libcCandidates } from "../../src/kernel/libc.ts";
import type { SenderStatus } from "../../src/delivery/status.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";

const PACKETS = 300;
const INTERVAL_MS = 10;

const available = await networkAvailable();
// deno-lint-ignore no-console -- an ignored test has to say why
if (!available.ok) console.warn(`cable tests ignored: ${available.reason}`);

/** Connects, prints what comes in hexadecimal, and connects anew for each line it is told. */
const DEVICE = `
const [hostname, port] = [Deno.args[0], Number(Deno.args[1])];
let number = 0;
async function connect() {
  const id = ++number;
  let conn;
  while (conn === undefined) {
    try { conn = await Deno.connect({ hostname, port }); } catch { /* Not there yet. */ }
  }
  console.log(id + " connected");
  const buffer = new Uint8Array(65536);
  try {
    for (;;) {
      const length = await conn.read(buffer);
      if (length === null) break;
      console.log(id + " " + buffer.subarray(0, length).toHex());
    }
  } catch { /* Reset. */ }
}
connect();
for await (const _ of Deno.stdin.readable) connect();
`;

Deno.test({
  name: "a server that connects to us loses its cable, comes back, and nothing is lost",
  ignore: !available.ok,
  async fn() {
    using directory = new TempDir();
    await using network = await TestNetwork.create();
    const port = ScriptedServer.freePort();
    const script = directory.file("device.ts");
    Deno.writeTextFileSync(script, DEVICE);
    await using sender = new LineChild(network.spawnerIn("sender"), Deno.execPath(), [
      ...["run", "--no-prompt", `--allow-net=${network.senderAddress}`],
      `--allow-read=${directory.path}`,
      `--allow-write=${directory.path}`,
      `--allow-ffi=${libcCandidates().map(({ path }) => path).join(",")}`,
      new URL("cable_child.ts", import.meta.url).pathname,
      directory.queue,
      `listen://${network.senderAddress}:${port}?from=${network.serverAddress}`,
      ...[String(PACKETS), String(INTERVAL_MS)],
    ]);
    await using device = new LineChild(network.spawnerIn("server"), Deno.execPath(), [
      ...["run", "--no-prompt", `--allow-net=${network.senderAddress}`, script],
      ...[network.senderAddress, String(port)],
    ]);
    /** What came on each of its connections. */
    const heard = new Map<string, string>();
    const listening = (async () => {
      for (;;) {
        const [id = "", hex = ""] = (await device.hear()).split(" ");
        if (hex === "connected") continue;
        const text = new TextDecoder().decode(Uint8Array.fromHex(hex));
        heard.set(id, (heard.get(id) ?? "") + text);
      }
    })().catch(() => {});
    const hear = async (fits: (status: SenderStatus) => boolean) => {
      for (;;) {
        const status: SenderStatus = JSON.parse(await sender.hear());
        if (fits(status)) return status;
      }
    };

    await hear(({ state }) => state === "connected");
    const heal = await network.silentDrop({ direction: "both" });
    await hear(({ verdict }) => verdict.kind === "path-dead");
    await heal();
    await device.say("again");
    let closed: { failedAttempts: number; queue: { packets: number } } | undefined;
    while (closed === undefined) closed = JSON.parse(await sender.hear()).closed;
    assert.equal(closed.queue.packets, 0);
    assert.equal(closed.failedAttempts, 0);
    await device[Symbol.asyncDispose]();
    await listening;

    // Whole packets only: a line that was cut by the end of its connection is none.
    const lines = [...heard.values()].flatMap((text) =>
      text.slice(0, text.lastIndexOf("\n") + 1).split("\n").slice(0, -1)
    );
    const missing = Array.from({ length: PACKETS }, (_, index) => `${index + 1}`)
      .filter((line) => !lines.includes(line));
    assert.deepEqual(missing, []);
    assert.ok(heard.size >= 2, "both connections carried packets");
    for (const text of heard.values()) {
      const ids = text.split("\n").slice(0, -1).map(Number);
      assert.ok(ids.every((id, at) => at === 0 || id === (ids[at - 1] ?? 0) + 1), "in order");
    }
  },
});
