import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { QueueFileError } from "../../src/base/errors.ts";
import { QueueInspector } from "../../src/queue/inspect/inspector.ts";
import type { DeadPackets } from "../../src/queue/options.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { repairQueue } from "../../src/queue/repair/repair.ts";
import { wordsForDead } from "../../src/sender/tellings.ts";
import { bytes, text } from "../support/bytes.ts";
import { TempDir } from "../support/temp_dir.ts";
import { sha256 } from "./helpers.ts";
import { asVersion2, copyQueue, removeQueue, tamper } from "./inspector_helpers.ts";

/** Three rows of three packets, ids 1 to 9, and a row of one, id 10. */
async function makeRows(path: string): Promise<void> {
  await using queue = await OutboundQueue.open(path);
  for (let first = 1; first < 10; first += 3) {
    await queue.enqueueMany([first, first + 1, first + 2].map((id) => bytes(`packet ${id}`)));
  }
  await queue.enqueue(bytes("packet 10"));
}

async function sendable(queue: OutboundQueue): Promise<number[]> {
  const ids: number[] = [];
  for (let after = 0;;) {
    const batches = await sendingSideOf(queue).readBatches(after, 1000);
    if (batches.length === 0) return ids;
    for (const { firstId, ends } of batches) {
      for (let i = 0; i < ends.length; i++) ids.push(firstId + i);
    }
    after = ids.at(-1) ?? Infinity;
  }
}

function isCorrupt(words: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof QueueFileError, String(error));
    assert.equal(error.reason, "corrupt");
    assert.match(error.message, words);
    return true;
  };
}

const MIDDLE = "WHERE last_id = 6";
/** What is done to the row of packets 4 to 6, and which letters come of it. */
const DAMAGES: readonly [
  name: string,
  sql: string[],
  letters: string[],
  onlyByChecksum: boolean,
][] = [
  [
    "another payload",
    [`UPDATE packets SET payload = CAST('PACKET 4packet 5packet 6' AS BLOB) ${MIDDLE}`],
    ["4=PACKET 4", "5=packet 5", "6=packet 6"],
    true,
  ],
  [
    "other ends that are in order",
    [`UPDATE packets SET ends = x'070000001000000018000000' ${MIDDLE}`],
    ["4=packet ", "5=4packet 5", "6=packet 6"],
    true,
  ],
  [
    "ends that descend",
    [`UPDATE packets SET ends = x'100000000800000018000000' ${MIDDLE}`],
    ["4=", "5=packet 4", "6=packet 5packet 6"],
    false,
  ],
  [
    "ends longer than the payload",
    [`UPDATE packets SET ends = x'080000001000000000ffffff' ${MIDDLE}`],
    ["4=packet 4", "5=packet 5", "6=packet 6"],
    false,
  ],
  [
    "ends that are a text",
    [`UPDATE packets SET ends = 'text' ${MIDDLE}`],
    ["4=", "5=", "6=packet 4packet 5packet 6"],
    false,
  ],
  [
    "no ends",
    [`UPDATE packets SET ends = x'' ${MIDDLE}`],
    ["4=", "5=", "6=packet 4packet 5packet 6"],
    false,
  ],
  [
    "more packets than there are ids",
    [
      "UPDATE packets SET ends = " +
      `x'01000000020000000300000004000000050000000600000007000000' || x'18000000' ${MIDDLE}`,
    ],
    ["4=", "5=", "6=packet 4packet 5packet 6"],
    false,
  ],
  ["a text for a payload", [`UPDATE packets SET payload = 'text' ${MIDDLE}`], [
    "4=",
    "5=",
    "6=text",
  ], false],
  [
    "a number for a payload",
    [`UPDATE packets SET payload = 123 ${MIDDLE}`],
    ["4=", "5=", "6=123"],
    false,
  ],
  ["an empty payload", [`UPDATE packets SET payload = x'' ${MIDDLE}`], ["4=", "5=", "6="], false],
];

