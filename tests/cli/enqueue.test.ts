import assert from "node:assert/strict";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { packetsIn, queuePermissions, runHere, runWith, Sendq } from "./helpers.ts";

async function contentOf(queue: string): Promise<string[]> {
  await using opened = await OutboundQueue.open(queue);
  const packets = await opened.read(0, 1024 ** 2);
  return packets.map(({ payload }) => new TextDecoder().decode(payload));
}

Deno.test("enqueue: arguments are packets, as lines unless told otherwise", async (t) => {
  const cases: [string[], string[]][] = [
    [[], ["one\n", "two words\n"]],
    [["--output", "chunks"], ["one", "two words"]],
    [["-o", "syslog"], ["3 one", "9 two words"]],
    [["-o", "delimiter:7c7c"], ["one||", "two words||"]],
    [["-o", "length16"], ["\x00\x03one", "\x00\x09two words"]],
  ];
  for (const [options, expected] of cases) {
    await t.step(options.join(" ") || "default", async () => {
      using dir = new TempDir();
      assert.deepEqual(
        await runHere(["enqueue", "-q", dir.queue, "one", "two words", ...options]),
        { code: 0, out: "stored 2 packets, ids 1 to 2\n", err: "" },
      );
      assert.deepEqual(await contentOf(dir.queue), expected);
    });
  }
});

Deno.test("enqueue: stdin is cut as its framing says; --json prints an id for each", async () => {
  using dir = new TempDir();
  const enqueue = (input: string, ...options: string[]) =>
    runHere(["enqueue", "-q", dir.queue, ...options], input);
  assert.deepEqual(
    await enqueue("\x00\x01a\x00\x02bc", "-i", "length16", "-o", "lines"),
    { code: 0, out: "stored 2 packets, ids 1 to 2\n", err: "" },
  );
  assert.deepEqual(
    await enqueue("four\nfive", "--json"),
    { code: 0, out: '{"id":3,"bytes":5}\n{"id":4,"bytes":5}\n', err: "" },
  );
  assert.deepEqual(await contentOf(dir.queue), ["a\n", "bc\n", "four\n", "five\n"]);
  assert.deepEqual(await enqueue(""), { code: 0, out: "stored 0 packets\n", err: "" });
});

Deno.test("enqueue: which of the packets given cannot be one is said, and none is stored", async () => {
  using dir = new TempDir();
  const empty = dir.file("empty.bin");
  Deno.writeTextFileSync(empty, "");
  const route = dir.file("r.json");
  const cut = { queue: dir.queue, remote: "tcp://127.0.0.1:1", oversize: "cut" };
  Deno.writeTextFileSync(route, JSON.stringify(cut));
  const cases: [string[], number, RegExp][] = [
    [
      ["one", "two\nlines"],
      1,
      /^sendq: packet 2: this packet has a newline .* Nothing was stored\n$/,
    ],
    [["one", "--file", empty], 1, /^sendq: --file \S+empty\.bin: this packet is empty/],
    [["one", "--oversize", "cut"], 2, /^sendq: --oversize is about stdin, which is not read/],
  ];
  for (const [args, code, expected] of cases) {
    const outcome = await runHere(["enqueue", "-q", dir.queue, ...args]);
    assert.equal(outcome.code, code, outcome.err);
    assert.match(outcome.err, expected);
    assert.throws(() => Deno.statSync(dir.queue), Deno.errors.NotFound);
  }
  assert.equal((await runHere(["enqueue", "--config", route, "one"])).code, 0);
});

