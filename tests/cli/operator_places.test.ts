/**
 * The operator's commands, on a queue's file, in a spool and on PostgreSQL: the same in, the same
 * out.
 */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { holdQueue } from "../../src/cli/commands/queue_hold.ts";
import { CommandError } from "../../src/cli/terminal/exit_code.ts";
import { isQueueUrl } from "../../src/postgres/address.ts";
import { sendingSideOf } from "../../src/queue/queue.ts";
import { bytes } from "../support/bytes.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";
import { LIBC, runHere, runWith, Sendq } from "./helpers.ts";
import {
  type DatabasePlace,
  idsIn,
  inEachPlace,
  jsonLines,
  makeQueue,
  on,
  openAt,
  type TestPlace,
} from "./places.ts";

type Test = (place: TestPlace) => Promise<void>;
const tests: [name: string, run: Test][] = [];
const test = (name: string, run: Test) => tests.push([name, run]);

test("list: packets and dead letters, as text and as JSON", async ({ queue }) => {
  await makeQueue(queue);
  const all = await on(queue, "list", "--preview");
  assert.deepEqual([all.code, all.err], [0, ""]);
  const age = String.raw`\d+(?:\.\d)?m?s`;
  const lines = [
    String.raw` +id +age +size  state +first bytes`,
    String.raw` +2 +${age} +4 B  sent +two\\n`,
    String.raw` +3 +${age} +6 B  waiting +three\\n`,
    String.raw` +5 +${age} +10 B  waiting +ünf\\x1b\[31m\\n`,
    String.raw` +6 +${age} +4 B  waiting, expires in (?:60|59\.\d)m +six\\n`,
  ];
  assert.match(all.out, new RegExp(`^${lines.join("\n")}\n$`));

  const some = await on(queue, "list", "--limit", "1", "--from", "3");
  assert.match(some.out, /\n +3 .*\nand 2 more packets; --limit 0 lists all\n$/);
  assert.doesNotMatch(some.out, /three/);
  const none = await on(queue, "list", "--older-than", "1d");
  assert.deepEqual(none, { code: 0, out: "no packets\n", err: "" });

  const json = jsonLines((await on(queue, "list", "--json", "--to", "5")).out);
  assert.deepEqual(
    json.map(({ enqueuedAt, ...rest }) => [new Date(String(enqueuedAt)).toISOString(), rest]),
    [[2, 4, "sent"], [3, 6, "waiting"], [5, 10, "waiting"]].map((
      [id, bytes, state],
      i,
    ) => [json[i]?.["enqueuedAt"], { id, bytes, state }]),
  );
  const dead = await on(queue, "list", "--dead");
  assert.match(dead.out, /^ +id +died +size {2}reason\n +4 +\S+ ago +5 B {2}gave-up, 3x\n$/);
  const [letter] = jsonLines((await on(queue, "list", "--dead", "--json")).out);
  assert.deepEqual(
    [letter?.["id"], letter?.["reason"], letter?.["sent"], letter?.["attempts"]],
    [4, "gave-up", false, 3],
  );
});

