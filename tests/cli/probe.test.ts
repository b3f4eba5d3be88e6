import assert from "node:assert/strict";
import { LineChild } from "../../lab/child.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { RecorderProcess } from "../../lab/recorder_process.ts";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { LIBC, type Outcome, runHere, runWith } from "./helpers.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

function probe(remote: string, ...args: string[]): Promise<Outcome> {
  return runHere(["probe", remote, ...args]);
}

Deno.test("probe: a server that answers is healthy, and is sent nothing", async () => {
  await using server = new ReadingServer();
  const probing = probe(server.remote, "--seconds", "2");
  await until("the connection", () => server.connections === 1);
  const { code, out, err } = await probing;
  assert.equal(code, 0, err);
  const [connected, route, ...looks] = out.trimEnd().split("\n");
  assert.match(
    connected ?? "",
    /^connected +to 127\.0\.0\.1:\d+ from 127\.0\.0\.1:\d+ in [\d.]+ms$/,
  );
  assert.equal(route, "route      lo, up, carrier");
  assert.match(looks.pop() ?? "", /^verdict +healthy: the server's kernel answers/);
  assert.equal(looks.length, 2);
  for (const look of looks) {
    assert.match(
      look,
      /^\d+\.\ds +RTT [\d.]+ms, window [\d.]+ KiB, Send-Q 0 B, 0 retransmitted, last sign \S+ ago: healthy$/,
    );
  }
  assert.deepEqual(server.bytes, []);
});

Deno.test("probe: --json prints one object; what the server says is counted", async () => {
  await using server = new ReadingServer({ greeting: "hello\n" });
  const { code, out, err } = await probe(server.remote, "--seconds", "0.1", "--json");
  assert.equal(code, 0, err);
  const printed = JSON.parse(out);
  assert.deepEqual(
    [printed.remote, printed.verdict, printed.receivedBytes, printed.looks.length],
    [server.remote, "healthy", 6, 1],
  );
  assert.deepEqual(printed.route, { kind: "route", device: "lo", up: true, carrier: true });
  assert.deepEqual(server.bytes, []);
});

Deno.test("probe: nobody listens: exit 1, with what that means", async () => {
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const text = await probe(remote);
  assert.equal(text.code, 1);
  assert.equal(
    text.out,
    "route      lo, up, carrier\n" +
      "verdict    cannot connect: the host answers, and nothing listens on this port (ECONNREFUSED)\n",
  );
  const json = await probe(remote, "--json");
  assert.equal(json.code, 1);
  const printed = JSON.parse(json.out);
  assert.deepEqual([printed.verdict, printed.code], ["unreachable", "ECONNREFUSED"]);
});

Deno.test("probe: a server that closes by itself", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served = listener.accept().then((connection) => connection.close());
  const text = await probe(`tcp://127.0.0.1:${listener.addr.port}`, "--seconds", "0.2");
  await served;
  assert.equal(text.code, 1);
  assert.match(text.out, /\nverdict +peer closed: the server ended the connection by itself\n$/);
});

Deno.test("probe: missing permissions are named; those of its help are enough", async () => {
  const none = await runWith([], ["probe", "tcp://127.0.0.1:4000"]);
  assert.equal(none.code, 77);
  assert.match(none.err, /--allow-net=127\.0\.0\.1:4000 --allow-ffi=\S+\n$/);
  await using server = new ReadingServer();
  const permissions = [`--allow-net=${new URL(server.remote).host}`, `--allow-ffi=${LIBC}`];
  const text = await runWith(permissions, ["probe", server.remote, "--seconds", "0.1"]);
  assert.deepEqual([text.code, text.err], [0, ""], text.out);
  for (
    const [host, flag] of [
      ["[fe80::1%25eth0]", "--allow-net=[fe80::1%eth0]:4000"],
      ["bücher.test", "--allow-net=xn--bcher-kva.test:4000"],
    ] as const
  ) {
    const lacking = await runWith([`--allow-ffi=${LIBC}`], ["probe", `tcp://${host}:4000`]);
    assert.equal(lacking.code, 77);
    assert.ok(lacking.err.endsWith(` ${flag}\n`), lacking.err);
    // Deno takes the flag as it was printed.
    const granted = await runWith([flag], ["probe", `tcp://${host}:4000`]);
    assert.equal(granted.code, 77);
    assert.match(granted.err, /missing: --allow-ffi=\S+\n$/);
  }
});

Deno.test("probe: --libc is the path that is asked for, granted and loaded", async () => {
  const libc = "/nix/store/x/libc.so.6";
  const args = ["probe", "tcp://127.0.0.1:4000", "--libc", libc];
  const lacking = await runWith(["--allow-net=127.0.0.1:4000", `--allow-ffi=${LIBC}`], args);
  assert.equal(lacking.code, 77);
  assert.ok(lacking.err.endsWith(` --allow-ffi=${libc}\n`), lacking.err);
  const absent = await runWith(["--allow-net=127.0.0.1:4000", `--allow-ffi=${libc}`], args);
  assert.equal(absent.code, 2);
  assert.match(absent.err, /libc = \/nix\/store\/x\/libc\.so\.6 cannot be used/);
});

const available = await networkAvailable();

Deno.test({
  name: "probe: an idle path that is cut is dead, though nothing was sent" +
    (available.ok ? "" : ` (left out: ${available.reason})`),
  ignore: !available.ok,
  async fn() {
    using dir = new TempDir();
    await using network = await TestNetwork.create();
    await using server = await RecorderProcess.start({
      address: network.serverAddress,
      spawn: network.spawnerIn("server"),
      record: `${dir.path}/record`,
    });
    await using child = new LineChild(network.spawnerIn("sender"), Deno.execPath(), [
      ...["run", "--no-prompt", `--allow-net=${network.serverAddress}`],
      `--allow-ffi=${libcCandidates().map(({ path }) => path).join(",")}`,
      ...[MAIN, "probe", `tcp://${network.serverAddress}:${server.port}`, "--seconds", "60"],
    ]);
    const lines: string[] = [];
    const hear = async (fits: (line: string) => boolean) => {
      do lines.push(await child.hear()); while (!fits(lines.at(-1) ?? ""));
      return lines.at(-1) ?? "";
    };
    assert.match(
      await hear((line) => line.startsWith("route")),
      /, through \d+\.\d+\.\d+\.\d+, up, carrier$/,
    );
    await hear((line) => line.endsWith("healthy"));
    await network.silentDrop({ direction: "both" });
    const verdict = await hear((line) => line.startsWith("verdict"));
    assert.match(verdict, /path dead: not a sign of the peer for|timed out by the kernel/);
  },
});
