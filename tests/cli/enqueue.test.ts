import assert from "node:assert/strict";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import { packetsIn, queuePermissions, Sendq } from "./helpers.ts";

async function contentOf(queue: string): Promise<string[]> {
  await using opened = await OutboundQueue.open(queue);
  const packets = await opened.read(0, 1024 ** 2);
  return packets.map(({ payload }) => new TextDecoder().decode(payload));
}

Deno.test("enqueue: arguments are packets, as lines unless told otherwise", async (t) => {
  const cases: [string[], string[]][] = [
    [[], ["one\n", "two words\n"]],
    [["--output", "chunks"], ["one", "two words"]],
    [["-o", "length16"], ["\x00\x03one", "\x00\x09two words"]],
  ];
  for (const [options, expected] of cases) {
    await t.step(options.join(" ") || "default", async () => {
      using dir = new TempDir();
      await using enqueue = Sendq.onQueue("enqueue", dir.queue, "one", "two words", ...options);
      assert.equal(await enqueue.ended(), 0, enqueue.stderr);
      assert.equal(enqueue.stdout, "stored 2 packets, ids 1 to 2\n");
      assert.equal(enqueue.stderr, "");
      assert.deepEqual(await contentOf(dir.queue), expected);
    });
  }
});

Deno.test("enqueue: stdin is cut as its framing says; --json prints an id for each", async () => {
  using dir = new TempDir();
  await using first = Sendq.onQueue("enqueue", dir.queue, "-i", "length16", "-o", "lines");
  assert.equal(await first.runWith("\x00\x01a\x00\x02bc"), 0, first.stderr);
  assert.equal(first.stdout, "stored 2 packets, ids 1 to 2\n");
  await using second = Sendq.onQueue("enqueue", dir.queue, "--json");
  assert.equal(await second.runWith("four\nfive"), 0, second.stderr);
  assert.equal(second.stdout, '{"id":3,"bytes":5}\n{"id":4,"bytes":5}\n');
  assert.deepEqual(await contentOf(dir.queue), ["a\n", "bc\n", "four\n", "five\n"]);
  await using none = Sendq.onQueue("enqueue", dir.queue);
  assert.equal(await none.runWith(""), 0);
  assert.equal(none.stdout, "stored 0 packets\n");
});

Deno.test("enqueue: each --file is one packet, as it is", async () => {
  using dir = new TempDir();
  const files = [`${dir.path}/one.bin`, `${dir.path}/two.bin`];
  Deno.writeTextFileSync(files[0] ?? "", "several\nlines");
  Deno.writeTextFileSync(files[1] ?? "", "\0binary\n");
  const options = files.flatMap((file) => ["--file", file]);
  await using refused = Sendq.onQueue("enqueue", dir.queue, ...options);
  assert.equal(await refused.ended(), 77);
  assert.match(refused.stderr, new RegExp(`--allow-read=${files.join(",")}\n$`));

  const permissions = queuePermissions(dir.queue).map((flag) =>
    flag.startsWith("--allow-read=") ? `${flag},${files.join(",")}` : flag
  );
  const args = ["enqueue", "-q", dir.queue, ...options];
  await using enqueue = new Sendq(permissions, args);
  assert.equal(await enqueue.ended(), 0, enqueue.stderr);
  assert.deepEqual(await contentOf(dir.queue), ["several\nlines", "\0binary\n"]);

  Deno.removeSync(files[0] ?? "");
  await using missing = new Sendq(permissions, args);
  assert.equal(await missing.ended(), 2);
  assert.match(missing.stderr, /^sendq: --file \S+one\.bin cannot be read: No such file/);
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
      await using enqueue = Sendq.onQueue("enqueue", dir.queue, ...args);
      assert.equal(await enqueue.ended(), code, enqueue.stderr);
      assert.match(enqueue.stderr, message);
      assert.doesNotMatch(enqueue.stderr, /unexpected|\n {4}at /);
      if (code !== 2) assert.equal(await packetsIn(dir.queue), code === 0 ? 2 : 0);
    });
  }
});

Deno.test("enqueue: wakes the sender of another process at once", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue, "--input", "none", "--verbose");
  await send.says(/other processes' packets are noticed by watch/);
  // Woken by its clock alone, each would take a whole second.
  const startedMs = performance.now();
  await using enqueue = Sendq.onQueue("enqueue", dir.queue);
  for (let i = 1; i <= 10; i++) {
    await enqueue.write(`${i}\n`);
    await until(`packet ${i}`, () => server.text.endsWith(`${i}\n`));
  }
  const tookMs = performance.now() - startedMs;
  assert(tookMs < 5000, `ten packets, one by one, took ${tookMs} ms`);
  await enqueue.endInput();
  assert.equal(await enqueue.ended(), 0);
});

Deno.test("enqueue: --commit-in worker stores the same, and names the grant that it needs", async () => {
  using dir = new TempDir();
  const args = ["enqueue", "-q", dir.queue, "one", "--commit-in", "worker"];
  await using refused = new Sendq(queuePermissions(dir.queue), args);
  assert.equal(await refused.ended(), 77);
  const sources = decodeURIComponent(new URL("../../src", import.meta.url).pathname);
  assert(refused.stderr.includes(`--commit-in worker needs --allow-read=${sources}:`));

  const permissions = queuePermissions(dir.queue).map((flag) =>
    flag.startsWith("--allow-read=") ? `${flag},${sources}` : flag
  );
  await using enqueue = new Sendq(permissions, args);
  assert.equal(await enqueue.ended(), 0, enqueue.stderr);
  assert.deepEqual(await contentOf(dir.queue), ["one\n"]);
});
