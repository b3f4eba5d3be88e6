import assert from "node:assert/strict";
import { History } from "../../src/cli/commands/status.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { readRunningSender } from "../../src/sender/report.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import { leftOutWithout, runHere, Sendq } from "./helpers.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;
/** util-linux's `script` gives the command a terminal of its own. */
const noScript = await leftOutWithout("script", "--version");

/** What `status --json` prints, as far as it is looked at here. */
interface Printed {
  readonly queue: {
    readonly packets: number;
    readonly bytes: number;
    readonly lastId: number;
    readonly oldestAgeMs?: number;
    readonly fileBytes: number;
  };
  readonly sender: null | {
    readonly pid: number;
    readonly state: string;
    readonly condition: { readonly headline: string };
    readonly outage?: { readonly failedAttempts: number };
    readonly verdict?: string;
    readonly remote: string;
    readonly drainedPackets: number;
    readonly failedAttempts: number;
    readonly troubles: readonly { readonly words: string }[];
    readonly path?: { readonly sendQueueBytes: number };
  };
}

async function statusOf(queue: string): Promise<Printed> {
  const { code, out, err } = await runHere(["status", "-q", queue, "--json"]);
  assert.equal(code, 0, err);
  return JSON.parse(out);
}

async function fill(path: string, count: number): Promise<void> {
  await using queue = await OutboundQueue.open(path);
  await queue.enqueueMany(Array.from({ length: count }, () => new Uint8Array(10)));
}

Deno.test("status: a queue without a sender", async () => {
  using dir = new TempDir();
  const missing = await runHere(["status", "-q", dir.queue]);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /^sendq: there is no queue at /);
  assert.deepEqual([...Deno.readDirSync(dir.path)], [], "looking has made something");

  await fill(dir.queue, 3);
  const status = await runHere(["status", "-q", dir.queue]);
  assert.equal(status.code, 0, status.err);
  assert.match(status.out, /^packets +3, 30 B, the oldest \d+(\.\d+)?m?s old$/m);
  assert.match(status.out, /^sender +none runs$/m);
  const { queue, sender } = await statusOf(dir.queue);
  assert.deepEqual([queue.packets, queue.bytes, queue.lastId, sender], [3, 30, 3, null]);
  assert(queue.fileBytes > 0 && (queue.oldestAgeMs ?? -1) >= 0);
});

Deno.test("status: what the sender of another process says, and that it is gone when killed", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  await using send = Sendq.send(remote, dir.queue, "--input", "none");
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue(new Uint8Array(10));
  await until("the trouble", async () => {
    const { sender } = await statusOf(dir.queue);
    return sender !== null && sender.failedAttempts > 0 && sender.troubles.length > 0;
  });
  const down = await statusOf(dir.queue);
  assert.deepEqual([down.sender?.pid, down.sender?.remote], [send.child.pid, remote]);
  assert(["backing-off", "connecting"].includes(down.sender?.state ?? ""));
  assert.match(down.sender?.troubles[0]?.words ?? "", /^cannot connect to .* \(ECONNREFUSED\)$/);
  assert.equal(down.queue.packets, 1);
  assert.equal(down.sender?.condition.headline, "Not delivering");
  assert((down.sender?.outage?.failedAttempts ?? 0) > 0);
  assert.equal(down.sender?.verdict, undefined, "there is nothing to judge");
  await using outage = Sendq.onQueue("status", dir.queue);
  assert.equal(await outage.ended(), 0);
  assert.match(outage.stdout, /^outage +for \d.*: \d+ attempts? failed$/m);
  assert.doesNotMatch(outage.stdout, /^verdict/m);

  await using _server = new ReadingServer({ port });
  await until("the delivery", async () => {
    const { queue, sender } = await statusOf(dir.queue);
    return queue.packets === 0 && sender?.drainedPackets === 1 && sender.state === "connected" &&
      /^(Connected|Delivering)$/.test(sender.condition.headline);
  });
  const up = await statusOf(dir.queue);
  assert.deepEqual([up.sender?.verdict, up.sender?.path?.sendQueueBytes], ["healthy", 0]);
  const text = await runHere(["status", "-q", dir.queue]);
  assert.equal(text.code, 0);
  for (
    const line of [
      new RegExp(`^sender +process ${send.child.pid}, for \\d.*, to ${remote}$`, "m"),
      /^state +(Connected|Delivering)$/m,
      /^verdict +healthy$/m,
      /^delivered +1 packet, 10 B; \d+\/s, \d+ B\/s; 0 sent again$/m,
      /^connected +once, \d+ attempts failed$/m,
      /^ +Send-Q 0 B \(0 B not sent yet\), RTT \d+\.\dms, window [\d.]+ KiB, 0 retransmitted$/m,
      /^trouble +\d{4}-\S+Z cannot connect to /m,
    ]
  ) assert.match(text.out, line);
  assert.equal(text.out.includes("\x1b"), false, "a colour in a pipe");

  send.child.kill("SIGKILL");
  await send.ended();
  assert.equal((await statusOf(dir.queue)).sender, null);
});

