/** What is printed, for readers that go and disks that are full. */
import assert from "node:assert/strict";
import { main, type StandardOutput } from "../../src/cli/main.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { tamper } from "../queue/inspector_helpers.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until, within } from "../support/until.ts";
import { MAIN, packetsIn } from "./helpers.ts";

/** Standard output, until somebody says that it is not any more. */
class FailingOutput implements StandardOutput {
  text = "";
  readonly #failure: Error;
  #writes: number;

  /** @param writes So many writes go well. */
  constructor(writes: number, failure: Error) {
    this.#writes = writes;
    this.#failure = failure;
  }

  write(part: Uint8Array): Promise<number> {
    return new Promise((resolve) => resolve(this.writeSync(part)));
  }

  writeSync(part: Uint8Array): number {
    if (this.#writes-- <= 0) throw this.#failure;
    this.text += new TextDecoder().decode(part);
    return part.length;
  }

  isTerminal(): boolean {
    return false;
  }
}

async function runInto(
  stdout: StandardOutput,
  args: readonly string[],
): Promise<{ readonly code: number; readonly err: string }> {
  const stderr = new FailingOutput(Infinity, new Error());
  const stdin = {
    read: () => Promise.resolve(null),
    isTerminal: () => false,
  };
  const code = await within(`the end of ${args.join(" ")}`, main(args, { stdin, stdout, stderr }));
  return { code, err: stderr.text };
}

async function queueIn(dir: TempDir): Promise<string> {
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany([new Uint8Array(10), new Uint8Array(10)]);
  return dir.queue;
}

const gone = (writes: number) => new FailingOutput(writes, new Deno.errors.BrokenPipe("gone"));

Deno.test("what would go on ends with its reader", async (t) => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  await using server = new ReadingServer();
  for (
    const args of [
      ["status", "-q", queue, "--watch", "--interval", "100ms"],
      ["status", "-q", queue, "--watch", "--interval", "100ms", "--json"],
      // Longer than the test waits.
      ["probe", server.remote, "--seconds", "1h"],
    ]
  ) {
    await t.step(args.join(" "), async () => {
      assert.deepEqual(await runInto(gone(1), args), { code: 0, err: "" });
    });
  }
});

const full = () => new FailingOutput(0, new Error("No space left on device (os error 28)"));

Deno.test("a full disk under standard output is told as what it is", async (t) => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  for (
    const args of [
      ["status", "-q", queue],
      ["list", "-q", queue],
      ["show", "1", "-q", queue],
      ["export", "-q", queue],
      ["check", "-q", queue],
      ["help"],
      ["list", "--help"],
    ]
  ) {
    await t.step(args[0] ?? "", async () => {
      assert.deepEqual(await runInto(full(), args), {
        code: 1,
        err: "sendq: stdout cannot be written: No space left on device (os error 28)\n",
      });
    });
  }
});

Deno.test("what was made is said also where stdout cannot be written", async () => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  for (
    const [args, done] of [
      [["backup", "-q", queue], "copied 2 packets, 20 B, to"],
      [["repair", queue], "saved 2 packets, 20 B, into"],
      [["export", "-q", queue, "-o"], "exported 2 packets, 20 B to"],
    ] as const
  ) {
    const to = dir.file(args[0]);
    const { code, err } = await runInto(full(), [...args, to]);
    assert.equal(code, 1);
    assert(err.includes(`(os error 28). What was done: ${done} ${to}`), err);
    assert(Deno.statSync(to).size > 0);
  }
  {
    await using opened = await OutboundQueue.open(queue);
    for (const id of [1, 2]) await sendingSideOf(opened).giveUp(id, 1);
  }
  tamper(queue, "UPDATE dead_letters SET payload = CAST('fish' AS BLOB) WHERE id = 1");
  const { err } = await runInto(full(), ["requeue", "--all", "-q", queue]);
  assert.match(err, /What was done: 1 dead letter is damaged .* requeued 1 dead letter /);
});

