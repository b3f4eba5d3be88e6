/**
 * The operator's commands on a queue's file.
 */
import assert from "node:assert/strict";
import { openQueue } from "../../src/cli/arguments/queue_place.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { SenderLock } from "../../src/queue/sender_lock.ts";
import { queueFileError } from "../../src/queue/sqlite/file_error.ts";
import { Disk } from "../queue/disk.ts";
import { NO_TMPFS, unless } from "../queue/helpers.ts";
import { tamper } from "../queue/inspector_helpers.ts";
import { bytes } from "../support/bytes.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";
import {
  leftOutWithout,
  type Outcome,
  queuePermissions,
  runHere,
  runWith,
  Sendq,
} from "./helpers.ts";

/** Runs a command on a queue. */
function on(queue: string, ...args: string[]): Promise<Outcome> {
  return runHere([...args, "-q", queue]);
}

/** Packets 1 to 6, of which 1 is gone, 2 was sent, 4 is a dead letter and 6 expires. */
async function makeQueue(path: string): Promise<void> {
  await using queue = await OutboundQueue.open(path);
  await queue.enqueueMany(
    ["one\n", "two\n", "three\n", "four\n", "ünf\x1b[31m\n"].map((text) => bytes(text)),
  );
  await queue.enqueue(bytes("six\n"), { ttlMs: 3_600_000 });
  await sendingSideOf(queue).removeThrough(1);
  sendingSideOf(queue).rememberSent(2);
  await sendingSideOf(queue).giveUp(4, 3);
}

async function idsIn(path: string): Promise<number[]> {
  await using queue = await OutboundQueue.open(path);
  return (await queue.read(0, 1024 ** 2)).map(({ id }) => id);
}

function jsonLines(text: string): Record<string, unknown>[] {
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

for (const place of ["file", "spool"]) {
  Deno.test({
    ...unless(NO_TMPFS, `remove: on a disk without a free byte it goes in the reserve, ${place}`),
    fn: async () => {
      using disk = new Disk("size=16m");
      const path = place === "file" ? disk.queue : `spool:${disk.queue}#a`;
      {
        await using queue = await openQueue(path, {});
        await queue.enqueueMany(Array.from({ length: 400 }, () => new Uint8Array(2000)));
        for (let id = 1; id <= 300; id++) await sendingSideOf(queue).giveUp(id, 1);
      }
      disk.fillUp();
      const letters = await on(path, "remove", "--all", "--dead", "--yes");
      assert.equal(letters.out, "removed 300 dead letters (600,000 bytes)\n", letters.err);
      disk.fillUp();
      const packets = await on(path, "remove", "--all", "--yes");
      assert.equal(packets.out, "removed 100 packets (200,000 bytes)\n", packets.err);
    },
  });
}

Deno.test("export: never over a file of the queue, by whatever name", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueue(bytes("kept\n"));
  const all = [`--allow-read`, `--allow-write`];
  Deno.linkSync(`${dir.queue}-shm`, `${dir.path}/hard.link`);
  const spellings = [
    `${dir.queue}-wal`,
    `${dir.path}/../${dir.path.split("/").at(-1)}/outbox.db-wal`,
    `${dir.path}//./outbox.db`,
    `${dir.path}/hard.link`,
    `${dir.queue}.lock`,
    `${dir.queue}-journal`,
  ];
  assert.match((await on(dir.queue, "export", "-o", dir.queue, "--force")).err, /^sendq: --output/);
  for (const output of spellings) {
    for (const more of [["--force"], []]) {
      const args = ["export", "-q", dir.queue, "-o", output, ...more];
      const { code, err } = await runWith(all, args);
      assert.equal(code, 2, `${output} ${err}`);
      assert.match(err, /^sendq: --output must not be the queue itself, nor a file of it/);
    }
  }
  const elsewhere = `${dir.path}/elsewhere`;
  Deno.mkdirSync(elsewhere);
  const args = ["export", "-q", dir.queue, "-o", `${elsewhere}/outbox.db-wal`];
  assert.equal((await runWith(all, args)).code, 0);
  assert.deepEqual(await idsIn(dir.queue), [1]);
});

