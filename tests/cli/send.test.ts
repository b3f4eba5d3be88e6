import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { bytes } from "../support/bytes.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import {
  leftOutWithout,
  type Outcome,
  packetsIn,
  runHere,
  runWith,
  sendPermissions,
  Sendq,
} from "./helpers.ts";

async function fillQueue(path: string): Promise<void> {
  await using queue = await OutboundQueue.open(path);
  await queue.enqueue(bytes("one\n"));
}

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** `send` in this process, with an input that ends. */
function send(
  remote: string,
  queue: string,
  input: string | Uint8Array,
  ...options: string[]
): Promise<Outcome> {
  return runHere(["send", remote, "-q", queue, ...options], input);
}

Deno.test("each framing arrives as it should", async (t) => {
  const same: [string, Uint8Array][] = [
    ["lines", bytes("one\r\ntwo\n\nthree\n")],
    ["length16", bytes([0, 3], "a\nb", [0, 0], [0, 1], "c")],
    ["length32", bytes([0, 0, 0, 3], "a\nb", [0, 0, 0, 1], "c")],
    ["chunks", bytes("any\n", [0, 255, 10], "bytes")],
    ["gelf", bytes('{"a":\n1}', [0], "{}", [0])],
    ["frame:02/03,escape=10", bytes([2], "a", [0x10, 3], "b", [3, 2, 3])],
    ["length:2,le,offset=1,adjust=-3", bytes([9, 5, 0], "ab", [8, 3, 0])],
  ];
  const converted: [string, string, Uint8Array, Uint8Array][] = [
    ["lines", "length16", bytes("one\ntwo"), bytes([0, 3], "one", [0, 3], "two")],
    ["lines", "chunks", bytes("one\ntwo\n"), bytes("onetwo")],
    ["length16", "lines", bytes([0, 1], "a", [0, 1], "b"), bytes("a\nb\n")],
    ["syslog", "syslog", bytes("<1>a\n4 <1>b<1>c"), bytes("4 <1>a4 <1>b4 <1>c")],
    ["lines", "mllp", bytes("MSH|\n"), bytes([11], "MSH|", [0x1c, 13])],
    ["length32", "length16", bytes([0, 0, 0, 1], "a"), bytes([0, 1], "a")],
  ];
  const cases: [string[], Uint8Array, Uint8Array][] = [
    [[], bytes("the default: lines\nunterminated"), bytes("the default: lines\nunterminated\n")],
    ...same.map(([framing, data]): [string[], Uint8Array, Uint8Array] => [
      ["--input", framing],
      data,
      data,
    ]),
    ...converted.map(([input, output, data, wire]): [string[], Uint8Array, Uint8Array] => [
      ["--input", input, "--output", output],
      data,
      wire,
    ]),
  ];
  for (const [options, input, wire] of cases) {
    await t.step(options.join(" ") || "default", async () => {
      using dir = new TempDir();
      await using server = new ReadingServer();
      // No framing depends on how long a packet is held, and there are many.
      const all = ["--hold", "0s", ...options];
      const { code, out, err } = await send(server.remote, dir.queue, input, ...all);
      assert.equal(code, 0, err);
      assert.deepEqual(new Uint8Array(server.bytes), wire);
      assert.equal(out, "");
      assert.equal(await packetsIn(dir.queue), 0);
    });
  }
});

Deno.test("a stream in another framing is named with the flag to give, and delivered", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const { code, err } = await send(server.remote, dir.queue, "83 <34>1 2026\nmore\n");
  assert.equal(code, 0, err);
  assert.match(err, /warn +it begins with "83 <34>1", like syslog .*: is it --input syslog\?\n/);
  assert.equal(server.text, "83 <34>1 2026\nmore\n");

  const lengths = await send(server.remote, dir.queue, "one\ntwo\n", "--input", "length32");
  assert.equal(lengths.code, 1);
  assert.match(
    lengths.err,
    /exceeds --max-packet-bytes .*: is it --input lines, and not "length32"/,
  );
});