Deno.test("export -o: of a pipe whose reader has gone nobody hears that it has the packets", async () => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  const fifo = dir.file("fifo");
  assert((await new Deno.Command("mkfifo", { args: [fifo] }).output()).success);
  const reading = new Deno.Command("cat", { args: [fifo] }).output();
  const { write } = Deno.FsFile.prototype;
  const out = new FailingOutput(Infinity, new Error());
  try {
    Deno.FsFile.prototype.write = () => Promise.reject(new Deno.errors.BrokenPipe("gone"));
    const { code, err } = await runInto(out, ["export", "-q", queue, "-o", fifo]);
    assert.deepEqual([code, err, out.text], [0, "", ""]);
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  await reading;
});

Deno.test("export: not to stdout where that is a file of the queue", async () => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  const whole = Deno.readFileSync(queue);
  for (const [how, file] of [[">>", queue], [">", `${queue}-wal`], [">>", dir.file("new")]]) {
    const { code, stderr } = await new Deno.Command("sh", {
      args: [
        ...["-c", `"$@" ${how} ${file}`, "sh", Deno.execPath(), "run", "--quiet"],
        ...[`--allow-read=${queue},${queue}-wal`, MAIN, "export", "-q", queue],
      ],
    }).output();
    const err = new TextDecoder().decode(stderr);
    if (file === dir.file("new")) assert.deepEqual([code, err], [0, ""]);
    else {
      assert.match(err, /^sendq: stdout is the queue itself, or a file of it: /);
      assert.equal(code, 2);
    }
  }
  assert.match(Deno.readTextFileSync(dir.file("new")), /^\{"id":1,.*\n\{"id":2,.*\n$/);
  assert.deepEqual(Deno.readFileSync(queue), whole);
});

Deno.test("send --received stdout: why nobody has what the server says", async (t) => {
  for (
    const [stdout, words] of [
      [gone(0), /warn {2}nobody reads stdout any more; what the server sends is discarded$/m],
      [full(), /warn {2}stdout cannot be written: No space left on .*; what the server sends is /m],
    ] as const
  ) {
    await t.step(String(words), async () => {
      using dir = new TempDir();
      await using server = new ReadingServer({ greeting: "hello\n" });
      const queue = await queueIn(dir);
      const args = ["send", server.remote, "-q", queue, "--received", "stdout", "--hold", "100ms"];
      const inputEnd = Promise.withResolvers<null>();
      const stdin = { read: () => inputEnd.promise, isTerminal: () => false };
      const stderr = new FailingOutput(Infinity, new Error());
      const running = main(args, { stdin, stdout, stderr });
      await until("the words", () => words.test(stderr.text));
      inputEnd.resolve(null);
      assert.equal(await running, 0, stderr.text);
    });
  }
});

Deno.test("export -o: a pipe or a device is written as it is, and never taken away", async () => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  const fifo = dir.file("fifo");
  assert((await new Deno.Command("mkfifo", { args: [fifo] }).output()).success);
  for (const force of [[], ["--force"]]) {
    const reading = new Deno.Command("cat", { args: [fifo] }).output();
    const { code, err } = await runInto(
      new FailingOutput(Infinity, new Error()),
      ["export", "-q", queue, "-o", fifo, ...force],
    );
    assert.deepEqual([code, err], [0, ""]);
    assert.match(new TextDecoder().decode((await reading).stdout), /^\{"id":1,.*\n\{"id":2,.*\n$/);
    assert(Deno.statSync(fifo).isFifo);
  }
});

Deno.test("import, export: what stands for stdin and stdout is understood", async () => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  for (const name of ["-", "/dev/stdout", "/dev/fd/1"]) {
    const out = new FailingOutput(Infinity, new Error());
    const { code, err } = await runInto(out, ["export", "-q", queue, "-o", name]);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out.text, /^\{"id":1,.*\n\{"id":2,.*\n$/);
  }
  for (const name of ["-", "/dev/stdin", "/dev/fd/0"]) {
    const out = new FailingOutput(Infinity, new Error());
    const { code, err } = await runInto(out, ["import", "-q", queue, name]);
    assert.deepEqual([code, err, out.text], [0, "", "stored 0 packets, 0 B\n"]);
  }
  assert.deepEqual([...Deno.readDirSync(dir.path)].filter(({ name }) => name === "-"), []);
});

Deno.test("what only --allow-all opens is one failure, with what to do instead", async (t) => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  // Deno looks at the path's name, and nobody has so many descriptors.
  const path = "/dev/fd/987654";
  for (
    const [args, instead] of [
      [["import", "-q", queue, path], `give it as stdin: sendq import < ${path}`],
      [["export", "-q", queue, "-o", path], "leave --output out, and redirect stdout: > FILE"],
      [["enqueue", "-q", queue, "--file", path], "without --file packets come from stdin"],
    ] as const
  ) {
    await t.step(args[0], async () => {
      const { code, err } = await runInto(gone(0), args);
      assert.equal(code, 77, err);
      assert(err.endsWith(`only with --allow-all; ${instead}\n`), err);
    });
  }
});

Deno.test("a directory on standard input is named", async (t) => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  const remote = "tcp://127.0.0.1:1";
  for (const args of [["enqueue"], ["import"], ["send", remote, "--deliver-timeout", "0s"]]) {
    await t.step(args[0] ?? "", async () => {
      const stdin = {
        read: () => Promise.reject(new Deno.errors.IsADirectory("Is a directory (os error 21)")),
        isTerminal: () => false,
      };
      const [stdout, stderr] = [gone(0), new FailingOutput(Infinity, new Error())];
      const code = await main([...args, "-q", queue], { stdin, stdout, stderr });
      assert.equal(code, 2, stderr.text);
      assert.match(stderr.text, /(sendq:|error) stdin is a directory$/m);
    });
  }
});