Deno.test("enqueue: each --file is one packet, as it is", async () => {
  using dir = new TempDir();
  const files = [`${dir.path}/one.bin`, `${dir.path}/two.bin`];
  Deno.writeTextFileSync(files[0] ?? "", "several\nlines");
  Deno.writeTextFileSync(files[1] ?? "", "\0binary\n");
  const options = files.flatMap((file) => ["--file", file]);
  const args = ["enqueue", "-q", dir.queue, ...options];
  const refused = await runWith(queuePermissions(dir.queue), args);
  assert.equal(refused.code, 77);
  assert.match(refused.err, new RegExp(`--allow-read=${files.join(",")}\n$`));

  const stored = await runHere(args);
  assert.equal(stored.code, 0, stored.err);
  assert.deepEqual(await contentOf(dir.queue), ["several\nlines", "\0binary\n"]);

  Deno.removeSync(files[0] ?? "");
  const missing = await runHere(args);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /^sendq: --file \S+one\.bin cannot be read: No such file/);
  assert.equal(await packetsIn(dir.queue), 2);
});

Deno.test("enqueue: what cannot become a packet stores nothing", async (t) => {
  const cases: [string[], number, RegExp][] = [
    [["one", ""], 0, /^$/],
    [["-o", "chunks", "one", ""], 1, /this packet is empty/],
    [["one", "two\nlines"], 1, /has a newline inside/],
    [["one", "two", "--max-packet-bytes", "3"], 1, /The packet has 4 bytes/],
    [["one", "-i", "lines"], 2, /^sendq: --input is about stdin/],
    [["one", "two", "--overflow", "reject", "--max-packets", "1"], 1, /The queue is full/],
  ];
  for (const [args, code, message] of cases) {
    await t.step(JSON.stringify(args), async () => {
      using dir = new TempDir();
      const enqueued = await runHere(["enqueue", "-q", dir.queue, ...args]);
      assert.equal(enqueued.code, code, enqueued.err);
      assert.match(enqueued.err, message);
      assert.doesNotMatch(enqueued.err, /unexpected|\n {4}at /);
      if (code !== 2) assert.equal(await packetsIn(dir.queue), code === 0 ? 2 : 0);
    });
  }
});

Deno.test("enqueue: - is stdin, and no packet", async () => {
  using dir = new TempDir();
  const enqueue = (...args: string[]) => runHere(["enqueue", "-q", dir.queue, ...args], "a\nb\n");
  for (const args of [["-"], ["--", "-"], ["-", "-i", "lines"]]) {
    const { code, out, err } = await enqueue(...args);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out, /^stored 2 packets, ids/);
  }
  const route = dir.file("route.json");
  const { queue } = dir;
  Deno.writeTextFileSync(route, JSON.stringify({ queue, input: "lines", remote: "tcp://a:1" }));
  assert.equal((await runHere(["enqueue", "--config", route, "-"], "a\nb\n")).code, 0);
  assert.deepEqual(await contentOf(queue), [1, 2, 3, 4].flatMap(() => ["a\n", "b\n"]));
  for (const args of [["one", "-"], ["-", "-"], ["-", "--file", route]]) {
    const { code, err } = await enqueue(...args);
    assert.match(err, /^sendq: - is stdin, and stands alone/);
    assert.equal(code, 2);
  }
  assert.equal(await packetsIn(queue), 8);
});

Deno.test("enqueue: what Deno has made of bytes that are no UTF-8 is not stored", async () => {
  using dir = new TempDir();
  const script = `exec "$0" run --quiet --allow-all "$1" enqueue -q "$2" "$(printf 'bad\\377')"`;
  const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command("sh", {
    args: ["-c", script, Deno.execPath(), main, dir.queue],
  }).output();
  const err = new TextDecoder().decode(stderr);
  assert.match(err, /^sendq: argument 4, bad\S+, has bytes that are no UTF-8, or U\+FFFD itself/);
  assert.equal(code, 2);
  assert.equal(await isFile(dir.queue), false);
  const send = ["send", "tcp://127.0.0.1:1", "-q", dir.queue, "--session-send", "caf\ufffd"];
  assert.equal((await runHere(send)).code, 2);
  const route = dir.file("route.json");
  Deno.writeFileSync(route, Uint8Array.of(0x7b, 0x22, 0xe9, 0x22, 0x7d));
  assert.match((await runHere(["run", "--check", route])).err, /^sendq: \S+ is no UTF-8\n/);
});