Deno.test("import: packets that each expire at another time share a transaction", async () => {
  using dir = new TempDir();
  // While somebody has the queue open, its log stays.
  await using queue = await OutboundQueue.open(dir.queue);
  const line = (i: number) => `{"payload":"QQ==","expiresAt":${9e15 - 1000 * i}}\n`;
  const input = Array.from({ length: 500 }, (_, i) => line(i)).join("");
  const { code, out, err } = await runWith(
    queuePermissions(dir.queue),
    ["import", "-q", dir.queue],
    input,
  );
  assert.deepEqual([code, out], [0, "stored 500 packets, 500 B, ids 1 to 500\n"], err);
  const log = Deno.readFileSync(`${dir.queue}-wal`);
  const view = new DataView(log.buffer);
  let commits = 0;
  for (let at = 32; at + 24 <= log.length; at += 24 + 4096) {
    if (view.getUint32(at + 4) > 0) commits++;
  }
  assert(commits < 20, `${commits} commits`);
  await sendingSideOf(queue).pollOtherProcesses();
  const lines = jsonLines((await on(dir.queue, "export", "--to", "2")).out);
  // Beyond the calendar a time to live comes and goes as a number.
  const [first, second] = lines.map(({ expiresAt }) => Number(expiresAt));
  assert(Math.abs(9e15 - Number(first)) < 10_000 && Number(first) > Number(second), `${first}`);
});

Deno.test("import: a bad line has its number, and nothing behind it is stored", async (t) => {
  const good = `{"payload":"${bytes("good").toBase64()}"}\n`;
  const cases: [string, string[], RegExp][] = [
    ["not json\n", [], /it is no JSON/],
    ["[]\n", [], /it is no JSON object/],
    ["{}\n", [], /it has no payload/],
    ['{"payload":1}\n', [], /it has no payload/],
    ['{"payload":"%"}\n', [], /its payload is no base64/],
    ['{"payload":""}\n', [], /its payload is empty/],
    ['{"payload":"Z29vZA==","bytes":5}\n', [], /its payload has 4 bytes, and should have 5/],
    ['{"payload":"Z29vZA==","expiresAt":"soon"}\n', [], /its expiresAt is no time/],
    ['{"payload":"Z29vZDU="}\n', ["--max-packet-bytes", "4"], /its packet has 5 bytes/],
    [`{"payload":"${"A".repeat(80_000)}"}\n`, ["--max-packet-bytes", "4"], /it is longer than/],
    ['{"payload":"Z29v', [], /it is no JSON/],
  ];
  for (const [bad, options, message] of cases) {
    await t.step(bad.slice(0, 60).trim(), async () => {
      using dir = new TempDir();
      const input = `${good}\n${good}${bad}${good}`;
      const result = await runHere(["import", "-q", dir.queue, ...options], input);
      assert.deepEqual([result.code, result.out], [1, ""]);
      assert.match(result.err, /^sendq: line 4: /);
      assert.match(result.err, message);
      assert.match(
        result.err,
        /Stored before it: 2 packets, 8 B, ids 1 to 2; nothing after it\.\n$/,
      );
      assert.deepEqual(await idsIn(dir.queue), [1, 2]);
      const dry = await runHere(["import", "-q", dir.queue, "--dry-run", ...options], input);
      assert.equal(dry.code, 1);
      assert.match(dry.err, /^sendq: line 4: .*Nothing was stored\.\n$/);
    });
  }
});

Deno.test("import: a damaged dead letter is left out, as with requeue, and that is said", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue);
  tamper(dir.queue, "UPDATE dead_letters SET payload = CAST('fish\n' AS BLOB)");
  const { out: letters } = await on(dir.queue, "export", "--dead");
  assert.match(letters, /"reason":"damaged"/);
  const other = dir.file("other.db");
  const without = '{"reason":"damaged","bytes":0,"payload":""}\n';
  const sound = `{"payload":"${bytes("good").toBase64()}","reason":"expired"}\n`;
  const { code, out, err } = await runHere(["import", "-q", other], letters + without + sound);
  assert.deepEqual([code, out], [0, "stored 1 packet, 4 B, id 1\n"]);
  assert.match(err, / warn {2}left out 2 damaged dead letters: /);
  assert.equal((await on(other, "export", "--format", "raw")).out, "good");
});