Deno.test("what was done is told where it cannot be printed: whoever began anew would do it twice", async (t) => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  const exported = dir.file("exported.jsonl");
  assert.deepEqual(
    await runInto(new FailingOutput(Infinity, new Error()), [
      ...["export", "-q", queue, "-o", exported],
    ]),
    { code: 0, err: "" },
  );
  const cases: [string[], RegExp][] = [
    [["enqueue", "-q", queue, "text"], /stored 1 packet, id \d+/],
    [["enqueue", "-q", queue, "--json", "one", "two"], /stored 2 packets, ids \d+ to \d+/],
    [["import", "-q", queue, exported], /stored 2 packets, 20 B, ids/],
    [["remove", "-q", queue, "--yes", "1"], /removed 1 packet/],
  ];
  for (const [args, done] of cases) {
    await t.step(args.join(" "), async () => {
      const { code, err } = await runInto(full(), args);
      assert.equal(code, 1);
      const [, words = ""] =
        /^sendq: stdout cannot be written: No space left on device \(os error 28\)\. What was done: (.*)\n$/
          .exec(err) ?? [];
      assert.match(words, done, err);
    });
  }
});

Deno.test("enqueue --json: what is stored and cannot be told is stored all the same", async () => {
  using dir = new TempDir();
  const lines = ["one\n", "two\n"].map((line) => new TextEncoder().encode(line));
  const stdin = {
    read(buffer: Uint8Array): Promise<number | null> {
      const line = lines.shift();
      buffer.set(line ?? []);
      return Promise.resolve(line?.length ?? null);
    },
    isTerminal: () => false,
  };
  const stderr = new FailingOutput(Infinity, new Error());
  const io = { stdin, stdout: full(), stderr };
  assert.equal(await main(["enqueue", "-q", dir.queue, "--json"], io), 1);
  assert.match(stderr.text, /^sendq: stdout cannot be written: No space left [^\n]*\n$/);
  assert.equal(await packetsIn(dir.queue), 2);
});