for (const version of [2, 3]) {
  for (const [name, sql, letters, onlyByChecksum] of DAMAGES) {
    if (version === 2 && onlyByChecksum) continue;
    Deno.test(`a row with ${name} is set aside, in a file of version ${version}`, async () => {
      using dir = new TempDir();
      await makeRows(dir.queue);
      if (version === 2) asVersion2(dir.queue);
      tamper(dir.queue, ...sql);
      await using queue = await OutboundQueue.open(dir.queue);
      const heard: DeadPackets[] = [];
      queue.subscribeDead((dead) => heard.push(dead));
      await assert.rejects(
        queue.read(3, 1000),
        isCorrupt(/end with id 6 are damaged: .*behind id 6/s),
      );
      assert.deepEqual(await sendable(queue), [1, 2, 3, 7, 8, 9, 10]);
      const dead = await queue.deadLetters(0, 1000);
      assert.deepEqual(dead.map(({ id, payload }) => `${id}=${text(payload)}`), letters);
      assert(dead.every(({ reason, sent }) => reason === "damaged" && !sent));
      assert.deepEqual(
        heard.map(({ packets, reason, ids }) => ({ packets, reason, lastId: ids.lastId })),
        [{ packets: letters.length, reason: "damaged", lastId: 6 }],
      );
      const { packets, bytes: size, deadPackets, damagedPackets } = queue.stats();
      assert.deepEqual([packets, size, deadPackets], [7, 57, letters.length]);
      assert.equal(damagedPackets, letters.length);
      await sendingSideOf(queue).removeThrough(10);
      assert.equal(queue.stats().packets, 0);
      using inspector = await QueueInspector.open(dir.queue);
      assert.deepEqual(await inspector.check(), []);
    });
  }
}

Deno.test("one flipped bit of a row of 1,000 costs 1,000 packets, and all are counted and named", async () => {
  using dir = new TempDir();
  const numbers = Array.from({ length: 3000 }, (_, i) => `${i + 1}\n`);
  {
    await using queue = await OutboundQueue.open(dir.queue);
    for (let from = 0; from < 3000; from += 1000) {
      await queue.enqueueMany(numbers.slice(from, from + 1000));
    }
    // Two that had left the middle before are missing in none of the rows.
    await queue.removePackets({ firstId: 1500, lastId: 1501 });
  }
  // The end of packet 1701 moves far behind those of its neighbours.
  const at = 4 * 199 + 2;
  tamper(
    dir.queue,
    `UPDATE packets SET ends = CAST(substr(ends, 1, ${at - 1}) || x'10' || substr(ends, ${
      at + 1
    }) ` +
      "AS BLOB) WHERE last_id = 2000",
  );
  await using queue = await OutboundQueue.open(dir.queue);
  const heard: DeadPackets[] = [];
  queue.subscribeDead((dead) => heard.push(dead));
  const sent = await sendable(queue);
  assert.equal(sent.length, 2499);
  assert(sent.every((id) => id < 1502 || id > 2000));
  const letters = await queue.deadLetters(0, Infinity);
  assert.equal(letters.length, 499);
  const wrong = letters.filter(({ id, payload }) => text(payload) !== numbers[id - 1]);
  assert.deepEqual(wrong.map(({ id, payload }) => `${id}=${text(payload)}`), [
    "1701=",
    "1702=1701\n1702\n",
  ]);
  assert.equal(text(letters.find(({ id }) => id === 1702)?.payload), "1701\n1702\n");
  const [dead] = heard;
  assert(heard.length === 1 && dead !== undefined);
  assert.deepEqual([dead.packets, dead.ids], [499, { firstId: 1502, lastId: 2000 }]);
  assert.match(wordsForDead(dead), /^packets 1502 to 2000 are damaged in the file and became /);
  const { packets, deadPackets, damagedPackets } = queue.stats();
  assert.deepEqual([packets, deadPackets, damagedPackets], [2499, 499, 499]);
});

Deno.test("of a damaged row in part removed, only what was left is counted", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await sendingSideOf(queue).removeThrough(4);
  }
  tamper(dir.queue, `UPDATE packets SET ends = x'08000000ffffffff18000000' ${MIDDLE}`);
  await using queue = await OutboundQueue.open(dir.queue);
  assert.deepEqual(await sendable(queue), [7, 8, 9, 10]);
  const letters = await queue.deadLetters(0, Infinity);
  assert.deepEqual(letters.map(({ id, payload }) => `${id}=${text(payload)}`), [
    "5=",
    "6=packet 5packet 6",
  ]);
});

Deno.test("two damaged rows at the begin are set aside one after the other", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  tamper(dir.queue, "UPDATE packets SET ends = x'ff' WHERE last_id <= 6");
  await using queue = await OutboundQueue.open(dir.queue);
  assert.deepEqual(await sendable(queue), [7, 8, 9, 10]);
  assert.deepEqual((await queue.deadLetters(0, Infinity)).map(({ id }) => id).at(-1), 6);
  using inspector = await QueueInspector.open(dir.queue);
  assert.deepEqual(await inspector.check(), []);
});