Deno.test("20,000 lines through a pipe arrive in order", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue);
  const lines = Array.from({ length: 20_000 }, (_, i) => `packet ${i}\n`).join("");
  assert.equal(await send.runWith(lines), 0, send.stderr);
  assert.equal(server.text, lines);
  assert.match(send.stderr, /done: 20,000 packets delivered/);
});

Deno.test("no input and an empty queue: done, without a connection", async () => {
  using dir = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const { code, err } = await send(remote, dir.queue, "");
  assert.equal(code, 0, err);
});

Deno.test("a fault of the framing: what came before is delivered, then exit 1", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const input = bytes([0, 2], "ok", [0, 9], "short");
  const { code, err } = await send(server.remote, dir.queue, input, "--input", "length16");
  assert.equal(code, 1);
  assert.deepEqual(new Uint8Array(server.bytes), bytes([0, 2], "ok"));
  const last = err.trimEnd().split("\n").at(-1) ?? "";
  assert.match(
    last,
    / error Input byte 4: the input ended inside this packet, after 7 of 11 bytes/,
  );
  assert.doesNotMatch(err, /\n {4}at /, "a stack trace");
});

Deno.test("SIGTERM with the server out of reach: exit 75; the next start delivers", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  await using send = Sendq.send(remote, dir.queue, "--deliver-timeout", "100ms", "--follow");
  await send.write("one\ntwo\nthree\n");
  await send.says(/cannot connect to/);
  await until("three packets on disk", async () => await packetsIn(dir.queue) === 3);
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 75, send.stderr);
  assert.match(send.stderr, /stopped: 3 packets kept in .*; the next start delivers them/);

  await using server = new ReadingServer({ port });
  await using next = Sendq.send(remote, dir.queue);
  assert.equal(await next.runWith("four\n"), 0, next.stderr);
  assert.equal(server.text, "one\ntwo\nthree\nfour\n");
});

Deno.test("SIGINT while waiting for the server at the end of input: exit 75", async () => {
  using dir = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  await using send = Sendq.send(remote, dir.queue, "--deliver-timeout", "1ms", "--verbose");
  await send.write("one\n");
  await send.endInput();
  await send.says(/end of input after 1 packet/);
  send.child.kill("SIGINT");
  assert.equal(await send.ended(), 75, send.stderr);
  assert.match(send.stderr, /stopped: 1 packet kept/);
});

Deno.test("SIGTERM with everything delivered: exit 0", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue);
  await send.write("one\n");
  await until("one packet delivered", () => server.text === "one\n");
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 0, send.stderr);
});

Deno.test("what comes once the sender has ended is not read: exit 0, and nothing is lost", async () => {
  using dir = new TempDir();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  // More than a pipe takes that nobody reads: the end has to wait for it.
  const served = (async () => {
    using connection = await listener.accept();
    const said = new Uint8Array(1024 * 1024);
    const speaking = (async () => {
      for (let at = 0; at < said.length;) at += await connection.write(said.subarray(at));
    })();
    while (await connection.read(new Uint8Array(100)) !== null);
    await speaking;
  })();
  const remote = `tcp://127.0.0.1:${listener.addr.port}`;
  const args = ["send", remote, "-q", dir.queue, "--received", "stdout"];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", ...sendPermissions(remote, dir.queue), MAIN, ...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  let err = "";
  const heard = child.stderr.pipeThrough(new TextDecoderStream())
    .pipeTo(new WritableStream({ write: (text) => void (err += text) }));
  await input.write(bytes("one\n"));
  await until("it is connected", () => /connected to/.test(err));
  await until("one is confirmed", async () => await packetsIn(dir.queue) === 0);
  child.kill("SIGTERM");
  await until("the sender has ended", () => /info {2}closed/.test(err));
  await input.write(bytes("two\n")).catch(() => {});
  assert.equal((await child.status).code, 0, err);
  await heard;
  await input.abort().catch(() => {});
  await child.stdout.cancel();
  await served.catch(() => {});
});

