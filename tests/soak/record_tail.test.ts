import assert from "node:assert/strict";
import { ENTRY_HEADER_BYTES, EntryKind, writeEntryHeader } from "../../lab/record.ts";
import { RecordTail } from "../../soak/record_tail.ts";
import { soakPacket, Tally } from "../../soak/tally.ts";

const BYTES = 40;

function entry(kind: number, connection: number, timeMs: number, text = ""): Uint8Array {
  const body = new TextEncoder().encode(text);
  const bytes = new Uint8Array(ENTRY_HEADER_BYTES + body.length);
  writeEntryHeader(bytes, kind, connection, timeMs, body.length);
  bytes.set(body, ENTRY_HEADER_BYTES);
  return bytes;
}

Deno.test("RecordTail, reads a record as it grows, whatever is cut where", () => {
  const packet = (number: number) => soakPacket("a", number, BYTES);
  const whole = Uint8Array.from([
    ...entry(EntryKind.START, 0, 1, "lines"),
    ...entry(EntryKind.OPEN, 1, 2, "127.0.0.1:1"),
    ...entry(EntryKind.DATA, 1, 3, packet(0) + packet(1).slice(0, 7)),
    ...entry(EntryKind.OPEN, 2, 4, "127.0.0.1:2"),
    ...entry(EntryKind.DATA, 2, 5, packet(0)),
    ...entry(EntryKind.DATA, 1, 6, packet(1).slice(7)),
    ...entry(EntryKind.FIN, 1, 7),
    ...entry(EntryKind.DATA, 2, 8, packet(1) + packet(2) + "gone with the server"),
  ]);
  const cutShort = whole.subarray(0, -10);
  for (const pieceBytes of [1, 7, 50, 1000]) {
    const path = Deno.makeTempFileSync();
    const tally = new Tally(BYTES);
    tally.expect("a");
    {
      using tail = new RecordTail(path, tally);
      for (let at = 0; at < cutShort.length; at += pieceBytes) {
        Deno.writeFileSync(path, cutShort.subarray(at, at + pieceBytes), { append: true });
        tail.update();
      }
      assert.deepEqual([tally.read, tally.duplicates, tail.lastReadAtMs], [3, 1, 7]);
      // The last entry was cut short by the server's death: what is there was read.
      tail.update(true);
      assert.deepEqual([tally.read, tally.duplicates, tail.lastReadAtMs], [5, 2, 8]);
    }
    assert.deepEqual([tally.outOfOrder, tally.damaged], [0, 0], `pieces of ${pieceBytes}`);
    assert.deepEqual(tally.missing(new Map([["a", 3]])), { lost: 0, diedUnread: 0 });
    assert.throws(() => Deno.statSync(path), Deno.errors.NotFound);
  }
});