Deno.test("a repair takes along the damaged dead letters that there were, and has lost nothing", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  tamper(dir.queue, `UPDATE packets SET ends = x'100000000800000018000000' ${MIDDLE}`);
  {
    await using queue = await OutboundQueue.open(dir.queue);
    assert.equal((await sendable(queue)).length, 7);
  }
  const { packets, deadPackets, lostPackets, lostDeadPackets, notes } = repairQueue(
    dir.queue,
    dir.file("new"),
  );
  assert.deepEqual([packets, deadPackets], [7, 3]);
  assert.deepEqual([lostPackets, lostDeadPackets, notes], [0, 0, []]);
});

Deno.test("a repair makes dead letters of packets whose ends cannot be right, and loses no byte", async () => {
  using dir = new TempDir();
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueueMany(["one\n", "two\n", "three\n", "four\n"]);
    await queue.enqueue("five\n");
  }
  // The first end is that of the third packet: what lies before it is three packets, not one.
  tamper(
    dir.queue,
    "UPDATE packets SET ends = x'0e000000080000000e00000013000000' WHERE last_id = 4",
  );
  const { packets, lostPackets, lostIds, notes } = repairQueue(dir.queue, dir.file("new"));
  assert.deepEqual([packets, lostPackets, lostIds], [1, 0, []]);
  assert.match(notes[0] ?? "", /are dead letters now \(sendq list --dead\): 4$/);
  await using queue = await OutboundQueue.open(dir.file("new"));
  assert.deepEqual(await sendable(queue), [5]);
  const letters = await queue.deadLetters(0, Infinity);
  assert.deepEqual(letters.map(({ id, payload }) => [id, new TextDecoder().decode(payload)]), [
    [1, ""],
    [2, "one\ntwo\n"],
    [3, "three\n"],
    [4, "four\n"],
  ]);
});

Deno.test("rows whose contents were exchanged are set aside", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  tamper(
    dir.queue,
    "UPDATE packets SET last_id = 99 WHERE last_id = 3",
    "UPDATE packets SET last_id = 3 WHERE last_id = 6",
    "UPDATE packets SET last_id = 6 WHERE last_id = 99",
  );
  await using queue = await OutboundQueue.open(dir.queue);
  assert.deepEqual(await sendable(queue), [7, 8, 9, 10]);
  assert.equal(queue.stats().damagedPackets, 6);
});

Deno.test("a damaged row is set aside where it stands in the way of something else", async (t) => {
  const ways: [string, (queue: OutboundQueue) => Promise<unknown>, number[]][] = [
    ["giveUp", (queue) => sendingSideOf(queue).giveUp(5, 1), [1, 2, 3, 7, 8, 9, 10]],
    ["removePackets", (queue) => queue.removePackets({ firstId: 3, lastId: 5 }), [
      1,
      2,
      7,
      8,
      9,
      10,
    ]],
    ["removeThrough", (queue) => sendingSideOf(queue).removeThrough(5), [7, 8, 9, 10]],
  ];
  for (const [name, way, left] of ways) {
    await t.step(name, async () => {
      using dir = new TempDir();
      await makeRows(dir.queue);
      tamper(dir.queue, `UPDATE packets SET ends = x'100000000800000018000000' ${MIDDLE}`);
      await using queue = await OutboundQueue.open(dir.queue);
      let heard = 0;
      queue.subscribeDead(({ reason }) => heard += reason === "damaged" ? 1 : 0);
      await way(queue);
      assert.equal(heard, 1);
      assert.deepEqual(await sendable(queue), left);
      using inspector = await QueueInspector.open(dir.queue);
      assert.deepEqual(await inspector.check(), []);
    });
  }
});

Deno.test("overflow drop-oldest goes on though the oldest row is damaged", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  tamper(dir.queue, "UPDATE packets SET ends = 'x' WHERE last_id = 3");
  const options = { maxPackets: 6, overflow: "drop-oldest" } as const;
  await using queue = await OutboundQueue.open(dir.queue, options);
  assert.equal(await queue.enqueue(bytes("packet 11")), 11);
  assert.deepEqual(await sendable(queue), [6, 7, 8, 9, 10, 11]);
  assert.deepEqual((await queue.deadLetters(0, 1000)).map(({ id }) => id), [1, 2, 3]);
});