Deno.test("a second SIGINT does not wait for the delivery timeout", async () => {
  using dir = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  await using send = Sendq.send(remote, dir.queue, "--deliver-timeout", "never");
  await send.write("one\n");
  await send.says(/cannot connect/);
  send.child.kill("SIGINT");
  await send.says(/SIGINT: stopping/);
  send.child.kill("SIGINT");
  assert.equal(await send.ended(), 75, send.stderr);
  assert.equal(await packetsIn(dir.queue), 1);
});

Deno.test("a full queue holds the producer back, and everything arrives in the end", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  const remote = `tcp://127.0.0.1:${port}`;
  await using send = Sendq.send(remote, dir.queue, "--max-packets", "20");
  const lines = Array.from({ length: 50_000 }, (_, i) => `packet ${i} `.padEnd(30, "x") + "\n");
  let written = false;
  // The kill below breaks the pipe.
  const writing = send.write(lines.join("")).then(() => written = true, () => {});
  await send.says(/the queue is full, or its disk or database is slow; the producer has to wait/);
  assert.equal(written, false, "1.5 MB went into a pipe that nobody should read");
  assert.equal(await packetsIn(dir.queue), 20);
  // From here on it moves 20 packets at a time; hold would make each wait a second.
  send.child.kill("SIGKILL");
  await send.ended();
  await writing;

  await using server = new ReadingServer({ port });
  await using next = Sendq.send(remote, dir.queue, "--max-packets", "20", "--hold", "0s");
  const rest = lines.slice(20, 2000).join("");
  assert.equal(await next.runWith(rest), 0, next.stderr);
  assert.equal(server.text, lines.slice(0, 2000).join(""));
});

Deno.test("--overflow reject: exit 1 with the count of what the queue did not take", async () => {
  using dir = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const { code, err } = await send(
    remote,
    dir.queue,
    "1\n2\n3\n4\n5\n",
    ...["--overflow", "reject", "--max-packets", "2", "--deliver-timeout", "1ms"],
  );
  assert.equal(code, 1);
  assert.match(err, /stopped: 2 packets kept/);
  assert.match(err, /3 packets read from the pipe could not be stored: lost, unless/);
  assert.match(err, / error The queue is full: --max-packets = 2\./);
});

Deno.test("--follow goes on after the end of input, for what other processes enqueue", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue, "--follow", "--verbose");
  await send.write("from the pipe\n");
  await send.endInput();
  await send.says(/end of input/);
  await using other = await OutboundQueue.open(dir.queue);
  await other.enqueue(bytes("from elsewhere\n"));
  await until("both packets", () => server.text === "from the pipe\nfrom elsewhere\n");
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 0, send.stderr);
});

Deno.test("--input none delivers what other processes enqueue, and leaves stdin alone", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue, "--input", "none");
  await send.write("not a packet\n");
  await using other = await OutboundQueue.open(dir.queue);
  await other.enqueue(bytes("no newline"));
  await until("the packet", () => server.text === "no newline");
  send.child.kill("SIGINT");
  assert.equal(await send.ended(), 0, send.stderr);
  assert.equal(server.text, "no newline");
});

Deno.test("--log-format json: every line is an object; the last has the figures", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(
    server.remote,
    dir.queue,
    ...["--log-format", "json", "--status-interval", "10ms", "--verbose"],
  );
  await send.write("one\ntwo\n");
  await send.says(/"drainedPackets":2/);
  await send.endInput();
  assert.equal(await send.ended(), 0, send.stderr);
  const lines = send.stderr.trimEnd().split("\n").map((line) => JSON.parse(line));
  for (const { time, level, message } of lines) {
    assert.equal(new Date(time).toISOString(), time);
    assert(["debug", "info", "warn", "error"].includes(level));
    assert.equal(typeof message, "string");
  }
  const { message, state, drainedPackets, queuedPackets, connections } = lines.at(-1);
  assert.deepEqual(
    { message, state, drainedPackets, queuedPackets, connections },
    {
      message: "done: 2 packets delivered",
      state: "closed",
      drainedPackets: 2,
      queuedPackets: 0,
      connections: 1,
    },
  );
});