Deno.test("status: --wait-empty ends when the queue is empty, or exits 75 in time", async () => {
  using dir = new TempDir();
  await fill(dir.queue, 2);
  const wait = ["status", "-q", dir.queue, "--wait-empty"];
  const late = await runHere([...wait, "--timeout", "10ms"]);
  assert.equal(late.code, 75);
  assert.match(late.out, /^packets +2,/m);

  const waiting = runHere([...wait, "--json"]);
  await using server = new ReadingServer();
  const sent = await runHere(["send", server.remote, "-q", dir.queue, "--hold", "0s"]);
  assert.equal(sent.code, 0, sent.err);
  const { code, out, err } = await within("the queue is empty", waiting);
  assert.equal(code, 0, err);
  assert.equal(JSON.parse(out).queue.packets, 0);
});

Deno.test("status: --watch goes on until it is stopped, with histories", async () => {
  using dir = new TempDir();
  await fill(dir.queue, 2);
  const args = ["--watch", "--interval", "100ms"];
  await using text = Sendq.onQueue("status", dir.queue, ...args);
  await until("two looks", () => /packets +██ up to 2\nSend-Q +▁▁ up to 0 B\n/.test(text.stdout));
  await using json = Sendq.onQueue("status", dir.queue, ...args, "--json");
  await until("two looks", () => json.stdout.split("\n").length > 2);
  await fill(dir.queue, 1);
  await until("the third packet", () => /"packets":3/.test(json.stdout));
  for (const command of [text, json]) {
    command.child.kill("SIGINT");
    assert.equal(await command.ended(), 0, command.stderr);
  }
  for (const line of json.stdout.trimEnd().split("\n")) JSON.parse(line);
});