Deno.test("packets that this process has just stored go on from memory, unchecked", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.read(0, 1);
  await queue.enqueue(bytes("x"));
  tamper(dir.queue, "UPDATE packets SET payload = x'00'");
  await sendingSideOf(queue).pollOtherProcesses();
  assert.deepEqual(await sendable(queue), [1]);
  // To be sent again it comes from the file.
  assert.deepEqual(await sendable(queue), []);
  assert.equal(queue.stats().damagedPackets, 1);
});

Deno.test("rows whose ids no queue gives are noticed, and nothing is stored over them", async (t) => {
  const cases: [string, string, RegExp][] = [
    [
      "the last row moved below all",
      "UPDATE packets SET last_id = -5 WHERE last_id = 3",
      /-5 is still/,
    ],
    ["one more with id 0", "UPDATE packets SET last_id = 0 WHERE last_id = 1", /0 is still there/],
    [
      "one beyond 2^53",
      `UPDATE packets SET last_id = ${2n ** 60n} WHERE last_id = 3`,
      /larger than/,
    ],
  ];
  for (const [name, sql, words] of cases) {
    await t.step(name, async () => {
      using dir = new TempDir();
      {
        await using queue = await OutboundQueue.open(dir.queue);
        for (const text of ["one", "two", "three"]) await queue.enqueue(bytes(text));
      }
      tamper(dir.queue, sql);
      await assert.rejects(OutboundQueue.open(dir.queue), words);
    });
  }
});

Deno.test("a removal that finds more or less than was given out removes nothing", async (t) => {
  const cases: [string, string][] = [
    ["fewer packets", "DELETE FROM packets WHERE last_id = 6"],
    ["other sizes", `UPDATE packets SET payload = x'00', ends = NULL ${MIDDLE}`],
    [
      "more packets",
      "INSERT INTO packets (last_id, enqueued_at_ms, payload) VALUES (11, 1, x'00')",
    ],
  ];
  for (const [name, sql] of cases) {
    await t.step(name, async () => {
      using dir = new TempDir();
      await makeRows(dir.queue);
      tamper(dir.queue, "DELETE FROM packets WHERE last_id = 10", "UPDATE state SET last_id = 11");
      tamper(dir.queue, "UPDATE state SET queued_packets = 9, queued_bytes = 72");
      await using queue = await OutboundQueue.open(dir.queue);
      assert.deepEqual(await sendable(queue), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
      tamper(dir.queue, sql);
      const removal = sendingSideOf(queue).removeThrough(name === "more packets" ? 11 : 9);
      if (name === "more packets") {
        // Beyond what was given out nothing is compared, but the counts are.
        await assert.rejects(removal, isCorrupt(/it counts 9 packets/));
      } else {
        await assert.rejects(removal, isCorrupt(/9 packets of 72 bytes up to id 9 were given/));
      }
      await assert.rejects(removal, isCorrupt(/sendq check.*sendq repair/));
      assert.equal(queue.stats().packets, 9);
      using inspector = await QueueInspector.open(dir.queue);
      assert.equal((await inspector.counts()).removedThroughId, 0);
    });
  }
});

Deno.test("a removal that another process was quicker with is none to compare", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  await using queue = await OutboundQueue.open(dir.queue);
  await sendable(queue);
  await using other = await OutboundQueue.open(dir.queue, {
    maxPackets: 5,
    overflow: "drop-oldest",
  });
  await other.enqueue(bytes("packet 11"));
  await sendingSideOf(queue).removeThrough(8);
  await sendingSideOf(queue).pollOtherProcesses();
  assert.deepEqual(await sendable(queue), [9, 10, 11]);
});