Deno.test("--quiet says nothing when all is well; text lines have no colours in a pipe", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  assert.deepEqual(
    await send(server.remote, dir.queue, "one\n", "--quiet"),
    { code: 0, out: "", err: "" },
  );
  const text = await send(server.remote, dir.queue, "two\n", "--verbose");
  assert.equal(text.code, 0);
  for (const line of text.err.trimEnd().split("\n")) {
    assert.match(line, /^\d{4}-\d\d-\d\dT[\d:.]+Z (debug|info |warn |error) \P{Cc}+$/u);
  }
});

Deno.test("--received stdout passes on what the server sends; discard does not", async (t) => {
  for (const [where, expected] of [["stdout", "hello\n"], ["discard", ""]]) {
    await t.step(`${where}`, async () => {
      using dir = new TempDir();
      await using server = new ReadingServer({ greeting: "hello\n" });
      await using send = Sendq.send(server.remote, dir.queue, "--received", `${where}`);
      await send.write("one\n");
      await until("the packet", () => server.text === "one\n");
      await until("the greeting", () => send.stdout === expected);
      await send.endInput();
      assert.equal(await send.ended(), 0, send.stderr);
      assert.equal(send.stdout, expected);
    });
  }
});

Deno.test("what a slow reader of stdout does not get of the server's words is said", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer({ greeting: "x".repeat(20_000_000) });
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", ...sendPermissions(server.remote, dir.queue)],
      new URL("../../src/cli/main.ts", import.meta.url).pathname,
      ...["send", server.remote, "-q", dir.queue, "--received", "stdout"],
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const told = new Response(child.stderr).text();
  const input = child.stdin.getWriter();
  await input.write(bytes("one\n"));
  await until("the greeting is sent", () => server.text === "one\n");
  await input.close();
  const { code } = await child.status;
  await child.stdout.cancel();
  assert.equal(code, 0);
  assert.match(
    await told,
    /of [\d.]+ MiB that the server has sent, up to [\d.]+ MiB are missing on stdout/,
  );
});

Deno.test("broken pipes behind stdout and stderr cost no packet", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer({ greeting: "x".repeat(1000) });
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--quiet", ...sendPermissions(server.remote, dir.queue)],
      new URL("../../src/cli/main.ts", import.meta.url).pathname,
      ...["send", server.remote, "-q", dir.queue, "--received", "stdout", "--verbose"],
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await child.stdout.cancel();
  await child.stderr.cancel();
  const input = child.stdin.getWriter();
  await input.write(bytes("one\n"));
  await until("the first packet", () => server.text === "one\n");
  await input.write(bytes("two\n"));
  await input.close();
  const { code } = await child.status;
  assert.equal(code, 0);
  assert.equal(server.text, "one\ntwo\n");
});

Deno.test("a queue that another sender has: exit 1 naming the process", async () => {
  using dir = new TempDir();
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  await fillQueue(dir.queue);
  using _lock = await SenderLock.acquire(dir.queue);
  await using other = Sendq.send(remote, dir.queue);
  assert.equal(await other.runWith("two\n"), 1);
  assert.match(other.stderr, new RegExp(`already has a sender \\(process ${Deno.pid}\\)`));
  const own = await send(remote, dir.queue, "two\n");
  assert.equal(own.code, 1);
  assert.match(own.err, /already has a sender in this process\. /);
});

Deno.test("a file that is no queue: exit 1, and it stays as it is", async () => {
  using dir = new TempDir();
  Deno.writeTextFileSync(dir.queue, "a letter to my aunt, long enough to look like something else");
  const before = Deno.readTextFileSync(dir.queue);
  const { code, err } = await send("tcp://127.0.0.1:4000", dir.queue, "one\n");
  assert.equal(code, 1);
  assert.match(err, / error Queue .*outbox\.db: .* Choose another path/);
  assert.equal(err.trimEnd().split("\n").length, 1);
  assert.equal(Deno.readTextFileSync(dir.queue), before);
});