Deno.test("enqueue: of a --file no more is read than a packet may have", async () => {
  using dir = new TempDir();
  const enqueue = (file: string, ...options: string[]) =>
    runHere(["enqueue", "-q", dir.queue, "--file", file, ...options]);
  const pipe = dir.file("pipe");
  assert((await new Deno.Command("mkfifo", { args: [pipe] }).output()).success);
  // It has no end.
  const yes = new Deno.Command("sh", { args: ["-c", 'exec yes > "$0"', pipe] }).spawn();
  const endless = await enqueue(pipe);
  await yes.status;
  assert.equal(endless.code, 1);
  assert.match(
    endless.err,
    /^sendq: --file \S+pipe has more bytes than --max-packet-bytes, 16,777,216\. Nothing was stored\n/,
  );
  const file = dir.file("ten");
  Deno.writeTextFileSync(file, "0123456789");
  assert.equal((await enqueue(file, "--max-packet-bytes", "9")).code, 1);
  assert.equal((await enqueue(file, "--max-packet-bytes", "10")).code, 0);
  const whole = new Deno.Command("sh", { args: ["-c", 'cat "$1" "$1" > "$0"', pipe, file] });
  const [{ code }] = await Promise.all([enqueue(pipe), whole.output()]);
  assert.equal(code, 0);
  assert.deepEqual(await contentOf(dir.queue), ["0123456789", "01234567890123456789"]);
});

Deno.test("enqueue: who waits with packets of the command line for room is told so", async () => {
  using dir = new TempDir();
  await runHere(["enqueue", "-q", dir.queue, "one"]);
  await using enqueue = Sendq.onQueue("enqueue", dir.queue, "two", "--max-packets", "1");
  await enqueue.says(/the queue is full, or its disk or database is slow; waiting with the packet/);
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.removePackets({ firstId: 1, lastId: 1 });
  }
  assert.equal(await enqueue.ended(), 0);
  assert.deepEqual(await contentOf(dir.queue), ["two\n"]);
});

Deno.test("enqueue: the sender of another process delivers each packet as it comes", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue, "--input", "none", "--verbose");
  await send.says(/other processes' packets are noticed by watch/);
  await using enqueue = Sendq.onQueue("enqueue", dir.queue);
  for (let i = 1; i <= 10; i++) {
    await enqueue.write(`${i}\n`);
    await until(`packet ${i}`, () => server.text.endsWith(`${i}\n`));
  }
  await enqueue.endInput();
  assert.equal(await enqueue.ended(), 0);
});

Deno.test("enqueue: --sync-in threads stores the same, and names the grant that it needs", async () => {
  using dir = new TempDir();
  const args = ["enqueue", "-q", dir.queue, "one", "--sync-in", "threads"];
  const refused = await runWith(queuePermissions(dir.queue), args);
  assert.equal(refused.code, 77);
  const log = `${Deno.realPathSync(dir.queue)}-wal`;
  assert(refused.err.includes(`--sync-in "threads" needs --allow-read=${log}:`), refused.err);

  const permissions = queuePermissions(dir.queue).map((flag) =>
    flag.startsWith("--allow-read=") ? `${flag},${log}` : flag
  );
  const enqueued = await runWith(permissions, args);
  assert.equal(enqueued.code, 0, enqueued.err);
  assert.deepEqual(await contentOf(dir.queue), ["one\n"]);
});

