/** Spools on the command line: what is not the same as with a file. */
import assert from "node:assert/strict";
import { spoolQueue } from "../../src/spool/spool.ts";
import { tamper } from "../queue/inspector_helpers.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { runHere, sendPermissions, Sendq } from "./helpers.ts";

async function store(file: string, name: string, ...texts: string[]): Promise<void> {
  await using queue = await spoolQueue(file, name);
  for (const text of texts) await queue.enqueue(text);
}

Deno.test("sendq spool lists the queues, and those first in which the most waits", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  await store(file, "plc-1", "a");
  await store(file, "log.example:514", "b", "c");
  assert.deepEqual(await runHere(["spool", file]), {
    code: 0,
    out: "queue            packets  bytes  dead  stored ever\n" +
      "log.example:514        2    2 B     0            2\n" +
      "plc-1                  1    1 B     0            1\n",
    err: "",
  });
  await store(file, "plc-1", "d", "e");
  const { out } = await runHere(["spool", file, "--json", "--sort", "packets"]);
  const [first, second] = out.trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual([first.name, second.name], ["plc-1", "log.example:514"]);
  assert.deepEqual(first, {
    ...{ name: "plc-1", packets: 3, bytes: 3, deadPackets: 0, lastId: 3 },
    queue: `spool:${file}#plc-1`,
  });
});

Deno.test("a damaged queue of a spool is listed as such, beside the others", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  for (const name of ["a", "b", "c"]) await store(file, name, "x");
  tamper(file, "UPDATE state SET removed_through = 99, last_id = 100 WHERE queue = 1");
  const { code, out, err } = await runHere(["spool", file]);
  assert.deepEqual([code, out], [
    1,
    "queue  packets  bytes  dead  stored ever\n" +
    "b            1    1 B     0            1\n" +
    "c            1    1 B     0            1\n" +
    "a  damaged: it counts no packets, and has some\n",
  ]);
  assert.match(err, /^sendq: 1 of its queues is damaged: sendq check .*repair spool:.*#a NEW\.db/);
  const copied = await runHere(["backup", "-q", file, dir.file("copy.db")]);
  assert.equal(copied.code, 1);
  assert.match(copied.out, /^copied 2 packets, 2 B in 3 queues/);
  assert.match(copied.err, /the copy is damaged, as .*spool\.db is \(queue a: /);
});

Deno.test("what takes packets away makes no queue where there is none", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  await store(file, "a", "1");
  const before = await runHere(["spool", file]);
  for (
    const command of [
      ["remove", "1", "--yes"],
      ["remove", "--dead", "--all", "--yes"],
      ["requeue", "--all"],
      ["list"],
      ["check"],
    ]
  ) {
    const { code, err } = await runHere([...command, "-q", `spool:${file}#b`]);
    assert.match(err, /must be a queue of this spool, which has a/, command.join(" "));
    assert.equal(code, 2);
  }
  assert.deepEqual(await runHere(["spool", file]), before);
});

Deno.test("who sends from one queue of a spool is not said to send from another", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  await store(file, "a", "1");
  await store(file, "b", "1");
  const [a, b] = ["a", "b"].map((name) => `spool:${file}#${name}`);
  const remote = `tcp://127.0.0.1:${ScriptedServer.freePort()}`;
  const reports = `${file}.reports`;
  const permissions = sendPermissions(remote, file).map((flag) =>
    /^--allow-(read|write)=/.test(flag) ? `${flag},${reports}` : flag
  );
  await using sending = new Sendq(permissions, ["send", remote, "-q", `${a}`, "--input", "none"]);
  await sending.says(/cannot connect/);
  const whom = `\\(process ${sending.child.pid}\\)`;
  const remove = await runHere(["remove", "1", "--yes", "-q", `${b}`]);
  assert.equal(remove.code, 1);
  assert.match(remove.err, new RegExp(`^sendq: a sender runs on the spool of ${b} ${whom}, and `));
  const repair = await runHere(["repair", `${b}`, dir.file("saved.db")]);
  assert.equal(repair.code, 1);
  assert.match(
    repair.err,
    new RegExp(`^sendq: a sender runs on ${file} ${whom}: stop it first\n$`),
  );
});