const noScript = await leftOutWithout("script", "--version");
Deno.test({
  name: `remove: what is typed at a real terminal is an answer${noScript}`,
  ignore: noScript !== "",
  async fn() {
    using dir = new TempDir();
    await makeQueue(dir.queue);
    const main = new URL("../../src/cli/main.ts", import.meta.url).pathname;
    const words = [Deno.execPath(), "run", "--quiet", ...queuePermissions(dir.queue), main];
    const command = [...words, "remove", "2", "-q", dir.queue].map((word) => `'${word}'`);
    await using process = new Deno.Command("script", {
      args: ["-qefc", command.join(" "), "/dev/null"],
      env: { TERM: "xterm", SHELL: "/bin/sh" },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    let screen = "";
    const read = (async () => {
      for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) screen += text;
    })();
    await until("the question", () => /remove 1 packet \(4 bytes\)\? \[y\/N\] /.test(screen));
    const keyboard = process.stdin.getWriter();
    await keyboard.write(bytes("y\n"));
    assert.equal((await process.status).code, 0, screen);
    await read;
    await keyboard.close().catch(() => {});
    assert.deepEqual(await idsIn(dir.queue), [3, 5, 6]);
  },
});

Deno.test("requeue: a damaged dead letter stays, and is shown as what it is", async () => {
  using dir = new TempDir();
  await makeQueue(dir.queue);
  tamper(dir.queue, "UPDATE dead_letters SET payload = CAST('fish\n' AS BLOB)");
  assert.deepEqual(await on(dir.queue, "requeue", "--all"), {
    code: 0,
    out: "1 dead letter is damaged and stays: its bytes are not those that were stored; " +
      "sendq show ID --dead shows what is there\n",
    err: "",
  });
  const { out } = await on(dir.queue, "show", "4", "--dead");
  assert.match(out, /reason +damaged: the bytes are not those that were stored/);
});

Deno.test("remove and requeue that fail halfway say what they have done before", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["a", "b", "c", "d", "e", "f"].map((text) => bytes(text)));
    for (const id of [4, 5, 6]) await sendingSideOf(queue).giveUp(id, 1);
  }
  const { prototype } = OutboundQueue;
  const { removePackets, removeDeadLetters, requeue } = prototype;
  const full = () => queueFileError("disk-full", dir.queue, "the disk is full");
  const onlyFrom = (id: number, remove: typeof removePackets): typeof removePackets =>
    function (this: OutboundQueue, range) {
      return range.firstId <= id ? remove.call(this, range) : Promise.reject(full());
    };
  const words = (done: string) =>
    new RegExp(
      `the disk is full\\. .* Before it: ${done}\\. The same command goes on with the rest\n$`,
    );
  try {
    prototype.removePackets = onlyFrom(1, removePackets);
    const removed = await on(dir.queue, "remove", "1", "3", "--yes");
    assert.match(removed.err, words("removed 1 packet \\(1 byte\\)"));
    assert.deepEqual([removed.code, await idsIn(dir.queue)], [1, [2, 3]]);
    // It moves them in several transactions, of which the second one fails.
    prototype.requeue = async function (this: OutboundQueue, { firstId }) {
      await requeue.call(this, { firstId, lastId: 4 });
      throw full();
    };
    const requeued = await on(dir.queue, "requeue", "--all");
    assert.match(requeued.err, words("requeued 1 dead letter \\(1 byte\\)"));
    assert.deepEqual([requeued.code, await idsIn(dir.queue)], [1, [2, 3, 7]]);
    prototype.removeDeadLetters = onlyFrom(4, removeDeadLetters);
    const none = await on(dir.queue, "remove", "5", "6", "--dead", "--yes");
    assert.doesNotMatch(none.err, /Before it/);
    assert.equal(none.code, 1);
  } finally {
    Object.assign(prototype, { removePackets, removeDeadLetters, requeue });
  }
});

Deno.test("--ttl: what is not sent by then becomes a dead letter, and status says so", async () => {
  using dir = new TempDir();
  const port = ScriptedServer.freePort();
  await using send = Sendq.send(`tcp://127.0.0.1:${port}`, dir.queue, "--ttl", "1ms", "--follow");
  await send.write("too late\n");
  await using queue = await OutboundQueue.open(dir.queue);
  await until("a dead letter", async () => {
    await sendingSideOf(queue).pollOtherProcesses();
    return queue.stats().deadPackets === 1;
  });
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 1, send.stderr);
  const enqueued = await on(dir.queue, "enqueue", "another", "--ttl", "1h");
  assert.equal(enqueued.code, 0, enqueued.err);
  assert.match((await on(dir.queue, "list")).out, /waiting, expires in /);
  const status = await on(dir.queue, "status");
  assert.match(status.out, /^dead +1 dead letter, 9 B; ever 1 expired, 0 given up/m);
  const json = JSON.parse((await on(dir.queue, "status", "--json")).out);
  assert.deepEqual([json.queue.deadPackets, json.queue.expiredPackets], [1, 1]);
  const bad = await on(dir.queue, "enqueue", "x", "--ttl", "0s");
  assert.equal(bad.code, 2);
  assert.match(bad.err, /^sendq: option '--ttl <time>' .*must be 1ms or more, or never\./);
});