test("show: a packet's bytes, as a dump, as JSON and raw", async ({ queue }) => {
  await makeQueue(queue);
  const words = await on(queue, "show", "5");
  assert.equal(words.code, 0, words.err);
  const [head, dump] = words.out.split("\n\n");
  assert.match(
    head ?? "",
    /^packet +5\nstored +20\S+Z, \S+ ago\nstate +waiting to be sent\nsize +10 B$/,
  );
  assert.equal(dump, "00000000  c3 bc 6e 66 1b 5b 33 31  6d 0a                    |..nf.[31m.|\n");
  assert.equal((await on(queue, "show", "5", "--raw")).out, "ünf\x1b[31m\n");
  const [json] = jsonLines((await on(queue, "show", "6", "--json")).out);
  assert.deepEqual([json?.["payload"], json?.["bytes"]], [bytes("six\n").toBase64(), 4]);
  const dead = await on(queue, "show", "4", "--dead");
  assert.match(dead.out, /\nreason +given up, tried in 3 connections\nsent +no\nsize +5 B\n\n/);
  const cases: [string[], number, RegExp][] = [
    [["4"], 1, /^sendq: packet 4 is a dead letter: add --dead\n$/],
    [["3", "--dead"], 1, /^sendq: packet 3 is no dead letter/],
    [["1"], 1, /^sendq: packet 1 is not in the queue any more/],
    [["99"], 1, /^sendq: there is no packet 99 yet: the last one stored is 6\n$/],
    [["99", "--dead"], 1, /^sendq: there is no dead letter 99/],
    [["x"], 2, /argument 'x' is invalid for argument 'id'|Expected a packet's id/],
    [["5", "--json", "--raw"], 2, /^sendq: --json and --raw cannot be combined/],
  ];
  for (const [args, code, message] of cases) {
    const result = await on(queue, "show", ...args);
    assert.match(result.err, message);
    assert.deepEqual([result.code, result.out], [code, ""]);
  }
});

type Line = Readonly<Record<string, unknown>>;

/** When each packet expires, in milliseconds; `NaN`: never. */
function expiriesOf(lines: readonly Line[]): number[] {
  return lines.map(({ expiresAt }) => expiresAt === undefined ? NaN : Date.parse(`${expiresAt}`));
}

/** @param moved By how many milliseconds it may have. */
function hasMoved(
  lines: readonly Line[],
  others: readonly Line[],
  { fromMs, toMs }: { readonly fromMs: number; readonly toMs: number },
): void {
  const before = expiriesOf(others);
  for (const [i, at] of expiriesOf(lines).entries()) {
    const movedMs = at - Number(before[i]);
    const isIn = Object.is(at, before[i]) || (movedMs >= fromMs && movedMs <= toMs);
    assert(isIn, `${movedMs} ms, and not from ${fromMs} to ${toMs} ms`);
  }
}

test("export and import: there and back, times of expiry too", async (place) => {
  const beganMs = Date.now();
  const { queue, dir } = place;
  // A database says how long is left: when that is, moves by what asking takes.
  const isInDatabase = isQueueUrl(queue);
  const byAsking = () => ({ fromMs: beganMs - Date.now(), toMs: Date.now() - beganMs });
  await makeQueue(queue);
  const file = `${dir.path}/packets.jsonl`;
  const args = ["export", "-q", queue, "-o", file];
  const exported = await runHere(args);
  assert.deepEqual(exported, {
    code: 0,
    out: `exported 4 packets, 24 B to ${file}\n`,
    err: "",
  });
  assert.equal((Deno.statSync(file).mode ?? 0) & 0o777, 0o600);
  const text = Deno.readTextFileSync(file);
  const printed = (await on(queue, "export")).out;
  if (isInDatabase) {
    const without = (all: string) => jsonLines(all).map(({ expiresAt: _, ...line }) => line);
    assert.deepEqual(without(printed), without(text));
    hasMoved(jsonLines(printed), jsonLines(text), byAsking());
  } else assert.equal(printed, text);
  assert.equal(
    (await on(queue, "export", "--format", "raw", "--to", "3")).out,
    "two\nthree\n",
  );
  assert.equal((await on(queue, "export", "--format", "raw", "--dead")).out, "four\n");

  const again = await runHere(args);
  assert.deepEqual([again.code, again.err], [1, `sendq: ${file} exists; --force writes over it\n`]);
  const force = await runHere([...args, "--dead", "--force"]);
  assert.equal(force.code, 0, force.err);
  assert.deepEqual(jsonLines(Deno.readTextFileSync(file)).map(({ reason }) => reason), ["gave-up"]);
  const other = await place.another();
  const dry = await runHere(["import", "-q", other, "--dry-run"], text);
  assert.deepEqual(dry, { code: 0, out: "every line is sound: 4 packets, 24 B\n", err: "" });
  const startedMs = Date.now();
  const imported = await runHere(["import", "-q", other], text);
  const tookMs = Date.now() - startedMs;
  assert.deepEqual(imported, { code: 0, out: "stored 4 packets, 24 B, ids 1 to 4\n", err: "" });
  const [before, after] = [jsonLines(text), jsonLines((await on(other, "export")).out)];
  assert.deepEqual(after.map((line) => line["payload"]), before.map((line) => line["payload"]));
  // The time between reading the clock and storing moves it.
  hasMoved(after, before, isInDatabase ? byAsking() : { fromMs: 0, toMs: tookMs });
  const third = await place.another();
  Deno.writeTextFileSync(file, text);
  const fromFile = await on(third, "import", file, "--no-expiry");
  assert.equal(fromFile.code, 0, fromFile.err);
  assert.deepEqual(expiriesOf(jsonLines((await on(third, "export")).out)), Array(4).fill(NaN));
});

test("export and import: a large packet goes out in pieces, and comes back whole", async (place) => {
  const { queue } = place;
  const large = Uint8Array.from({ length: 200_001 }, (_, i) => i * 7);
  {
    await using opened = await openAt(queue);
    await opened.enqueueMany([bytes("x"), large]);
  }
  const text = (await on(queue, "export")).out;
  assert.deepEqual(jsonLines(text).map(({ bytes }) => bytes), [1, 200_001]);
  const other = await place.another();
  assert.equal((await runHere(["import", "-q", other], text)).code, 0);
  const [shown] = jsonLines((await on(other, "show", "2", "--json")).out);
  assert.equal(shown?.["payload"], large.toBase64());
});

test("import: what is stored when there is no room for some is told", async ({ queue }) => {
  const line = (size: number, i: number) =>
    `{"payload":"${new Uint8Array(size).toBase64()}","expiresAt":${9e15 - i}}\n`;
  const input = [10, 10, 100, 10].map(line).join("");
  const args = ["import", "-q", queue, "--max-bytes", "105", "--overflow", "reject"];
  const { code, err } = await runHere(args, input);
  assert.equal(code, 1);
  assert.match(
    err,
    /The queue is full.* Stored before it: 2 packets, 20 B, ids 1 to 2; 1 packet after it\.\n$/,
  );
  assert.deepEqual(await idsIn(queue), [1, 2, 3]);
});

test("remove: on a terminal it asks, and only yes is yes", async (place) => {
  const question = "remove 1 packet (4 bytes)? [y/N] ";
  for (
    const [answer, code, left] of [
      ...["y\n", "YES\n"].map((yes) => [yes, 0, [3, 5, 6]] as const),
      ...["n\n", "\n", "yeah\n", ""].map((no) => [no, 1, [2, 3, 5, 6]] as const),
    ]
  ) {
    const queue = await place.another();
    await makeQueue(queue);
    const out = code === 0 ? "removed 1 packet (4 bytes)\n" : "nothing was removed\n";
    assert.deepEqual(
      await runHere(["remove", "2", "-q", queue], answer, true),
      { code, out, err: question },
    );
    assert.deepEqual(await idsIn(queue), left);
  }
});

test("remove: by id, range and age; asks, and never under a running sender", async ({ queue }) => {
  await makeQueue(queue);
  const usage: [string[], RegExp][] = [
    [[], /^sendq: say which: ids, --older-than or --all\n/],
    [["2", "--all"], /one of them, not several/],
    [["2-1", "--yes"], /Expected an id or a range/],
    [["0", "--yes"], /Expected a packet's id/],
    [["2"], /^sendq: remove 1 packet \(4 bytes\): nobody can be asked here, add --yes\n/],
  ];
  for (const [args, message] of usage) {
    const result = await on(queue, "remove", ...args);
    assert.match(result.err, message);
    assert.deepEqual([result.code, result.out], [2, ""]);
  }
  assert.deepEqual(await idsIn(queue), [2, 3, 5, 6]);
  const none = await on(queue, "remove", "4", "--yes");
  assert.deepEqual(none, { code: 0, out: "nothing to remove: no such packet\n", err: "" });
  const two = await on(queue, "remove", "2-3", "3", "99", "--yes");
  assert.deepEqual(two, { code: 0, out: "removed 2 packets (10 bytes)\n", err: "" });
  assert.deepEqual(await idsIn(queue), [5, 6]);
  const young = await on(queue, "remove", "--older-than", "1h", "--yes");
  assert.equal(young.out, "nothing to remove: no such packet\n");
  {
    await using sender = await openAt(queue);
    const tenure = await sendingSideOf(sender).takeTenure(systemClock);
    const refused = await on(queue, "remove", "--all", "--yes");
    await tenure.release();
    assert.deepEqual([refused.code, refused.out], [1, ""]);
    assert.match(
      refused.err,
      // Not how: in another container the number may be somebody else's here.
      new RegExp(`^sendq: a sender runs on .* \\(process ${Deno.pid}\\).* Stop it first[;,] `),
    );
    const again = await sendingSideOf(sender).takeTenure(systemClock);
    const dead = await on(queue, "remove", "--dead", "--older-than", "0s", "--yes");
    assert.deepEqual(dead, { code: 0, out: "removed 1 dead letter (5 bytes)\n", err: "" });
    await again.release();
  }
  assert.equal(
    (await on(queue, "remove", "--older-than", "0s", "-y")).out,
    "removed 2 packets (14 bytes)\n",
  );
  assert.equal((await on(queue, "check")).out, "ok: 0 packets, 0 B\n");
});

test("remove, requeue: a range may end at any number, far beyond the last packet", async ({ queue }) => {
  await makeQueue(queue);
  const far = `1-${Number.MAX_SAFE_INTEGER}`;
  const requeued = await on(queue, "requeue", far);
  assert.equal(requeued.out, "requeued 1 dead letter (5 bytes), now packet 7\n", requeued.err);
  const removed = await on(queue, "remove", far, "--yes");
  assert.equal(removed.out, "removed 5 packets (29 bytes)\n", removed.err);
  assert.deepEqual(await idsIn(queue), []);
  const none = await on(queue, "remove", far, "--dead", "--yes");
  assert.equal(none.out, "nothing to remove: no such dead letter\n", none.err);
});

test("no command drops dead letters that the queue's sender keeps", async (place) => {
  const { queue } = place;
  // One more than a sender keeps by default.
  const many = 100_001;
  const keeping = { maxDeadPackets: 1_000_000 };
  {
    await using sender = await openAt(queue, keeping);
    const sending = sendingSideOf(sender);
    const tenure = await sending.takeTenure(systemClock);
    const letters = Array.from({ length: many }, () => bytes("."));
    await sender.enqueueMany(letters, { ttlMs: 1 });
    await until("they have expired", async () => {
      await sending.readBatches(0, 1);
      return sender.stats().deadPackets === many;
    });
    await sender.enqueueMany([bytes("kept\n"), bytes("removed\n")]);
    await tenure.release();
  }
  const line = `{"payload":"${bytes("imported\n").toBase64()}"}\n`;
  const steps: [args: string[], input: string, left: number][] = [
    [["enqueue", "enqueued"], "", many],
    [["import"], line, many],
    [["remove", String(many + 2), "--yes"], "", many],
    [["requeue", "1"], "", many - 1],
    [["remove", "2", "--dead", "--yes"], "", many - 2],
  ];
  for (const [args, input, left] of steps) {
    const { code, err } = await runHere([...args, "-q", queue], input);
    assert.deepEqual([code, err], [0, ""], args.join(" "));
    await using looking = await openAt(queue, keeping);
    const { deadPackets, droppedPackets } = looking.stats();
    assert.deepEqual([deadPackets, droppedPackets], [left, 0], args.join(" "));
  }
  // Who says how many there may be is taken at their word.
  assert.equal((await on(queue, "enqueue", "last", "--max-dead-packets", "10")).code, 0);
  await using looking = await openAt(queue, keeping);
  assert.equal(looking.stats().deadPackets, 10);
});

test("requeue: dead letters go to the end, and a running sender delivers them", async (place) => {
  const { queue } = place;
  await makeQueue(queue);
  const usage = await on(queue, "requeue");
  assert.deepEqual([usage.code, usage.out], [2, ""]);
  const none = await on(queue, "requeue", "2");
  assert.deepEqual(none, { code: 0, out: "nothing to requeue: no such dead letter\n", err: "" });
  await using server = new ReadingServer();
  const permissions = sendPermissionsAt(place, server.remote.replace("tcp://", ""));
  await using send = new Sendq(permissions, [
    ...["send", server.remote, "-q", queue, "--input", "none"],
  ]);
  await until("the queue's packets", () => server.text.endsWith("six\n"));
  const requeued = await on(queue, "requeue", "--all");
  assert.deepEqual(requeued, {
    code: 0,
    out: "requeued 1 dead letter (5 bytes), now packet 7\n",
    err: "",
  });
  await until("the dead letter", () => server.text.endsWith("six\nfour\n"));
  send.child.kill("SIGTERM");
  assert.equal(await send.ended(), 0, send.stderr);
});

test("remove: after a sender that was killed", async (place) => {
  const { queue } = place;
  await makeQueue(queue);
  await using send = new Sendq(sendPermissionsAt(place, "127.0.0.1:1"), [
    ...["send", "tcp://127.0.0.1:1", "-q", queue, "--input", "none"],
  ]);
  const status = async () => JSON.parse((await on(queue, "status", "--json")).out);
  await until("it sends", async () => (await status()).sender !== null);
  send.child.kill("SIGKILL");
  await send.ended();
  const all = await on(queue, "remove", "--all", "--yes");
  assert.deepEqual(all, { code: 0, out: "removed 4 packets (24 bytes)\n", err: "" });
});

test("a route file names the queue", async ({ queue, dir }) => {
  await makeQueue(queue);
  const file = dir.file("route.json");
  Deno.writeTextFileSync(file, JSON.stringify({ queue, remote: "tcp://127.0.0.1:1" }));
  for (
    const [args, expected] of [
      [["list"], /^ +id /],
      [["show", "2"], /^packet +2\n/],
      [["requeue", "4"], /, now packet 7\n/],
      [["check"], /^ok: 5 packets/],
    ] as const
  ) {
    const { code, out, err } = await runHere([...args, "--config", file]);
    assert.deepEqual([code, err], [0, ""]);
    assert.match(out, expected);
  }
  const copy = dir.file("copy.db");
  const backup = await runHere(["backup", "--config", file, copy]);
  if (queue.startsWith("postgres:")) {
    assert.equal(backup.code, 2);
    assert.match(backup.err, /this command is about a file\. .*pg_dump/);
  } else assert.equal(backup.code, 0, backup.err);
});

test("each command does its work with the permissions of its help", async (place) => {
  const { queue, look, change, remove, dir } = place;
  await makeQueue(queue);
  const file = dir.file("packets.jsonl");
  const reading = (flags: readonly string[], files = file) => {
    const read = flags.find((flag) => flag.startsWith("--allow-read="));
    return read === undefined
      ? [...flags, `--allow-read=${files}`]
      : flags.map((flag) => flag === read ? `${flag},${files}` : flag);
  };
  const made = `${file},${file}.unfinished`;
  const exporting = [...reading(look, made), `--allow-write=${made}`];
  const commands: [string[], readonly string[], RegExp][] = [
    [["list"], look, /^ +id /],
    [["show", "5"], look, /^packet +5\n/],
    [["check"], look, /^ok: 4 packets/],
    [["export", "-o", file], exporting, /^exported 4 packets/],
    [
      ["export", "-o", file, "--force"],
      exporting,
      /^exported 4 packets/,
    ],
    [["import", file], reading(change), /^stored 4 packets/],
    [["requeue", "4"], change, /^requeued 1 dead letter .*, now packet 11\n/],
    [["remove", "--all", "--dead", "--yes"], change, /^nothing to remove/],
    [["remove", "2", "--yes"], [...change, ...remove], /^removed 1 packet /],
  ];
  for (const [args, permissions, expected] of commands) {
    const { code, out, err } = await runWith(permissions, [...args, "-q", queue]);
    assert.deepEqual([code, err], [0, ""], `${args.join(" ")}: ${out}`);
    assert.match(out, expected);
  }
  // One message names all that is missing.
  const flags = remove.length === 0
    ? /--allow-read=\S+ --allow-write=/
    : /--allow-net=\S+ --allow-ffi=/;
  const denied = await runWith([], ["remove", "3", "--yes", "-q", queue]);
  assert.equal(denied.code, 77);
  assert.match(denied.err, flags);
});

test("looking commands beside a sender at work", async ({ queue }) => {
  await using opened = await openAt(queue);
  const tenure = await sendingSideOf(opened).takeTenure(systemClock);
  const packets = Array.from({ length: 3000 }, (_, i) => `${i}\n`);
  await opened.enqueueMany(packets);
  const removing = (async () => {
    for (let id = 100; id <= 2900; id += 100) await sendingSideOf(opened).removeThrough(id);
  })();
  const outcomes = await Promise.all([
    on(queue, "list", "--json", "--limit", "0"),
    on(queue, "export"),
    on(queue, "check"),
  ]);
  await removing;
  for (const { code, out, err } of outcomes) assert.deepEqual([code, err], [0, ""], out);
  assert.equal((await on(queue, "check")).out, "ok: 100 packets, 500 B\n");
  await tenure.release();
});

const databaseTests: [name: string, run: (place: DatabasePlace) => Promise<void>][] = [[
  "who lacks the role is told which grant is missing",
  async (place) => {
    const { queue } = place;
    await makeQueue(queue);
    const commands = [
      ...[["list"], ["list", "--dead"], ["show", "2"], ["show", "4", "--dead"], ["export"]],
      ...[["check"], ["requeue", "4"], ["remove", "2", "--yes"], [
        "remove",
        "4",
        "--dead",
        "--yes",
      ]],
    ];
    for (const role of ["sendq_producer", "sendq_sender"]) {
      const url = await place.as(role);
      for (const args of commands) {
        const { code, err } = await on(url, ...args);
        const user = `only_${role}`;
        assert.equal(code, 1, args.join(" "));
        assert.match(
          err,
          new RegExp(
            `the user ${user} is no sendq_operator\\..* GRANT sendq_operator TO ${user}\\.`,
          ),
          args.join(" "),
        );
      }
      const line = `{"payload":"${bytes("more\n").toBase64()}"}\n`;
      assert.equal((await runHere(["import", "-q", url], line)).code, 0);
    }
    assert.deepEqual(await idsIn(queue), [2, 3, 5, 6, 7, 8]);
    const url = await place.as("sendq_operator");
    for (const args of commands) {
      const { code, err } = await on(url, ...args);
      // By then 4 is no dead letter any more, and 2 no packet.
      assert.deepEqual([code, err], [0, ""], args.join(" "));
    }
    assert.deepEqual(await idsIn(queue), [3, 5, 6, 7, 8, 9]);
  },
], [
  "remove: where nobody can tell whether a sender runs, it gives up, and removes nothing",
  async ({ queue, sql }) => {
    await makeQueue(queue);
    // A lease that is another one at each look, and whose holder cannot be seen to live.
    await sql("ALTER FUNCTION sendq.lease_look RENAME TO real_lease_look");
    await sql(`CREATE FUNCTION sendq.lease_look(q text)
      RETURNS TABLE (epoch bigint, beat bigint, holder text, notice text)
      LANGUAGE sql AS $$ SELECT 1, 1, clock_timestamp()::text, '' $$`);
    try {
      await assert.rejects(holdQueue(queue, 1000), (error) => {
        assert(error instanceof CommandError, String(error));
        assert.match(error.message, /^for 1s it could not be told whether a sender runs on /);
        return true;
      });
    } finally {
      await sql("DROP FUNCTION sendq.lease_look");
      await sql("ALTER FUNCTION sendq.real_lease_look RENAME TO lease_look");
    }
    await using held = await holdQueue(queue);
    assert.equal(held.queue.stats().packets, 4);
  },
], [
  "remove: who does not hear that it has the lease does not take itself for a sender",
  async ({ queue, sql }) => {
    await makeQueue(queue);
    // The first time it is taken, and the answer is not one that counts.
    const types = "text, bigint, uuid, bigint, text, uuid, bigint, text";
    await sql("CREATE SEQUENCE takes; ALTER FUNCTION sendq.lease_take RENAME TO real_lease_take");
    await sql(`CREATE FUNCTION sendq.lease_take(${types}) RETURNS jsonb
      LANGUAGE plpgsql SECURITY DEFINER AS $$
      DECLARE
        taken jsonb := sendq.real_lease_take($1, $2, $3, $4, $5, $6, $7, $8);
      BEGIN
        -- Warns, with the code of a wait for a standby that was given up: there is no such process.
        IF nextval('public.takes') = 1 THEN PERFORM pg_cancel_backend(2147483647); END IF;
        RETURN taken;
      END $$`);
    try {
      await using held = await holdQueue(queue, 600_000);
      assert.equal(held.queue.stats().packets, 4);
      assert.equal(await sql("SELECT last_value FROM takes"), "2");
      const holder = await sql(
        "SELECT holder FROM sendq.lease WHERE holder IS NOT NULL ORDER BY queue DESC LIMIT 1",
      );
      assert.match(holder, new RegExp(`^sendq remove, process ${Deno.pid}, [0-9a-f-]{36}$`));
    } finally {
      await sql("DROP FUNCTION sendq.lease_take; DROP SEQUENCE takes");
      await sql("ALTER FUNCTION sendq.real_lease_take RENAME TO lease_take");
    }
  },
]];

/** What `send` needs. */
function sendPermissionsAt({ change, send = [] }: TestPlace, host: string): string[] {
  const database = change.filter((flag) => flag.startsWith("--allow-net="));
  const hosts = [host, ...database.map((flag) => flag.slice("--allow-net=".length))];
  return [
    ...inOneFlag([...change.filter((flag) => !database.includes(flag)), ...send]),
    `--allow-net=${hosts.join(",")}`,
    `--allow-ffi=${LIBC}`,
  ];
}

/** Deno takes the last of two flags of a kind, and not both. */
function inOneFlag(flags: readonly string[]): string[] {
  const values = Map.groupBy(flags, (flag) => flag.slice(0, flag.indexOf("=")));
  return [...values].map(([name, given]) =>
    `${name}=${given.map((flag) => flag.slice(name.length + 1)).join(",")}`
  );
}

inEachPlace(tests, databaseTests);