Deno.test("the log beside an empty file stays where it is, whoever looks", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  const log = `${file}-wal`;
  Deno.writeFileSync(file, new Uint8Array(0));
  Deno.writeTextFileSync(log, "holds packets");
  for (
    const command of [
      ["check", "-q", file],
      ["backup", "-q", file, dir.file("copy.db")],
      ["spool", file],
      ["list", "-q", file],
      ...["list", "check", "status", "export"].map((name) => [name, "-q", `spool:${file}#a`]),
    ]
  ) {
    const { code, err } = await runHere(command);
    assert.match(err, /the file is empty, but there is its log/, command.join(" "));
    assert.notEqual(code, 0);
    assert.equal(Deno.readTextFileSync(log), "holds packets");
  }
});

Deno.test("check says in which queue of a spool something is wrong, and finds rows of none", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  await store(file, "sound", "1");
  await store(file, "other", "1", "2");
  assert.equal((await runHere(["check", "-q", file])).out, "ok: 3 packets, 3 B\n");
  tamper(
    file,
    "UPDATE packets SET payload = x'00' WHERE last_id = (SELECT max(last_id) FROM packets)",
    "INSERT INTO packets (last_id, enqueued_at_ms, payload) VALUES (77, 1, x'00')",
    "DELETE FROM queues WHERE name = 'sound'",
  );
  const { code, out } = await runHere(["check", "-q", file]);
  assert.match(out, /^packets: queue other: .* do not match their checksum$/m);
  assert.match(out, /^packets: packets has the row 77, which is of no queue$/m);
  assert.match(out, /^packets: state has the row 1, which is of no queue$/m);
  assert.match(out, /^damaged; save what can be read: sendq repair spool:\S+#NAME NEW\.db$/m);
  assert.equal(code, 1);
  // Its packets become nobody else's.
  await store(file, "new", "n");
  assert.match((await runHere(["list", "-q", `spool:${file}#new`])).out, /^ +1 .*\n$/m);
});

Deno.test("one queue is saved out of a damaged spool, and only that one", async () => {
  using dir = new TempDir();
  const file = dir.file("spool.db");
  await store(file, "before", "b1", "b2");
  await store(file, "saved", "s1", "s2", "s3");
  await store(file, "behind", "c1");
  tamper(file, "DELETE FROM state WHERE queue = 2");
  const saved = dir.file("saved.db");
  const { code, out } = await runHere(["repair", `spool:${file}#saved`, saved]);
  assert.match(out, /^saved 3 packets, 6 B/);
  assert.match(out, /the counts are lost/);
  assert.equal(code, 1);
  assert.equal((await runHere(["export", "-q", saved, "--format", "raw"])).out, "s1s2s3");
  const whole = await runHere(["repair", `spool:${file}#before`, dir.file("before.db")]);
  assert.deepEqual([whole.code, /nothing was lost/.test(whole.out)], [0, true], whole.out);
  const none = await runHere(["repair", `spool:${file}#nope`, dir.file("nope.db")]);
  assert.match(none.err, /it has no queue nope\. Found were: before, saved, behind\./);
  const all = await runHere(["repair", file, dir.file("all.db")]);
  assert.match(all.err, /it is a spool.*Name one of them/s);
});

Deno.test("routes of one spool must agree on what is the file's", async () => {
  using dir = new TempDir();
  const queue = (name: string) => `spool:${dir.file("spool.db")}#${name}`;
  const route = (name: string, options = {}) => ({
    ...{ queue: queue(name), remote: "tcp://127.0.0.1:1", ...options },
  });
  const path = dir.file("routes.json");
  const check = async (second: Record<string, unknown>) => {
    const routes = { a: route("a"), b: route("b", second) };
    Deno.writeTextFileSync(path, JSON.stringify({ routes }));
    return await runHere(["run", "--check", path]);
  };
  const { code, out } = await check({ queueOptions: { durability: "process-crash" } });
  assert.match(
    out,
    /^\S+routes\.json:1:\d+: durability must be the same in all routes of the spool /,
  );
  assert.equal(code, 2);
  assert.doesNotMatch((await check({ queueOptions: { maxPackets: 5 } })).out, /must be the same/);
});