Deno.test("each command does its work with the permissions of its help", async (t) => {
  using dir = new TempDir();
  await makeQueue(dir.queue);
  const file = dir.file("packets.jsonl");
  const saved = dir.file("saved.db");
  const look = [`--allow-read=${dir.queue}`];
  const change = queuePermissions(dir.queue);
  const changeFrom = change.map((flag) => flag.replace("--allow-read=", `--allow-read=${file},`));
  const repaired = [
    ...[dir.queue, `${dir.queue}-wal`, `${dir.queue}.lock`, saved, `${saved}.unfinished`],
  ];
  const making = (path: string) => `--allow-write=${path},${path}.unfinished`;
  const exporting = [`--allow-read=${dir.queue},${file},${file}.unfinished`, making(file)];
  const commands: [string[], string[], RegExp][] = [
    [["list"], look, /^ +id /],
    [["show", "5"], look, /^packet +5\n/],
    [["check"], look, /^ok: 4 packets/],
    [["export", "-o", file], exporting, /^exported 4 packets/],
    [
      ["export", "-o", file, "--force"],
      exporting,
      /^exported 4 packets/,
    ],
    [["import", file], changeFrom, /^stored 4 packets/],
    [["enqueue", "more"], change, /^stored 1 packet, id 11\n/],
    [["enqueue", "--file", file], changeFrom, /^stored 1 packet, id 12\n/],
    [["status"], [`--allow-read=${dir.queue},${dir.queue}.lock`], /^queue +/],
    [["requeue", "4"], change, /^requeued 1 dead letter .*, now packet 13\n/],
    [["remove", "2", "--yes"], change, /^removed 1 packet /],
    [
      ["repair", dir.queue, saved],
      [`--allow-read=${repaired.join()},${saved}-wal`, making(saved)],
      /^saved 10 packets, .*\nnothing was lost\n$/,
    ],
  ];
  for (const [args, permissions, expected] of commands) {
    await t.step(args.join(" "), async () => {
      const about = args[0] === "repair" ? [] : ["-q", dir.queue];
      const { code, out, err } = await runWith(permissions, [...args, ...about]);
      assert.deepEqual([code, err], [0, ""], out);
      assert.match(out, expected);
    });
  }
});

Deno.test("check and repair: a damaged page, from the message to the new file", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    const large = (i: number) => new Uint8Array(6000).fill(i);
    await queue.enqueueMany(Array.from({ length: 30 }, (_, i) => large(i)));
  }
  const fine = await on(dir.queue, "check");
  assert.deepEqual(fine, { code: 0, out: "ok: 30 packets, 175.8 KiB\n", err: "" });
  const saved = `${dir.path}/saved.db`;
  const sound = await runHere(["repair", dir.queue, saved]);
  assert.deepEqual(sound, {
    code: 0,
    out: `saved 30 packets, 175.8 KiB, into ${saved}, which is sound\nnothing was lost\n`,
    err: "",
  });
  const twice = await runHere(["repair", dir.queue, saved]);
  assert.equal(twice.code, 1);
  assert.match(twice.err, /there is such a file already/);
  Deno.removeSync(saved);

  {
    using file = Deno.openSync(dir.queue, { write: true });
    file.seekSync(40 * 4096, Deno.SeekMode.Start);
    file.writeSync(new Uint8Array(4096).fill(0xa5));
  }
  const broken = await on(dir.queue, "check");
  assert.equal(broken.code, 1);
  assert.match(broken.out, /^pages: /m);
  assert.match(broken.out, /\ndamaged; save what can be read: sendq repair \S+ NEW\.db\n$/);
  const json = JSON.parse((await on(dir.queue, "check", "--json")).out);
  assert.equal(json.ok, false);
  assert.equal(json.problems[0].kind, "pages");
  const repaired = await runHere(["repair", dir.queue, saved]);
  assert.deepEqual([repaired.code, repaired.err], [1, ""]);
  assert.match(
    repaired.out,
    /^saved 2[89] packets, .*which is sound\nlost [12] packets?:\n {2}ids? \d+/,
  );
  assert.equal((await on(saved, "check")).code, 0);

  {
    using _lock = await SenderLock.acquire(dir.queue);
    const busy = await runHere(["repair", dir.queue, saved]);
    assert.equal(busy.code, 1);
    assert.match(busy.err, new RegExp(`^sendq: a sender runs on .* \\(process ${Deno.pid}\\)`));
  }
});