Deno.test({
  name: `status: --watch on a narrow terminal shows each look in the place of the last${noScript}`,
  ignore: noScript !== "",
  async fn() {
    const columns = 40;
    using dir = new TempDir();
    await fill(dir.queue, 2);
    const queue = dir.queue;
    const words = [Deno.execPath(), "run", "--quiet", `--allow-read=${queue},${queue}.lock`, MAIN];
    const command = [...words, "status", "-q", queue, "--watch", "--interval", "100ms"]
      .map((word) => `'${word}'`).join(" ");
    await using process = new Deno.Command("script", {
      args: ["-qefc", `stty cols ${columns}; exec ${command}`, "/dev/null"],
      env: { TERM: "xterm", SHELL: "/bin/sh" },
      stdin: "null",
      stdout: "piped",
    }).spawn();
    let screen = "";
    for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
      screen += text;
      const [, look = "", up] = /\p{Cc}\[J([^]*?)\p{Cc}\[(\d+)A/u.exec(screen) ?? [];
      if (up === undefined) continue;
      const lines = look.trimEnd().split("\r\n");
      assert(lines.some((line) => line.length > columns), "a line that the terminal wraps");
      const rows = lines.map((line) => Math.ceil(line.length / columns)).reduce((a, b) => a + b);
      assert.equal(Number(up), rows, screen);
      break;
    }
    process.kill("SIGTERM");
  },
});

Deno.test("status: what contradicts itself is wrong usage", async (t) => {
  for (
    const [args, message] of [
      [["--timeout", "1s"], /--timeout needs --wait-empty/],
      [["--watch", "--wait-empty"], /cannot be combined/],
      [["--watch", "--interval", "1ms"], /--interval must be 100ms or more/],
    ] as const
  ) {
    await t.step(args.join(" "), async () => {
      const { code, err } = await runHere(["status", "-q", "/nowhere/q.db", ...args]);
      assert.equal(code, 2);
      assert.match(err, message);
    });
  }
});

Deno.test("a sender that starts while somebody asks for it is not turned away", async () => {
  using dir = new TempDir();
  await fill(dir.queue, 1);
  for (let i = 0; i < 50; i++) {
    using lock = await SenderLock.acquire(dir.queue);
    lock.publish("not a report");
    assert.deepEqual(await readRunningSender(dir.queue), { pid: Deno.pid, report: undefined });
    lock.release();
    const [, taken] = await Promise.all([
      readRunningSender(dir.queue),
      SenderLock.acquire(dir.queue),
    ]);
    taken.release();
  }
  // Somebody looks at the very moment.
  using file = Deno.openSync(`${dir.queue}.lock`, { read: true });
  assert(file.tryLockSync(false));
  const acquiring = SenderLock.acquire(dir.queue);
  file.unlockSync();
  (await acquiring).release();
});

Deno.test("histories: the highest is the tallest, only nothing is flat, old ones go", () => {
  const history = new History(4);
  assert.deepEqual([history.bars(), history.highest], ["", 0]);
  for (const value of [0, 0]) history.add(value);
  assert.equal(history.bars(), "▁▁");
  for (const value of [1, 1000, 500]) history.add(value);
  assert.deepEqual([history.bars(), history.highest], ["▁▂█▅", 1000]);
});

Deno.test("status: a notice that is no report is one that says nothing", async () => {
  using dir = new TempDir();
  await fill(dir.queue, 1);
  using lock = await SenderLock.acquire(dir.queue);
  for (const foreign of [{ format: 2 }, { format: 2, troubles: {}, path: 1 }, [2], null, "2"]) {
    lock.publish(JSON.stringify(foreign));
    await using status = Sendq.onQueue("status", dir.queue);
    assert.equal(await status.ended(), 0, status.stderr);
    assert.match(status.stdout, /^sender +process \d+, which says nothing more$/m);
  }
});

Deno.test("status: a notice cannot command the terminal", async () => {
  using dir = new TempDir();
  await fill(dir.queue, 1);
  using lock = await SenderLock.acquire(dir.queue);
  const evil = "\x1b[2J\nforged";
  lock.publish(JSON.stringify({
    ...{ format: 2, atMs: 0, startedAtMs: 0, remote: evil, state: "idle", verdict: "healthy" },
    ...{ verdictWords: evil, condition: { tone: "bad", headline: evil, detail: evil } },
    ...{ troubles: [{ atMs: 9e99, words: evil }], packetsPerSecond: 0, bytesPerSecond: 0 },
    ...{ inFlightPackets: 0, inFlightBytes: 0, heldPackets: 0, drainedPackets: 0, ackedBytes: 0 },
    ...{
      confirmedPackets: 0,
      redeliveredPackets: 0,
      connections: 0,
      failedAttempts: 0,
      receivedBytes: 0,
    },
    confirmedBy: evil,
    path: {
      ...{ localAddress: evil, remoteAddress: evil, rttMs: 1, sendQueueBytes: 0 },
      ...{ notSentBytes: 0, retransmittedSegments: 0, silenceMs: 0 },
    },
  }));
  await using status = Sendq.onQueue("status", dir.queue);
  assert.equal(await status.ended(), 0, status.stderr);
  assert(!status.stdout.includes("\x1b"));
  assert.doesNotMatch(status.stdout, /^forged/m);
  assert.match(status.stdout, /^trouble +unknown \\x1b\[2J\\x0aforged$/m);
});
