import assert from "node:assert/strict";
import fc from "../support/properties.ts";
import { compare } from "../../lab/compare.ts";
import {
  type ConnectionEnd,
  ENTRY_HEADER_BYTES,
  EntryKind,
  type Framing,
  readRecord,
  type Record,
  RecordReader,
  writeEntryHeader,
} from "../../lab/record.ts";
import { bytes } from "../support/bytes.ts";

const SENT = ["a\n", "b\n", "c\n", "d\n", "e\n"];

function record(...connections: string[]): Record {
  return connections.map((letters, i) => ({
    number: i + 1,
    peer: "192.0.2.2:1",
    packets: [...letters].map((letter) => ({ bytes: bytes(`${letter}\n`), readAtMs: 0 })),
    partialBytes: 0,
    end: "open" as ConnectionEnd,
  }));
}

const CASES: { name: string; read: string[]; expected: Partial<ReturnType<typeof compare>> }[] = [
  { name: "all", read: ["abcde"], expected: { delivered: 5, lost: [], duplicated: 0 } },
  { name: "nothing", read: [], expected: { sent: 5, delivered: 0, lost: [0, 1, 2, 3, 4] } },
  { name: "one lost", read: ["abde"], expected: { lost: [2], gapsWithinConnection: 1 } },
  {
    name: "replayed on a new connection",
    read: ["abc", "bcde"],
    expected: {
      lost: [],
      duplicated: 2,
      duplicatedWithinConnection: 0,
      outOfOrderWithinConnection: 0,
      gapsWithinConnection: 0,
    },
  },
  {
    name: "lost between connections",
    read: ["ab", "de"],
    expected: { lost: [2], gapsWithinConnection: 0 },
  },
  {
    name: "twice on one connection",
    read: ["abbcde"],
    expected: { duplicated: 1, duplicatedWithinConnection: 1, outOfOrderWithinConnection: 0 },
  },
  {
    name: "swapped",
    read: ["acbde"],
    expected: { lost: [], outOfOrderWithinConnection: 1, gapsWithinConnection: 2 },
  },
  { name: "never sent", read: ["abxcde"], expected: { lost: [], unknown: 1, delivered: 5 } },
];

for (const { name, read, expected } of CASES) {
  Deno.test(`compare: ${name}`, () => {
    const found = compare(SENT, record(...read));
    assert.deepEqual({ ...found, ...expected }, found);
  });
}

Deno.test("compare: says what each connection carried", () => {
  assert.deepEqual(compare(SENT, record("bcd", "")).connections, [
    { number: 1, packets: 3, first: 1, last: 3, partialBytes: 0, end: "open" },
    { number: 2, packets: 0, first: undefined, last: undefined, partialBytes: 0, end: "open" },
  ]);
});

Deno.test("compare: refuses packets that cannot be told apart", () => {
  assert.throws(() => compare(["a\n", "b\n", "a\n"], []), RangeError);
});

Deno.test("compare: tells all byte values apart", () => {
  const sent = Array.from({ length: 256 }, (_, i) => Uint8Array.of(i));
  const packets = sent.map((bytes) => ({ bytes, readAtMs: 0 }));
  const found = compare(sent, [{ number: 1, peer: "", packets, partialBytes: 0, end: "fin" }]);
  assert.equal(found.delivered, 256);
  assert.equal(found.outOfOrderWithinConnection, 0);
});

function entry(kind: number, connection: number, body: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(ENTRY_HEADER_BYTES + body.length);
  writeEntryHeader(bytes, kind, connection, 1, body.length);
  bytes.set(body, ENTRY_HEADER_BYTES);
  return bytes;
}

function onWire(framing: Framing, body: Uint8Array): Uint8Array {
  if (framing === "lines") return Uint8Array.of(...body.map((byte) => byte === 10 ? 11 : byte), 10);
  const bytes = new Uint8Array(4 + body.length);
  new DataView(bytes.buffer).setUint32(0, body.length);
  bytes.set(body, 4);
  return bytes;
}

for (const framing of ["lines", "length32"] as const) {
  Deno.test(`record: ${framing} are found however reads and updates cut them`, async () => {
    const path = await Deno.makeTempFile();
    try {
      fc.assert(fc.property(
        fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 10 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 30 })),
        fc.infiniteStream(fc.integer({ min: 1, max: 60 })),
        fc.nat(3),
        (bodies, reads, writes, missing) => {
          const packets = bodies.map((body) => onWire(framing, body));
          const stream = Uint8Array.from(packets.flatMap((packet) => [...packet]));
          const kept = stream.subarray(0, Math.max(0, stream.length - missing));
          const entries = [
            entry(EntryKind.START, 0, bytes(framing)),
            entry(EntryKind.OPEN, 1, bytes("192.0.2.2:1")),
          ];
          for (let at = 0; at < kept.length;) {
            const n = reads.next().value ?? 1;
            entries.push(entry(EntryKind.DATA, 1, kept.subarray(at, at + n)));
            at += n;
          }
          const file = Uint8Array.from(entries.flatMap((bytes) => [...bytes]));

          // The file grows in steps that know nothing of entries.
          Deno.writeFileSync(path, new Uint8Array());
          const reader = new RecordReader(path);
          for (let at = 0; at < file.length;) {
            const n = writes.next().value ?? 1;
            Deno.writeFileSync(path, file.subarray(at, at + n), { append: true });
            at += n;
            reader.update();
          }
          let wholeBytes = 0;
          const whole = packets.filter((packet) => (wholeBytes += packet.length) <= kept.length);
          for (const connections of [reader.connections, readRecord(path)]) {
            const found = connections[0];
            assert.deepEqual(
              found?.packets.map(({ bytes }) => [...bytes]),
              whole.map((p) => [...p]),
            );
          }
          assert.equal(reader.packetCount, whole.length);
          assert.equal(reader.byteCount, kept.length);
        },
      ));
    } finally {
      await Deno.remove(path);
    }
  });
}

Deno.test("record: an entry cut short by a kill counts as far as it was written", async () => {
  const path = await Deno.makeTempFile();
  try {
    const data = entry(EntryKind.DATA, 1, bytes("a\nb\nc\n"));
    const parts = [
      entry(EntryKind.START, 0, bytes("lines")),
      entry(EntryKind.OPEN, 1, bytes("192.0.2.2:1")),
      data.subarray(0, data.length - 1),
    ];
    await Deno.writeFile(path, Uint8Array.from(parts.flatMap((bytes) => [...bytes])));
    const [connection] = readRecord(path);
    assert.equal(connection?.packets.length, 2);
    assert.equal(connection.partialBytes, 1);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("record: files of several lives are numbered through", async () => {
  const paths = [await Deno.makeTempFile(), await Deno.makeTempFile()];
  try {
    for (const path of paths) {
      const parts = [
        entry(EntryKind.START, 0, bytes("lines")),
        entry(EntryKind.OPEN, 1, bytes("192.0.2.2:1")),
        entry(EntryKind.DATA, 1, bytes("a\n")),
        entry(EntryKind.FIN, 1, new Uint8Array()),
      ];
      await Deno.writeFile(path, Uint8Array.from(parts.flatMap((bytes) => [...bytes])));
    }
    const found = readRecord(...paths);
    assert.deepEqual(found.map(({ number, end }) => [number, end]), [[1, "fin"], [2, "fin"]]);
    assert.equal(compare(["a\n"], found).duplicated, 1);
  } finally {
    for (const path of paths) await Deno.remove(path);
  }
});