Deno.test("a socket option that the kernel refuses: exit 1, and the packets are kept", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  const { code, err } = await send(
    server.remote,
    dir.queue,
    "one\n",
    ...["--congestion", "nonesuch"],
  );
  assert.equal(code, 1, err);
  assert.match(err, /The kernel refused socket option --congestion = nonesuch/);
  assert.match(err, /1 packet kept/);
  assert.equal(await packetsIn(dir.queue), 1);
});

Deno.test("SIGTERM inside a line: the rest of it is waited for, and no more is read", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue);
  await send.write("one\nbeg");
  await until("the first line", () => server.text === "one\n");
  send.child.kill("SIGTERM");
  await send.says(/SIGTERM: stopping/);
  await send.write("un\n");
  assert.equal(await send.ended(), 0, send.stderr);
  assert.equal(server.text, "one\nbegun\n");
});

Deno.test("SIGTERM inside a line that does not come to its end: lost, and exit 1", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue);
  await send.write("one\nunfini");
  await until("the first line", () => server.text === "one\n");
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 1, send.stderr);
  const last = send.stderr.trimEnd().split("\n").at(-1) ?? "";
  assert.match(last, / error 6 B read from the pipe are no whole packet: lost, unless/);
});

Deno.test("SIGHUP stops in order, unless it was ignored from the start", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue);
  await send.write("one\n");
  await until("the first line", () => server.text === "one\n");
  send.child.kill("SIGHUP");
  assert.equal(await send.ended(), 0, send.stderr);
  assert.match(send.stderr, /SIGHUP: stopping/);

  const command = [
    ...[Deno.execPath(), "run", "--quiet", ...sendPermissions(server.remote, dir.queue)],
    ...[MAIN, "send", server.remote, "--queue", dir.queue],
  ];
  // What nohup(1) does, without its files.
  await using ignoring = new Deno.Command("sh", {
    args: ["-c", `trap "" HUP; exec "$@"`, "sh", ...command],
    stdin: "piped",
    stderr: "null",
  }).spawn();
  const input = ignoring.stdin.getWriter();
  await input.write(bytes("two\n"));
  await until("the second line", () => server.text === "one\ntwo\n");
  ignoring.kill("SIGHUP");
  await input.write(bytes("three\n"));
  await until("the third line", () => server.text === "one\ntwo\nthree\n");
  await input.close();
  assert.equal((await ignoring.status).code, 0);
});

Deno.test("Ctrl-C while another process locks the queue's file ends at once", async () => {
  using dir = new TempDir();
  await fillQueue(dir.queue);
  const database = new DatabaseSync(dir.queue);
  database.exec(
    "PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE; UPDATE state SET last_id = last_id",
  );
  try {
    await using send = Sendq.send(
      ...["tcp://127.0.0.1:9", dir.queue, "--busy-timeout", "1h", "--verbose"] as const,
    );
    await send.says(/opening /);
    send.child.kill("SIGINT");
    const { signal } = await send.child.status;
    assert.equal(signal, "SIGINT");
  } finally {
    database.close();
  }
});

Deno.test("--oversize skip and cut: a line that is too long costs itself alone", async (t) => {
  const cases = [["skip", "one\nthree\n"], ["cut", "one\nmuch \nthree\n"]] as const;
  for (const [oversize, wire] of cases) {
    await t.step(oversize, async () => {
      using dir = new TempDir();
      await using server = new ReadingServer();
      await using send = Sendq.send(
        ...[server.remote, dir.queue, "--max-packet-bytes", "6", "--oversize", oversize] as const,
      );
      assert.equal(await send.runWith("one\nmuch too long\nthree\n"), 0, send.stderr);
      assert.equal(server.text, wire);
      assert.match(send.stderr, /the line at input byte 4 was (skipped|cut)/);
    });
  }
});