Deno.test("counts that cannot be true are refused, and the file is left as it is", async (t) => {
  const cases: [string, RegExp][] = [
    ["removed_through = 4", /counts 10 packets/],
    ["removed_through = 9007199254740991", /were removed/],
    ["removed_through = 'abc'", /removed_through is abc/],
    ["removed_through = -5", /removed_through would be -5/],
    ["removed_through = 10", /counts 10 packets/],
    ["last_id = 9007199254740991, removed_through = 9007199254740991", /counts 10 packets/],
    ["queued_packets = 0", /counts 0 packets/],
    ["queued_packets = -1", /queued_packets would be -1/],
    ["queued_packets = 100000000", /counts 100000000 packets/],
    ["queued_bytes = -1", /queued_bytes would be -1/],
    ["queued_packets = 0, queued_bytes = 0, removed_through = 10", /has some/],
    ["sent_through = 99", /up to 99 sent/],
    ["dead_packets = -1", /dead_packets would be -1/],
  ];
  using dir = new TempDir();
  await makeRows(dir.file("sound"));
  // So that the row of `state` holds, and not the last packet's.
  tamper(
    dir.file("sound"),
    "UPDATE state SET (last_id, queued_packets, queued_bytes) = (10, 10, 81)",
  );
  for (const [sql, words] of cases) {
    await t.step(sql, async () => {
      removeQueue(dir.queue);
      copyQueue(dir.file("sound"), dir.queue);
      tamper(dir.queue, `UPDATE state SET ${sql}`);
      const before = await sha256(dir.queue);
      await assert.rejects(OutboundQueue.open(dir.queue), isCorrupt(words));
      await assert.rejects(OutboundQueue.open(dir.queue), isCorrupt(/sendq check.*sendq repair/));
      assert.equal(await sha256(dir.queue), before);
      using inspector = await QueueInspector.open(dir.queue);
      assert.notDeepEqual(await inspector.check(), []);
    });
  }
  await t.step("no row of counts", async () => {
    tamper(dir.file("sound"), "DELETE FROM state");
    await assert.rejects(OutboundQueue.open(dir.file("sound")), isCorrupt(/counts is missing/));
  });
});

Deno.test("a file with more in it than sendq has made is refused untouched, and repaired", async (t) => {
  const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c";
  const cases: [string, string[]][] = [
    ["trigger", ["CREATE TRIGGER t AFTER INSERT ON packets BEGIN DELETE FROM packets; END"]],
    ["trigger", [`CREATE TRIGGER t AFTER UPDATE ON state BEGIN ${endless}; END`]],
    ["table", ["CREATE TABLE evil (a)"]],
    ["index", ["CREATE INDEX mine ON packets (enqueued_at_ms)"]],
    ["view", [`CREATE VIEW v AS ${endless}`]],
    ["view packets is not", ["DROP TABLE packets", `CREATE VIEW packets AS ${endless}`]],
    [
      "table packets is not",
      ["ALTER TABLE packets ADD COLUMN more AS (zeroblob(500000000))"],
    ],
    ["index packets_by_queue is not", [
      "DROP INDEX packets_by_queue",
      "CREATE INDEX packets_by_queue ON packets (last_id)",
    ]],
    ["expiry_by_time is missing", ["DROP INDEX expiry_by_time"]],
  ];
  using dir = new TempDir();
  for (const version of [2, 3]) {
    await makeRows(dir.file(`sound${version}`));
    if (version === 2) asVersion2(dir.file("sound2"));
    for (const [words, sql] of cases) {
      if (version === 2 && sql.join().includes("packets_by_queue")) continue;
      await t.step(`version ${version}: ${sql.join("; ").slice(0, 70)}`, async () => {
        removeQueue(dir.queue);
        copyQueue(dir.file(`sound${version}`), dir.queue);
        tamper(dir.queue, ...sql);
        const before = await sha256(dir.queue);
        await assert.rejects(OutboundQueue.open(dir.queue), isCorrupt(new RegExp(words)));
        assert.equal(await sha256(dir.queue), before);
        if (words.endsWith("missing")) return;
        await assert.rejects(QueueInspector.open(dir.queue), isCorrupt(new RegExp(words)));
        if (sql.join().includes("DROP TABLE")) return;
        removeQueue(dir.file("new"));
        assert.equal(repairQueue(dir.queue, dir.file("new")).packets, 10);
      });
    }
  }
});

Deno.test("a damaged row is dead letters after a repair, so that it is not sent after all", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  tamper(dir.queue, `UPDATE packets SET payload = zeroblob(24) ${MIDDLE}`);
  const { packets, deadPackets, lostPackets } = repairQueue(dir.queue, dir.file("new"));
  assert.deepEqual({ packets, deadPackets, lostPackets }, {
    packets: 7,
    deadPackets: 3,
    lostPackets: 0,
  });
  await using queue = await OutboundQueue.open(dir.file("new"));
  assert.deepEqual(await sendable(queue), [1, 2, 3, 7, 8, 9, 10]);
});

Deno.test("a file of version 2 that contradicts itself stays one of version 2", async () => {
  using dir = new TempDir();
  await makeRows(dir.queue);
  asVersion2(dir.queue);
  tamper(dir.queue, "DELETE FROM packets WHERE last_id <= 6", "UPDATE state SET packets = 11");
  const before = await sha256(dir.queue);
  await assert.rejects(OutboundQueue.open(dir.queue), isCorrupt(/counts 11 packets/));
  assert.equal(await sha256(dir.queue), before);
});