Deno.test("enqueue: commander, where it is asked, makes the same of plain arguments", async (t) => {
  const cases: [string[], string?][] = [
    [["one", "two words", ""]],
    [["one", "--json", "two"]],
    [["--file", "FILE", "--json"]],
    [["--file", "FILE", "one", "--file", "FILE"]],
    [["help"]],
    [[], "four\nfive"],
    [["--json"], "four\nfive"],
    [["two\nlines"]],
    [["--file", "missing"]],
    [["x".repeat(1024 ** 2)]],
    [["--file"]],
    [["--file="]],
    [["--file", ""]],
    [["-"]],
    [["--", "--json"]],
    [["--unknown"]],
    [["-q", ""]],
    [["-q", "postgres://"]],
    [["one", "--queue"]],
    [["one", "-q", ":memory:"]],
    [["one", "-q", "--version"]],
    [["one", "--file", "-q"]],
    [["--queue=LATER", "one"]],
    [["-qLATER", "one"]],
    [["one", "-q", "LATER"]],
  ];
  for (const [args, input] of cases) {
    await t.step(JSON.stringify(args).slice(0, 40), async () => {
      using dir = new TempDir();
      Deno.writeTextFileSync(`${dir.path}/FILE`, "several\nlines");
      const [first, later] = [dir.queue, `${dir.path}/LATER`];
      const outcome = async (...more: string[]) => {
        const places = args.map((arg) => arg.replace(/(FILE|LATER)$/, `${dir.path}/$1`));
        const made = await runHere(["enqueue", ...more, "-q", first, ...places], input);
        const contents: string[][] = [];
        for (const queue of [first, later]) {
          contents.push(await isFile(queue) ? await contentOf(queue) : []);
          for (const suffix of ["", ".lock"]) {
            await Deno.remove(queue + suffix).catch(() => {});
          }
        }
        return { ...made, contents };
      };
      assert.deepEqual(await outcome(), await outcome("--oversize", "fail"));
    });
  }
});

async function isFile(path: string): Promise<boolean> {
  return await Deno.stat(path).then(({ isFile }) => isFile, () => false);
}

Deno.test("enqueue: plain arguments load no package, and of Node's modules SQLite alone", async () => {
  const loaded = await loadedBy(
    "../../src/cli/main.ts",
    "../../src/cli/commands/enqueue_packets.ts",
  );
  assert.ok(loaded.includes("node:sqlite"), "the graph was not read");
  assert.deepEqual(loaded.filter((module) => !module.startsWith("file:")), ["node:sqlite"]);
});

/** What is loaded with modules; what they may import later is not. */
async function loadedBy(...paths: string[]): Promise<string[]> {
  interface Module {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly isDynamic?: boolean;
      readonly code?: { readonly specifier?: string };
    }[];
  }
  const loaded = new Set(paths.map((path) => new URL(path, import.meta.url).href));
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", ...[...loaded].slice(0, 1)],
  }).output();
  const { modules }: { modules: readonly Module[] } = JSON.parse(new TextDecoder().decode(stdout));
  const known = new Map(modules.map((module) => [module.specifier, module]));
  // A set that grows is walked to its end.
  for (const specifier of loaded) {
    for (const { isDynamic = false, code } of known.get(specifier)?.dependencies ?? []) {
      if (!isDynamic && code?.specifier !== undefined) loaded.add(code.specifier);
    }
  }
  return [...loaded];
}

Deno.test("enqueue: who stops it is told what was stored, and whether anything was lost", async (t) => {
  for (
    const [input, code, out, words] of [
      ["one\ntwo\n", 75, "stored 2 packets, ids 1 to 2\n", /^$/],
      [
        "one\ntwo\nrest",
        1,
        "stored 2 packets, ids 1 to 2\n",
        /4 B read from the pipe are no whole /,
      ],
    ] as const
  ) {
    await t.step(JSON.stringify(input), async () => {
      using dir = new TempDir();
      await using enqueue = Sendq.onQueue("enqueue", dir.queue);
      await enqueue.write(input);
      await until("two are stored", async () => {
        const { out } = await runHere(["status", "-q", dir.queue, "--json"]);
        return out !== "" && JSON.parse(out).queue.packets === 2;
      });
      enqueue.child.kill("SIGTERM");
      assert.equal(await enqueue.ended(), code, enqueue.stderr);
      assert.equal(enqueue.stdout, out);
      const [stopping = "", ...others] = enqueue.stderr.split("\n");
      assert.match(
        stopping,
        /warn {2}SIGTERM: stopping before the end of stdin; once more to stop at /,
      );
      assert.match(others.join("\n"), words);
    });
  }
});