Deno.test("check: what never was a queue is not sent to repair, and a queue whose first page is gone is", async (t) => {
  using dir = new TempDir();
  await makeQueue(dir.queue);
  Deno.writeTextFileSync(dir.file("text"), "not a database ".repeat(100));
  // As many bytes as pages have.
  Deno.writeTextFileSync(dir.file("pages"), "no page at all, ".repeat(1024));
  tamper(dir.file("other"), "CREATE TABLE theirs (x)", "INSERT INTO theirs VALUES (1)");
  for (
    const [name, words] of [
      ["text", /: nothing of a queue was found in it\. Give the path of a queue\.\n$/],
      ["pages", /: nothing of a queue was found in it\. Give the path of a queue\.\n$/],
      [".", /: it is a directory\. Give the path of a queue\.\n$/],
      ["other", /: the file is another program's database\. Give the path of a queue\.\n$/],
    ] as const
  ) {
    await t.step(name, async () => {
      const { code, out, err } = await on(dir.file(name), "check");
      assert.deepEqual([code, out], [1, ""]);
      assert.match(err, words);
      const repair = await runHere(["repair", dir.file(name), dir.file("saved.db")]);
      assert.equal(repair.code, 1);
      const list = await on(dir.file(name), "list");
      assert.doesNotMatch(list.err, /damaged|sendq repair/);
    });
  }
  await t.step("a queue without its first page", async () => {
    {
      using file = Deno.openSync(dir.queue, { write: true });
      file.writeSync(new Uint8Array(4096));
    }
    const list = await on(dir.queue, "list");
    assert.equal(list.code, 1);
    assert.match(list.err, /Whether it was one, and can be saved, sendq check says\.\n$/);
    const { code, out, err } = await on(dir.queue, "check");
    assert.deepEqual([code, err], [1, ""]);
    assert.match(out, /^pages: Queue \S+: its first page is damaged\.\ndamaged; .* sendq repair /);
    const repair = await runHere(["repair", dir.queue, dir.file("saved.db")]);
    assert.deepEqual([repair.code, repair.err], [0, ""]);
  });
});

Deno.test("repair: through a link it asks for the log and the lock of the file itself", async () => {
  using dir = new TempDir();
  await (await OutboundQueue.open(dir.queue)).close();
  const link = dir.file("link");
  Deno.symlinkSync(dir.queue, link);
  const { code, err } = await runWith([`--allow-read=${link}`], ["repair", link, dir.file("new")]);
  assert.equal(code, 77);
  assert.ok(err.includes(`${dir.queue}-wal,${dir.queue}.lock`), err);
  assert.doesNotMatch(err, /link-wal|link\.lock/);
});

Deno.test("looking commands: a missing queue, a missing permission, a reader that goes", async () => {
  using dir = new TempDir();
  for (const args of [["list"], ["show", "1"], ["export"], ["check"]]) {
    const missing = await on(dir.queue, ...args);
    assert.deepEqual([missing.code, missing.out], [2, ""]);
    assert.match(missing.err, /^sendq: there is no queue at /);
  }
  for (const args of [["remove", "1"], ["requeue", "1"]]) {
    const missing = await on(dir.queue, ...args);
    assert.equal(missing.code, 2);
    assert.match(missing.err, /^sendq: there is no queue at /);
  }
  assert.deepEqual([...Deno.readDirSync(dir.path)], [], "looking has made something");
  await makeQueue(dir.queue);
  for (const args of [["list"], ["show", "1"], ["export"], ["check"]]) {
    const { code, out, err } = await runWith([], [...args, "-q", dir.queue]);
    assert.deepEqual([code, out], [77, ""]);
    assert.match(err, new RegExp(`is missing: --allow-read=${dir.queue}\n$`));
  }
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(Array.from({ length: 20_000 }, () => new Uint8Array(10)));
  }
  const permissions = [`--allow-read=${dir.queue}`];
  await using list = new Sendq(permissions, ["list", "-n", "0", "-q", dir.queue]);
  await list.child.stdout.cancel().catch(() => {});
  assert.equal(await list.ended(), 0, list.stderr);
});

Deno.test("looking commands work beside a sender at work", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using send = Sendq.send(server.remote, dir.queue, "--follow");
  await send.write("first\n");
  await until("the queue", () => server.text === "first\n");
  const packets = 3000;
  const feeding = send.write(Array.from({ length: packets }, (_, i) => `${i}\n`).join(""));
  const [list, exported, check] = await Promise.all([
    on(dir.queue, "list", "--json", "--limit", "0"),
    on(dir.queue, "export"),
    on(dir.queue, "check"),
  ]);
  for (const { code, out, err } of [list, exported, check]) {
    assert.deepEqual([code, err], [0, ""], out);
  }
  await feeding;
  await until("all packets", () => server.text.endsWith(`\n${packets - 1}\n`));
  assert.equal((await on(dir.queue, "check")).code, 0);
});