Deno.test("--oversize heeds --max-bytes where a packet may be larger than the queue", async (t) => {
  const input = "one\nmuch too long\nthree\n";
  const flags = ["--max-bytes", "6"] as const;
  const cases = [["skip", "one\nthree\n"], ["cut", "one\nmuch \nthree\n"]] as const;
  for (const [oversize, wire] of cases) {
    await t.step(oversize, async () => {
      using dir = new TempDir();
      await using server = new ReadingServer();
      await using send = Sendq.send(server.remote, dir.queue, ...flags, "--oversize", oversize);
      assert.equal(await send.runWith(input), 0, send.stderr);
      assert.equal(server.text, wire);
      assert.match(send.stderr, /the line at input byte 4 was (skipped|cut)/);
    });
  }

  await t.step("fail", async () => {
    using dir = new TempDir();
    await using server = new ReadingServer();
    await using send = Sendq.send(server.remote, dir.queue, ...flags);
    assert.equal(await send.runWith(input), 1, send.stderr);
    assert.equal(server.text, "one\n");
    assert.match(send.stderr, /Input byte 4: .* exceeds --max-bytes = 6\. Raise it/);
  });

  await t.step("enqueue", async () => {
    using dir = new TempDir();
    await using enqueue = Sendq.onQueue("enqueue", dir.queue, ...flags, "--oversize", "skip");
    assert.equal(await enqueue.runWith("much too long\nthree\n"), 0, enqueue.stderr);
  });
});

Deno.test("a queue in a directory that is a link: the flags that it asks for are enough", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  Deno.mkdirSync(dir.file("private"));
  // By `ln`, because Deno.symlink wants unscoped permissions.
  const ln = new Deno.Command("ln", { args: ["-s", "private", dir.file("state")] });
  assert.ok(ln.outputSync().success);
  const linked = dir.file("state/outbox.db");
  const granted = sendPermissions(server.remote, linked);
  const args = ["send", server.remote, "--queue", linked];
  const refused = await runWith(granted, args, "one\n");
  assert.equal(refused.code, 77, refused.err);
  const flags = [...refused.err.matchAll(/--allow-(?:read|write)=\S+/g)].map(([flag]) => flag);
  assert.equal(flags.length, 2, refused.err);
  const rest = granted.filter((flag) => !/^--allow-(read|write)=/.test(flag));
  const { code, err } = await runWith([...rest, ...flags], args, "one\n");
  assert.equal(code, 0, err);
  assert.equal(server.text, "one\n");
});

const NO_PRLIMIT = await leftOutWithout("prlimit", "--version");

const sendToNobody = ["send", "tcp://127.0.0.1:1"];
const toNoCluster = ["--to", "postgres://user@127.0.0.1:1/packets/outbox"];
const forwardToNobody = ["forward", "--input", "lines", ...toNoCluster];

for (const command of [sendToNobody, forwardToNobody]) {
  Deno.test({
    name: `${
      command[0]
    }: a file that may not grow ends no process: it waits as on a full disk${NO_PRLIMIT}`,
    ignore: NO_PRLIMIT !== "",
    fn: async () => {
      using dir = new TempDir();
      const limit = async (pid: number, bytes: string) => {
        const args = [`--pid=${pid}`, `--fsize=${bytes}:`];
        assert((await new Deno.Command("prlimit", { args }).output()).success);
      };
      const room = `${dir.queue}.room`;
      await using program = new Sendq(
        [...sendPermissions("tcp://127.0.0.1:1", dir.queue), `--allow-write=${room}`],
        [...command, "--queue", dir.queue, "--deliver-timeout", "0s"],
      );
      await program.write("first\n");
      await until("it is stored", async () => {
        try {
          return await packetsIn(dir.queue) === 1;
        } catch {
          return false;
        }
      });
      await limit(program.child.pid, "1000000");
      const written = program.write(`${"x".repeat(99)}\n`.repeat(20_000)).catch(() => {});
      await program.says(/may not grow any further \(EFBIG\).*Trying again/);
      await limit(program.child.pid, "100000000");
      await written;
      await until("the rest is stored", async () => await packetsIn(dir.queue) === 20_001);
      program.child.kill("SIGTERM");
      assert.equal(await program.ended(), 75, program.stderr);
    },
  });
}
