import assert from "node:assert/strict";
import { soakPacket, Tally } from "../../soak/tally.ts";

const BYTES = 20;

/** Reads these numbers of producer "a" over a connection of its own. */
function read(tally: Tally, ...numbers: number[]): void {
  const text = numbers.map((number) => soakPacket("a", number, BYTES)).join("");
  tally.connection().take(new TextEncoder().encode(text));
}

function tallyOf(...producers: string[]): Tally {
  const tally = new Tally(BYTES);
  for (const producer of producers) tally.expect(producer);
  return tally;
}

Deno.test("Tally, what was read again over the next connection is a duplicate", () => {
  const tally = tallyOf("a");
  read(tally, 0, 1, 2, 3);
  read(tally, 2, 3, 4);
  assert.deepEqual(tally.missing(new Map([["a", 5]])), { lost: 0, diedUnread: 0 });
  const { read: packets, duplicates, outOfOrder, damaged } = tally;
  assert.deepEqual([packets, duplicates, outOfOrder, damaged], [7, 2, 0, 0]);
});

Deno.test("Tally, what the next connection passes over is lost, until it is read after all", () => {
  const tally = tallyOf("a");
  read(tally, 0, 1);
  read(tally, 5, 6);
  const stored = new Map([["a", 7]]);
  assert.deepEqual(tally.missing(stored), { lost: 3, diedUnread: 0 });
  read(tally, 3);
  assert.deepEqual(tally.missing(stored), { lost: 2, diedUnread: 0 });
  assert.equal(tally.duplicates, 0);
  read(tally, 2, 3, 4);
  assert.deepEqual(tally.missing(stored), { lost: 0, diedUnread: 0 });
  assert.equal(tally.duplicates, 1);
  assert.equal(tally.outOfOrder, 0);
});

Deno.test("Tally, the last packets and a producer of which nothing was read are missing", () => {
  const tally = tallyOf("a", "b");
  read(tally, 0, 1);
  const stored = new Map([["a", 4], ["b", 3]]);
  assert.deepEqual(tally.missing(stored), { lost: 5, diedUnread: 0 });
  assert.deepEqual(tally.skipped(stored), { lost: 0, diedUnread: 0 });
});

Deno.test("Tally, a packet that was stored without its producer being told may be missing", () => {
  const tally = tallyOf("a");
  read(tally, 0, 1);
  read(tally, 4);
  assert.deepEqual(tally.missing(new Map([["a", 3]])), { lost: 1, diedUnread: 0 });
  assert.deepEqual(tally.missing(new Map([["a", 2]])), { lost: 0, diedUnread: 0 });
});

Deno.test("Tally, a server that died behind the hold excuses what is missing there only", () => {
  const tally = tallyOf("a");
  read(tally, 0, 1);
  tally.serverDiedBehind();
  read(tally, 4, 5);
  read(tally, 7);
  const stored = new Map([["a", 10]]);
  assert.deepEqual(tally.missing(stored), { lost: 3, diedUnread: 2 });
  tally.serverDiedBehind();
  assert.deepEqual(tally.missing(stored), { lost: 1, diedUnread: 4 });
  assert.deepEqual(tally.skipped(stored), { lost: 1, diedUnread: 2 });
});

Deno.test("Tally, within a connection each packet is the next one of its producer", () => {
  for (const numbers of [[0, 2], [0, 0], [1, 0]]) {
    const tally = tallyOf("a");
    read(tally, ...numbers);
    assert.equal(tally.outOfOrder, 1, String(numbers));
  }
  const tally = tallyOf("a", "b");
  const packets = [["a", 0], ["b", 7], ["a", 1], ["b", 8]] as const;
  tally.connection().take(
    new TextEncoder().encode(packets.map(([p, number]) => soakPacket(p, number, BYTES)).join("")),
  );
  assert.equal(tally.outOfOrder, 0);
});

Deno.test("Tally, packets are put together from pieces; a connection's torn end is dropped", () => {
  const tally = tallyOf("a");
  const bytes = new TextEncoder().encode(soakPacket("a", 0, BYTES) + soakPacket("a", 1, BYTES));
  const connection = tally.connection();
  for (const byte of bytes.subarray(0, -1)) connection.take(Uint8Array.of(byte));
  assert.equal(tally.read, 1);
  read(tally, 1);
  assert.deepEqual([tally.read, tally.duplicates, tally.damaged], [2, 0, 0]);
});

Deno.test("Tally, what nobody has sent is damage", () => {
  const good = soakPacket("a", 0, BYTES);
  for (
    const text of [
      good.replace("x", "y"),
      good.slice(3),
      good.slice(0, 10) + "\n",
      soakPacket("stranger", 0, BYTES),
      "\n",
      good.replace("0", "00"),
      good.replace("x", "\u00e9"),
      // A byte order mark, which decoders like to drop.
      "\ufeff" + good,
    ]
  ) {
    const tally = tallyOf("a");
    tally.connection().take(new TextEncoder().encode(text));
    assert.deepEqual([tally.read, tally.damaged], [0, 1], JSON.stringify(text));
  }
});
