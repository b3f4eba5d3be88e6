import assert from "node:assert/strict";
import { LineChild } from "../../lab/child.ts";
import { networkAvailable, TestNetwork } from "../../lab/network.ts";
import { RecorderProcess } from "../../lab/recorder_process.ts";
import { libcCandidates } from "../../src/kernel/libc.ts";
import { until } from "../support/until.ts";
import { LIBC, Sendq, Server, TempDir } from "./helpers.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

function probe(remote: string, ...args: string[]): Sendq {
  const host = remote.replace("tcp://", "");
  return new Sendq([`--allow-net=${host}`, `--allow-ffi=${LIBC}`], ["probe", remote, ...args]);
}

Deno.test("probe: a server that answers is healthy, and is sent nothing", async () => {
  await using server = new Server();
  await using text = probe(server.remote, "--seconds", "2");
  await until("the connection", () => server.connections === 1);
  assert.equal(await text.ended(), 0, text.stderr);
  const [connected, route, ...looks] = text.stdout.trimEnd().split("\n");
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
  await using server = new Server({ greeting: "hello\n" });
  await using json = probe(server.remote, "--seconds", "0.1", "--json");
  assert.equal(await json.ended(), 0, json.stderr);
  const printed = JSON.parse(json.stdout);
  assert.deepEqual(
    [printed.remote, printed.verdict, printed.receivedBytes, printed.looks.length],
    [server.remote, "healthy", 6, 1],
  );
  assert.deepEqual(printed.route, { kind: "route", device: "lo", up: true, carrier: true });
  assert.deepEqual(server.bytes, []);
});

Deno.test("probe: nobody listens: exit 1, with what that means", async () => {
  const remote = `tcp://127.0.0.1:${Server.freePort()}`;
  await using text = probe(remote);
  assert.equal(await text.ended(), 1);
  assert.equal(
    text.stdout,
    "route      lo, up, carrier\n" +
      "verdict    cannot connect: the host answers, and nothing listens on this port (ECONNREFUSED)\n",
  );
  await using json = probe(remote, "--json");
  assert.equal(await json.ended(), 1);
  const printed = JSON.parse(json.stdout);
  assert.deepEqual([printed.verdict, printed.code], ["unreachable", "ECONNREFUSED"]);
});

Deno.test("probe: a server that closes by itself", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const served = listener.accept().then((connection) => connection.close());
  await using text = probe(`tcp://127.0.0.1:${listener.addr.port}`, "--seconds", "0.2");
  await served;
  assert.equal(await text.ended(), 1);
  assert.match(text.stdout, /\nverdict +peer closed: the server ended the connection by itself\n$/);
});

Deno.test("probe: missing permissions are named", async () => {
  await using none = new Sendq([], ["probe", "tcp://127.0.0.1:4000"]);
  assert.equal(await none.ended(), 77);
  assert.match(none.stderr, /--allow-net=127\.0\.0\.1:4000 --allow-ffi=\S+\n$/);
  for (
    const [host, flag] of [
      ["[fe80::1%25eth0]", "--allow-net=[fe80::1%eth0]:4000"],
      ["bücher.test", "--allow-net=xn--bcher-kva.test:4000"],
    ] as const
  ) {
    await using lacking = new Sendq([`--allow-ffi=${LIBC}`], ["probe", `tcp://${host}:4000`]);
    assert.equal(await lacking.ended(), 77);
    assert.ok(lacking.stderr.endsWith(` ${flag}\n`), lacking.stderr);
    // Deno takes the flag as it was printed.
    await using granted = new Sendq([flag], ["probe", `tcp://${host}:4000`]);
    assert.equal(await granted.ended(), 77);
    assert.match(granted.stderr, /missing: --allow-ffi=\S+\n$/);
  }
});

Deno.test("probe: --libc is the path that is asked for, granted and loaded", async () => {
  const libc = "/nix/store/x/libc.so.6";
  const args = ["probe", "tcp://127.0.0.1:4000", "--libc", libc];
  await using lacking = new Sendq(["--allow-net=127.0.0.1:4000", `--allow-ffi=${LIBC}`], args);
  assert.equal(await lacking.ended(), 77);
  assert.ok(lacking.stderr.endsWith(` --allow-ffi=${libc}\n`), lacking.stderr);
  await using absent = new Sendq(["--allow-net=127.0.0.1:4000", `--allow-ffi=${libc}`], args);
  assert.equal(await absent.ended(), 2);
  assert.match(absent.stderr, /libc = \/nix\/store\/x\/libc\.so\.6 cannot be used/);
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