/**
 * Ten dead letters: 4 to 6 from a damaged row, and of the others 8 has changed since
 * it was given up.
 */
async function makeLetters(path: string): Promise<void> {
  await makeRows(path);
  tamper(path, `UPDATE packets SET payload = zeroblob(24) ${MIDDLE}`);
  {
    await using queue = await OutboundQueue.open(path);
    for (const id of await sendable(queue)) await sendingSideOf(queue).giveUp(id, 2);
  }
  tamper(path, "UPDATE dead_letters SET payload = CAST('packet 9' AS BLOB) WHERE id = 8");
}

for (const version of [2, 3]) {
  Deno.test(`counts that the file has no room for are refused, in version ${version}`, async () => {
    using dir = new TempDir();
    await makeRows(dir.queue);
    if (version === 2) asVersion2(dir.queue);
    const sql = version === 2 ? ["UPDATE state SET bytes = 1000000000000000"] : [
      "UPDATE packets SET stored_bytes = NULL",
      "UPDATE state SET queued_packets = 10, queued_bytes = 1000000000000000, last_id = 10",
    ];
    tamper(dir.queue, ...sql);
    const before = await sha256(dir.queue);
    const words = /counts 1000000000000000 bytes of packets, and has \d+ bytes in all/;
    await assert.rejects(OutboundQueue.open(dir.queue), isCorrupt(words));
    assert.equal(await sha256(dir.queue), before);
  });
}

Deno.test("damaged dead letters are never put back: nobody has stored what they hold", async () => {
  using dir = new TempDir();
  await makeLetters(dir.queue);
  const all = { firstId: 1, lastId: 10 };
  {
    await using queue = await OutboundQueue.open(dir.queue);
    const letters = await queue.deadLetters(0, Infinity);
    const damaged = letters.filter(({ reason }) => reason === "damaged").map(({ id }) => id);
    assert.deepEqual(damaged, [4, 5, 6, 8]);
    const back = await queue.requeue(all);
    assert.deepEqual([back.packets, back.damagedPackets], [6, 4]);
    const texts = (await queue.read(0, 1000)).map(({ payload }) => text(payload));
    assert.deepEqual(texts, [1, 2, 3, 7, 9, 10].map((id) => `packet ${id}`));
    assert.deepEqual((await queue.deadLetters(0, 1000)).map(({ id }) => id), [4, 5, 6, 8]);
    assert.equal((await queue.requeue(all)).packets, 0);
  }
  using inspector = await QueueInspector.open(dir.queue);
  assert.equal((await inspector.deadLetter(8))?.reason, "damaged");
  const problems = await inspector.check();
  assert.deepEqual(problems.map(({ words }) => words), [
    "dead letter 8 is damaged: its bytes do not match their checksum",
  ]);
});

Deno.test("a dead letter that has changed is a damaged one after a repair", async () => {
  using dir = new TempDir();
  await makeLetters(dir.queue);
  repairQueue(dir.queue, dir.file("new"));
  using inspector = await QueueInspector.open(dir.file("new"));
  const reasons: string[] = [];
  for await (const { reason } of inspector.deadLetters()) reasons.push(reason);
  const [gaveUp, damaged] = ["gave-up", "damaged"];
  assert.deepEqual(reasons, [
    ...[gaveUp, gaveUp, gaveUp, damaged, damaged, damaged],
    ...[gaveUp, damaged, gaveUp, gaveUp],
  ]);
  assert.deepEqual(await inspector.check(), []);
});

Deno.test("a file that was cut off, and whose log leads behind its end, is damaged", async () => {
  using dir = new TempDir();
  const copy = `${dir.path}/copy.db`;
  {
    await using queue = await OutboundQueue.open(dir.queue);
    await queue.enqueue(new Uint8Array(100_000));
    const file = new DatabaseSync(dir.queue);
    file.exec("PRAGMA wal_checkpoint(PASSIVE)");
    file.close();
    await queue.enqueue("in the log");
    copyQueue(dir.queue, copy);
  }
  Deno.truncateSync(copy, 64 * 1024);
  await using queue = await OutboundQueue.open(copy);
  await assert.rejects(
    async () => await sendingSideOf(queue).readBatches(0, 1_000_000),
    isCorrupt(/a page of the file lies behind its end/),
  );
});
